"""The registry: every cell that the battery runs, with how to make it, its inputs, and the path it must take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from battery import cells_gated as gated
from battery import cells_memory as memory
from battery import cells_simple as simple
from battery.cells_memory import M, S
from battery.cells_simple import H, I
from elman.nn import GRUDCell

SEED = 20261121


class Inputs(NamedTuple):
    """What one call is given: x `(T, B, ...)`, carry-in, target of a reset `(B, ...)`, context `(B, ...)` or None."""

    x: Any
    state: Any
    initial: Any
    context: Any


@dataclass(frozen=True)
class Case:
    """One cell of the registry.

    make_cell: the step, a module or a function; with `owner` where the step is no module.
    make_x, make_state, make_context: from T and B, from B, from B.
    expect_path: of `backend=None`, where the core is there.
    without: names of checks that are not defined for this cell, each for the reason written beside it.
    autocast_path: what is expected under autocast.
    """

    name: str
    make_cell: Callable[[], Any]
    make_x: Callable[[int, int], Any]
    make_state: Callable[[int], Any]
    make_context: Callable[[int], Any] | None = None
    expect_path: str = "native"
    without: frozenset[str] = field(default_factory=frozenset)

    def cell(self, dtype: torch.dtype = torch.float64) -> Any:
        """A fresh step; equal at every call."""
        return _with_dtype(dtype, self.make_cell)

    def inputs(self, T: int, B: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> Inputs:
        """Fresh inputs; equal at every call with the same arguments; floating leaves want gradients."""

        def make() -> Inputs:
            context = None if self.make_context is None else self.make_context(B)
            return Inputs(self.make_x(T, B), self.make_state(B), self.make_state(B), context)

        return pytree.tree_map(_wants_gradient, _with_dtype(dtype, make, seed))


def _with_dtype(dtype: torch.dtype, make: Callable[[], Any], seed: int = 0) -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(SEED + seed)
            return make()
    finally:
        torch.set_default_dtype(before)


def _wants_gradient(leaf: Any) -> Any:
    if isinstance(leaf, Tensor) and leaf.is_floating_point():
        return leaf.detach().clone().requires_grad_()
    return leaf


def _x(T: int, B: int) -> Tensor:
    return torch.randn(T, B, I)


def _h(B: int) -> Tensor:
    return torch.randn(B, H)


def _pair(B: int) -> tuple[Tensor, Tensor]:
    return torch.randn(B, H), torch.randn(B, H)


def _widths(*shape: int) -> Callable[[int], Tensor]:
    return lambda B: torch.randn(B, *shape)


def _zoneout_x(T: int, B: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(T, B, I), torch.rand(T, B, H) < 0.3, torch.rand(T, B, H) < 0.3


def _grud_x(T: int, B: int) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.randn(T, B, I),
        (torch.rand(T, B, I) < 0.6).to(torch.get_default_dtype()),
        torch.rand(T, B, I),
    )


def _grud() -> nn.Module:
    """A cell of the library, its decays' biases and mean not zero."""
    cell = GRUDCell(I, H, mean=torch.randn(I))
    nn.init.uniform_(cell.bias_decay_x, 0.0, 0.5)
    nn.init.uniform_(cell.bias_decay_h, 0.0, 0.5)
    return cell


def _tokens(T: int, B: int) -> Tensor:
    return torch.randint(9, (T, B))


def _memory(B: int) -> Tensor:
    return torch.randn(B, S, M)


def _masked_memory(B: int) -> tuple[Tensor, Tensor]:
    return _memory(B), torch.arange(S) < torch.randint(1, S + 1, (B, 1))


def _counts(*width: int) -> Callable[[int], Tensor]:
    return lambda B: torch.randint(0, 5, (B, *width))


def _half_spikes(B: int) -> tuple[Tensor, Tensor]:
    return torch.randn(B, H), (torch.rand(B, H) < 0.5).to(torch.get_default_dtype())


_NO_AUTOCAST = frozenset({"autocast"})  # torch.lerp refuses a bfloat16 beside a float32
_NO_PICKLE = frozenset({"pickles"})  # torch refuses to pickle a parametrized module; a lambda cannot be
_NO_DERIVATIVE_BY_DIFFERENCES = frozenset({"gradcheck"})  # the step's own backward is not its derivative

CASES: list[Case] = [
    Case("elman_tanh", simple.Elman, _x, _h),
    Case("elman_relu", lambda: simple.Elman(torch.relu), _x, _h),
    Case("elman_softsign", lambda: simple.Elman(F.softsign), _x, _h),
    Case("elman_softplus", lambda: simple.Elman(F.softplus), _x, _h),
    Case("elman_elu", lambda: simple.Elman(F.elu), _x, _h),
    Case("elman_linear", lambda: simple.Elman(lambda a: 0.5 * a), _x, _h, without=_NO_PICKLE),
    Case("elman_raw", simple.ElmanRaw, _x, _h),
    Case("elman_columns", simple.ElmanColumns, _x, _h),
    Case("elman_cat", simple.ElmanCat, _x, _h),
    Case("elman_output", simple.ElmanOutput, _x, _h),
    Case("residual", simple.Residual, _x, _h),
    Case("deep_transition", simple.Deep, _x, _h),
    Case("indrnn", simple.IndRNN, _x, _h),
    Case("reservoir", simple.Reservoir, _x, _h),
    Case("antisymmetric", simple.AntiSymmetric, _x, _h),
    Case("cornn", simple.CoRNN, _x, _pair),
    Case("lem", simple.LEM, _x, _pair),
    Case("clockwork", simple.Clockwork, _x, lambda B: (_h(B), _counts()(B))),
    Case("highway", simple.Highway, _x, _h),
    Case("runge_kutta", simple.RungeKutta, _x, _h),
    Case("second_order", simple.SecondOrder, _x, _h),
    Case("delay_line", simple.Delay, _x, _widths(3, I)),
    Case("block_diagonal", simple.BlockDiagonal, _x, _widths(6)),
    Case("tied", simple.Tied, _x, _h),
    Case("weight_norm", simple.Parametrized, _x, _h, without=_NO_PICKLE),
    Case("spectral_norm_eval", simple.spectral, _x, _h, without=_NO_PICKLE),
    Case("orthogonal", simple.orthogonal, _x, _h, without=_NO_PICKLE),
    Case("embedding", simple.EmbeddingCell, _tokens, _h),
    Case("conv", simple.ConvCell, _x, _widths(2, H), expect_path="reference"),
    Case("batch_norm_eval", simple.BatchNormElman, _x, _h),
    Case("normalised", simple.Lipschitz, _x, lambda B: (_h(B), torch.randn(B))),
    Case("torch_rnn_cell", lambda: nn.RNNCell(I, H), _x, _h),
    Case("torch_lstm_cell", lambda: nn.LSTMCell(I, H), _x, _pair),
    Case("torch_gru_cell", lambda: nn.GRUCell(I, H), _x, _h),
    Case("lstm_gates", gated.GatesLSTM, _x, _pair),
    Case("lstm_cat_gates", gated.CatGatesLSTM, _x, _pair),
    Case("lstm_cat", gated.CatLSTM, _x, _pair),
    Case("lstm_chunk", gated.ChunkLSTM, _x, _pair),
    Case("lstm_slice", gated.SliceLSTM, _x, _pair),
    Case("lstm_layer_norm", gated.LayerNormLSTM, _x, _pair),
    Case("lstm_peephole", gated.PeepholeLSTM, _x, _pair),
    Case("lstm_projection", gated.ProjectionLSTM, _x, lambda B: (torch.randn(B, 3), _h(B))),
    Case("lstm_zoneout", gated.ZoneoutLSTM, _zoneout_x, _pair),
    Case("lstm_zoneout_eval", lambda: gated.ZoneoutLSTM().eval(), _zoneout_x, _pair),
    Case("lstm_multiplicative", gated.MultiplicativeLSTM, _x, _pair),
    Case("slstm", gated.SLSTM, _x, lambda B: gated.SLSTMState(_h(B), _h(B), torch.rand(B, H) + 1, _h(B))),
    Case("gru", gated.GRU, _x, _h),
    Case("gru_original", gated.OriginalGRU, _x, _h),
    Case("mgu", gated.MGU, _x, _h),
    Case("ligru", gated.LiGRU, _x, _h),
    Case("gru_d", _grud, _grud_x, lambda B: (_h(B), torch.randn(B, I))),
    Case("sru", gated.SRU, _x, _h),
    Case("min_gru", gated.MinGRU, _x, _h, without=_NO_AUTOCAST),
    Case("hyper_lstm", gated.HyperLSTM, _x, lambda B: (_pair(B), (torch.randn(B, 3), torch.randn(B, 3)))),
    Case(
        "two_layers_dict",
        gated.TwoLayers,
        _x,
        lambda B: {"c": torch.randn(B, 3), "h": torch.randn(B, 3), "low": _h(B)},
    ),
    Case("phased_lstm", gated.PhasedLSTM, _x, lambda B: (_h(B), _h(B), _counts()(B))),
    Case("attention_additive", memory.AttentionGRU, _x, _h, _masked_memory),
    Case("attention_dot", memory.DotAttention, _x, lambda B: (_h(B), _h(B), _h(B)), _memory),
    Case(
        "conditioned",
        memory.Conditioned,
        _x,
        _h,
        lambda B: {"scale": torch.rand(B, 1), "speaker": torch.randn(B, M)},
    ),
    Case("fast_weights", memory.FastWeights, _x, lambda B: (_h(B), torch.randn(B, H, H) / 4)),
    Case("delta_net", memory.DeltaNet, _x, _widths(M, M)),
    Case(
        "mlstm_matrix",
        memory.MatrixLSTM,
        _x,
        lambda B: (torch.randn(B, M, M), torch.randn(B, M), torch.randn(B)),
    ),
    Case("selective_scan", memory.SelectiveScan, _x, _widths(I, M)),
    Case("complex_diagonal", memory.ComplexDiagonal, _x, _widths(H, 2)),
    Case("neural_stack", memory.NeuralStack, _x, lambda B: (_h(B), torch.randn(B, S, M))),
    Case("turing_memory", memory.TuringMemory, _x, lambda B: (torch.randn(B, S, M), torch.randn(B, M))),
    Case("lif", memory.LIF, _x, _half_spikes, without=_NO_DERIVATIVE_BY_DIFFERENCES),
    Case("counter", memory.Counter, _x, lambda B: (_h(B), _counts()(B), torch.rand(B) < 0.2)),
    Case(
        "nested",
        memory.Nested,
        _x,
        lambda B: ((torch.randn(B, 2), (torch.randn(B, M),)), {"total": torch.randn(B)}),
    ),
]

BY_NAME: dict[str, Case] = {case.name: case for case in CASES}

# One of each kind, for the checks that are not run on all cells every time.
FEW = [
    BY_NAME[name]
    for name in (
        "elman_cat",
        "lstm_gates",
        "lstm_layer_norm",
        "gru_original",
        "gru_d",
        "attention_additive",
        "slstm",
        "counter",
        "lif",
        "fast_weights",
        "weight_norm",
        "torch_lstm_cell",
    )
]
