"""The simple recurrent network."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.nn.activations import Activation, activation
from elman.nn.cells.base import Cell, Weights, gate_sums, read_weights

__all__ = ["ElmanCell", "elman_step"]


def elman_step(
    x: Tensor, h: Tensor, w: Weights, nonlinearity: Activation = "tanh", *, drop_h: Tensor | None = None
) -> Tensor:
    """s_t = f(U x_t + W s_{t−1} + b); `drop_h` `(B, H)` multiplies the s_{t−1} that goes into the product."""
    return activation(nonlinearity)(gate_sums(x, h if drop_h is None else h * drop_h, w))


class ElmanCell(Cell):
    r"""The simple recurrent network (Elman 1990, "Finding structure in time", Cognitive Science 14).

        a_t = W s_{t−1} + U x_t + b        s_t = f(a_t)
        o_t = V s_t + c                    y_t = h(o_t)      only with `output_size`; else y_t = s_t

    U is `weight_ih` `(H, I)`, W `weight_hh` `(H, H)`, b the sum of `bias_ih` and `bias_hh` `(H)`, V `weight_ho`
    `(O, H)`, c `bias_ho` `(O)`. State: s `(B, H)`. Without an output layer the parameters and the next state are
    those of torch.nn.RNNCell; unlike it, f and h may be any callable or a name in `elman.nn.ACTIVATIONS`.

    Raises ValueError for an unknown name and for an output nonlinearity without `output_size`.
    """

    weight_ho: nn.Parameter | None
    bias_ho: nn.Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: Activation = "tanh",
        *,
        output_size: int | None = None,
        output_nonlinearity: Activation = "identity",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device=device, dtype=dtype)
        activation(nonlinearity)
        activation(output_nonlinearity)
        if output_size is None and output_nonlinearity != "identity":
            raise ValueError(
                f"output_nonlinearity={output_nonlinearity!r} needs output_size, the width of o_t"
            )
        self.nonlinearity = nonlinearity
        self.output_nonlinearity = output_nonlinearity
        self.output_size = output_size or hidden_size
        self._add("weight_ho", output_size, hidden_size)
        self._add("bias_ho", output_size if bias else None)
        self.reset_parameters()

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One step; x `(B, I)`, state `(B, H)` -> (y_t `(B, O)`, s_t `(B, H)`)."""
        h = elman_step(x, self._start(x, state), read_weights(self), self.nonlinearity)
        if self.weight_ho is None:
            return h, h
        return activation(self.output_nonlinearity)(F.linear(h, self.weight_ho, self.bias_ho)), h

    def extra_repr(self) -> str:
        """The sizes, and what differs from the default."""
        shown: list[tuple[str, Any]] = []
        if self.nonlinearity != "tanh":
            shown.append(("nonlinearity", self.nonlinearity))
        if self.weight_ho is not None:
            shown += [("output_size", self.output_size), ("output_nonlinearity", self.output_nonlinearity)]
        return ", ".join([super().extra_repr(), *(f"{name}={value!r}" for name, value in shown)])
