"""The simple recurrent layer, a drop-in for torch.nn.RNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from elman.nn.activations import Activation, activation
from elman.nn.cells.elman import elman_step
from elman.nn.dropout import ZoneoutRates
from elman.nn.stack import Merge
from elman.nn.stock import LayerNorm, StockLayer
from elman.nn.vendor import Kernel

__all__ = ["RNN"]


class RNN(StockLayer, nn.RNN):  # type: ignore[misc, override]
    r"""The simple (Elman 1990) recurrent network over whole sequences: h_t = f(W_ih x_t + b_ih + W_hh h_{t−1} + b_hh).

    Constructor, call, parameters, initialisation and errors are those of torch.nn.RNN; `load_state_dict` works both
    ways, and one seed gives the same weights. The result is a NamedTuple `(y, state)`. What torch does not have:

    nonlinearity: besides "tanh" and "relu" any name in `elman.nn.ACTIVATIONS` or a callable, applied row by row.
    hidden_size: a list of widths, one for each layer; each state is then a tuple of tensors `(D, B, H_l)`.
    layer_norm: "sum", f(LN(W_ih x + W_hh h) + b) (Ba, Kiros & Hinton 2016, eq. 4), or "separate", each product
        normalized on its own. Adds `gain_sum`, or `gain_ih` and `gain_hh`; the biases are torch's.
    weight_dropout: one mask a call on the elements of W_hh (DropConnect: Wan et al. 2013; on recurrent weights: Merity,
        Keskar & Socher 2018).
    recurrent_dropout: one mask a sequence on the h_{t−1} that goes into the product (Gal & Ghahramani 2016).
    zoneout: probability that a unit keeps its value for a step (Krueger et al. 2017); in eval mode the expectation.
    sequence_dropout: `dropout` between layers draws one mask a sequence instead of one an element.
    residual: adds the input of each layer to its output (in the first layer where the widths agree).
    merge: how two directions become one output: "concat", "sum", "mean" or "product".
    learn_initial_state: the state to start from, and to go back to at a reset, is a parameter, `initial_h`.
    fallback, backend: as for `elman.engine.Scan`: what to do where only the plain loop can run; which backend.
    checkpoint_every: k steps at a time, computed again in the backward: memory for very long sequences, see `Stack`.

    The arguments of the call are those of `StockLayer.forward`: lengths, reset, initial_state, return_states.
    """

    gates = 1
    torch_class = nn.RNN
    _dropout_places = ("state",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        nonlinearity: Activation = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        layer_norm: LayerNorm | None = None,
        weight_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: ZoneoutRates | None = None,
        sequence_dropout: bool = False,
        residual: bool = False,
        merge: Merge = "concat",
        learn_initial_state: bool = False,
        fallback: str = "warn",
        backend: str | None = None,
        checkpoint_every: int | None = None,
    ) -> None:
        activation(nonlinearity)
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            layer_norm=layer_norm,
            weight_dropout=weight_dropout,
            recurrent_dropout=recurrent_dropout,
            recurrent_dropout_on="state",
            zoneout=zoneout,
            sequence_dropout=sequence_dropout,
            residual=residual,
            merge=merge,
            learn_initial_state=learn_initial_state,
            fallback=fallback,
            backend=backend,
            checkpoint_every=checkpoint_every,
        )
        self.nonlinearity = nonlinearity
        self._build(device, dtype)

    def _advance(
        self, x: Tensor, state: tuple[Tensor, ...], suffix: str, mask: Tensor | None
    ) -> tuple[Tensor, ...]:
        return (elman_step(x, state[0], self._weights(suffix), self.nonlinearity, drop_h=mask),)

    def _kernel(self) -> Kernel | None:
        kernels: dict[object, Kernel] = {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}
        return kernels.get(self.nonlinearity)

    @property
    def mode(self) -> str:  # type: ignore[override]
        """As torch.nn names it, "RNN_TANH" or "RNN_RELU"; AttributeError for another nonlinearity."""
        if self._kernel() is None:
            raise AttributeError(f"torch.nn has no mode for nonlinearity={self.nonlinearity!r}")
        return f"RNN_{str(self.nonlinearity).upper()}"

    def _beyond_torch(self) -> list[str]:
        other = [f"nonlinearity={self.nonlinearity!r}"] if self._kernel() is None else []
        return super()._beyond_torch() + other

    def _torch_arguments(self) -> dict[str, Any]:
        return super()._torch_arguments() | {"nonlinearity": self.nonlinearity}

    def extra_repr(self) -> str:
        """The sizes, and what differs from the default."""
        shown = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity!r}"
        return super().extra_repr() + shown
