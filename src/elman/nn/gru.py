"""The GRU layer, a drop-in for torch.nn.GRU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from elman.nn.cells.gru import gru_step
from elman.nn.cells.original_gru import original_gru_step
from elman.nn.dropout import ZoneoutRates
from elman.nn.stack import Merge
from elman.nn.stock import StockLayer
from elman.nn.vendor import Kernel

__all__ = ["GRU"]


class GRU(StockLayer, nn.GRU):  # type: ignore[misc, override]
    r"""Gated recurrent unit over whole sequences.

        r, z = σ(W x_t + b + W' h_{t−1} + b')    n = tanh(W_n x_t + b_n + r⊙(W'_n h_{t−1} + b'_n))    rows r, z, n
        h_t = (1 − z)⊙n + z⊙h_{t−1}

    Constructor, call, parameters, initialisation and errors are those of torch.nn.GRU; `load_state_dict` works both
    ways, and one seed gives the same weights. The result is a NamedTuple `(y, state)`. What torch does not have:

    reset_after: False is the form of Cho et al. 2014, n = tanh(W_n x_t + b_n + W'_n (r⊙h_{t−1}) + b'_n).
    hidden_size: a list of widths, one for each layer; the state is then a tuple of tensors `(D, B, H_l)`.
    layer_norm: "separate", the products of x and h normalized on their own, those of r and z together (the GRU in the
        supplement of Ba, Kiros & Hinton 2016). Adds `gain_ih`, `gain_hh`; the biases are torch's. With reset_after.
    weight_dropout: one mask a call on the elements of W' (DropConnect: Wan et al. 2013; on recurrent weights: Merity,
        Keskar & Socher 2018).
    recurrent_dropout: one mask a sequence, by `recurrent_dropout_on`: "state", on the h_{t−1} that goes into the
        products (Gal & Ghahramani 2016), or "candidate", on n (Semeniuta, Severyn & Barth 2016).
    zoneout: probability that a unit keeps its value for a step (Krueger et al. 2017); in eval mode the expectation.
    sequence_dropout: `dropout` between layers draws one mask a sequence instead of one an element.
    residual: adds the input of each layer to its output (in the first layer where the widths agree).
    merge: how two directions become one output: "concat", "sum", "mean" or "product".
    learn_initial_state: the state to start from, and to go back to at a reset, is a parameter, `initial_h`.
    fallback, backend: as for `elman.engine.Scan`: what to do where only the plain loop can run; which backend.
    checkpoint_every: k steps at a time, computed again in the backward: memory for very long sequences, see `Stack`.

    The arguments of the call are those of `StockLayer.forward`: lengths, reset, initial_state, return_states.
    """

    gates = 3
    mode = "GRU"
    torch_class = nn.GRU
    _layer_norms = ("separate",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        reset_after: bool = True,
        layer_norm: Literal["separate"] | None = None,
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
        if layer_norm is not None and not reset_after:
            raise ValueError("layer_norm is defined for the form with reset_after=True only")
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
        self.reset_after = reset_after
        self._build(device, dtype)

    def _advance(
        self, x: Tensor, state: tuple[Tensor, ...], suffix: str, mask: Tensor | None
    ) -> tuple[Tensor, ...]:
        step = gru_step if self.reset_after else original_gru_step
        return (step(x, state[0], self._weights(suffix), **self._drops(mask)),)

    def _kernel(self) -> Kernel | None:
        return torch.gru if self.reset_after else None

    def _beyond_torch(self) -> list[str]:
        return super()._beyond_torch() + ([] if self.reset_after else ["reset_after=False"])

    def extra_repr(self) -> str:
        """The sizes, and what differs from the default."""
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")
