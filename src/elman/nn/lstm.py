"""The LSTM layer, a drop-in for torch.nn.LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from elman.nn.cells.lstm import lstm_step, set_forget_bias
from elman.nn.dropout import ZoneoutRates
from elman.nn.stack import Merge
from elman.nn.stock import LayerNorm, StockLayer
from elman.nn.vendor import Kernel

__all__ = ["LSTM"]


class LSTM(StockLayer, nn.LSTM):  # type: ignore[misc, override]
    r"""Long short-term memory over whole sequences.

        i, f, o = σ(W x_t + b + W' h_{t−1} + b')    g = tanh(the same)    rows i, f, g, o
        c_t = f⊙c_{t−1} + i⊙g                       h_t = o⊙tanh(c_t)     (proj_size: h_t = W_hr (o⊙tanh(c_t)))

    Constructor, call, parameters, initialisation and errors are those of torch.nn.LSTM; `load_state_dict` works both
    ways, and one seed gives the same weights. The result is a NamedTuple `(y, (h, c))`. What torch does not have:

    hidden_size: a list of widths, one for each layer; h and c are then tuples of tensors `(D, B, H_l)`.
    layer_norm: "separate", LN(W x; gain_ih, b) + LN(W' h; gain_hh, b') and LN(c_t) in h_t (the LSTM in the supplement
        of Ba, Kiros & Hinton 2016), or "sum", LN(W x + W' h; gain_sum, b) + b' (its eq. 4) and LN(c_t).
    peephole: the gates see the cell, with diagonals `weight_ci`, `weight_cf`, `weight_co` (Gers et al. 2002).
    coupled: f = 1 − i (Greff et al. 2017); the parameters have 3H rows i, g, o.
    forget_bias: what the two biases of the forget gate sum to at the start (Jozefowicz et al. 2015: 1).
    weight_dropout: one mask a call on the elements of W' (DropConnect: Wan et al. 2013; on recurrent weights: Merity,
        Keskar & Socher 2018).
    recurrent_dropout: one mask a sequence, by `recurrent_dropout_on`: "state", on the h_{t−1} that goes into the
        products (Gal & Ghahramani 2016), or "candidate", on g (Semeniuta, Severyn & Barth 2016).
    zoneout: probability that a unit keeps its value for a step, a number or {"h": ..., "c": ...} (Krueger et al. 2017);
        in eval mode the expectation.
    sequence_dropout: `dropout` between layers draws one mask a sequence instead of one an element.
    residual: adds the input of each layer to its output (in the first layer where the widths agree).
    merge: how two directions become one output: "concat", "sum", "mean" or "product".
    learn_initial_state: the state to start from, and to go back to at a reset, is learned: `initial_h`, `initial_c`.
    fallback, backend: as for `elman.engine.Scan`: what to do where only the plain loop can run; which backend.
    checkpoint_every: k steps at a time, computed again in the backward: memory for very long sequences, see `Stack`.

    The arguments of the call are those of `StockLayer.forward`: lengths, reset, initial_state, return_states.
    """

    state_names = ("h", "c")
    mode = "LSTM"
    torch_class = nn.LSTM

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        layer_norm: LayerNorm | None = None,
        peephole: bool = False,
        coupled: bool = False,
        forget_bias: float | None = None,
        weight_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        recurrent_dropout_on: Literal["state", "candidate"] = "state",
        zoneout: ZoneoutRates | None = None,
        sequence_dropout: bool = False,
        residual: bool = False,
        merge: Merge = "concat",
        learn_initial_state: bool = False,
        fallback: str = "warn",
        backend: str | None = None,
        checkpoint_every: int | None = None,
    ) -> None:
        if forget_bias is not None and (coupled or not bias):
            missing = "a forget gate of its own: coupled=False" if coupled else "bias=True"
            raise ValueError(f"forget_bias={forget_bias} needs {missing}")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size=proj_size,
            layer_norm=layer_norm,
            weight_dropout=weight_dropout,
            recurrent_dropout=recurrent_dropout,
            recurrent_dropout_on=recurrent_dropout_on,
            zoneout=zoneout,
            sequence_dropout=sequence_dropout,
            residual=residual,
            merge=merge,
            learn_initial_state=learn_initial_state,
            fallback=fallback,
            backend=backend,
            checkpoint_every=checkpoint_every,
        )
        self.peephole = peephole
        self.coupled = coupled
        self.forget_bias = forget_bias
        self.gates = 3 if coupled else 4
        self._build(device, dtype)

    def _extra_shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        width = (self.hidden_sizes[layer],)
        shapes = super()._extra_shapes(layer)
        if self.peephole:
            names = ("weight_ci", "weight_co") if self.coupled else ("weight_ci", "weight_cf", "weight_co")
            shapes |= dict.fromkeys(names, width)
        if self.layer_norm is not None:
            shapes |= dict.fromkeys(("gain_cell", "bias_cell") if self.bias else ("gain_cell",), width)
        return shapes

    def reset_parameters(self) -> None:
        """Draw all parameters anew, then set the forget gates' biases where they were asked for."""
        super().reset_parameters()
        if self.forget_bias is not None:
            for *_, suffix in self._tracks():
                set_forget_bias(
                    getattr(self, f"bias_ih{suffix}"), getattr(self, f"bias_hh{suffix}"), self.forget_bias
                )

    def _advance(
        self, x: Tensor, state: tuple[Tensor, ...], suffix: str, mask: Tensor | None
    ) -> tuple[Tensor, ...]:
        h, c = state
        weights = self._weights(suffix)
        return lstm_step(x, (h, c), weights, coupled=self.coupled, **self._drops(mask))

    def _kernel(self) -> Kernel | None:
        return None if self.peephole or self.coupled else torch.lstm

    def get_expected_cell_size(self, input: Tensor, batch_sizes: Tensor | None) -> tuple[int, int, int]:
        """`(L·D, B, H)` of the state c for an input; ValueError where the layers have widths of their own."""
        return self._expected(self.hidden_size, input, batch_sizes)

    def _beyond_torch(self) -> list[str]:
        forms = [f"{name}=True" for name in ("peephole", "coupled") if getattr(self, name)]
        return super()._beyond_torch() + forms

    def _torch_arguments(self) -> dict[str, Any]:
        return super()._torch_arguments() | {"proj_size": self.proj_size}

    def extra_repr(self) -> str:
        """The sizes, and what differs from the default."""
        shown = [f", {name}=True" for name in ("peephole", "coupled") if getattr(self, name)]
        shown += [] if self.forget_bias is None else [f", forget_bias={self.forget_bias}"]
        return super().extra_repr() + "".join(shown)
