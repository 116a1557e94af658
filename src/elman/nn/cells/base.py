"""What the cells share: torch's parameter names and initialisation, and the state they start from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Cell", "Weights", "check_size", "gate_sums", "layer_sizes", "normalize", "read_weights"]


class Weights(NamedTuple):
    """The tensors of one cell, as its step function takes them; None where the cell has no such tensor.

    weight_ih `(G·H, I)`, weight_hh `(G·H, H)`, bias_ih and bias_hh `(G·H)`: as in torch.nn, gates in torch's order.
    gain_ih, gain_hh, gain_sum `(G·H)`: the gains of layer normalization, see `gate_sums`.
    weight_hr `(P, H)`: projection; weight_ci, weight_cf, weight_co `(H)`: peepholes; gain_cell, bias_cell `(H)`: layer
    normalization of the cell state; all of an LSTM.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    gain_ih: Tensor | None = None
    gain_hh: Tensor | None = None
    gain_sum: Tensor | None = None
    weight_hr: Tensor | None = None
    weight_ci: Tensor | None = None
    weight_cf: Tensor | None = None
    weight_co: Tensor | None = None
    gain_cell: Tensor | None = None
    bias_cell: Tensor | None = None


def check_size(name: str, size: Any) -> int:
    """`size`; TypeError unless it is an int, ValueError unless it is greater than zero."""
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
    if size <= 0:
        raise ValueError(f"{name} must be greater than zero, got {size}")
    return size


def layer_sizes(hidden_size: int | Sequence[int], num_layers: int) -> tuple[int, ...]:
    """The width of each layer: the same in all, or as the list says; ValueError where the two arguments disagree."""
    check_size("num_layers", num_layers)
    if not isinstance(hidden_size, tuple | list):
        return (check_size("hidden_size", hidden_size),) * num_layers
    sizes = tuple(check_size(f"hidden_size[{i}]", size) for i, size in enumerate(hidden_size))
    if not sizes or num_layers not in (1, len(sizes)):
        raise ValueError(f"hidden_size={hidden_size} names {len(sizes)} widths, and num_layers={num_layers}")
    return sizes


def read_weights(owner: nn.Module, suffix: str = "") -> Weights:
    """The tensors that `owner` holds under the names of the fields of `Weights`, each with `suffix` after it.

    Read at every call: a replaced parameter and a parametrization are seen.
    """
    tensors: list[Any] = [getattr(owner, name + suffix, None) for name in Weights._fields]
    return Weights(*tensors)


def normalize(a: Tensor, gain: Tensor, bias: Tensor | None) -> Tensor:
    """LN(a) = (a − mean) / sqrt(variance + 1e-5) · gain + bias over the last axis (Ba, Kiros & Hinton 2016, eq. 4)."""
    return F.layer_norm(a, a.shape[-1:], gain, bias)


def gate_sums(x: Tensor, h: Tensor, w: Weights) -> Tensor:
    """What goes into the gates, `(B, G·H)`: the two products summed, normalized where the weights have gains.

    plain:      W_ih x + b_ih + W_hh h + b_hh
    "sum":      LN(W_ih x + W_hh h; gain_sum, b_ih) + b_hh   (Ba, Kiros & Hinton 2016, eq. 4)
    "separate": LN(W_ih x; gain_ih, b_ih) + LN(W_hh h; gain_hh, b_hh)   (the LSTM in the same paper's supplement)
    """
    if w.gain_sum is not None:
        a = normalize(F.linear(x, w.weight_ih) + F.linear(h, w.weight_hh), w.gain_sum, w.bias_ih)
        return a if w.bias_hh is None else a + w.bias_hh
    if w.gain_ih is not None and w.gain_hh is not None:
        from_x = normalize(F.linear(x, w.weight_ih), w.gain_ih, w.bias_ih)
        return from_x + normalize(F.linear(h, w.weight_hh), w.gain_hh, w.bias_hh)
    return F.linear(x, w.weight_ih, w.bias_ih) + F.linear(h, w.weight_hh, w.bias_hh)


class Cell(nn.Module):
    """One step of a recurrent network: `forward(x_t, state=None) -> (y_t, next_state)`.

    x_t `(B, I)` or `(I,)`; state: a tensor or a tuple of tensors `(B, H)`, or None for the default start. The
    parameters have torch's names, shapes and initialisation. A subclass names its states, its number of gates and
    computes in `forward`; what it adds with `_add` it makes before it calls `reset_parameters`.
    """

    state_names: ClassVar[tuple[str, ...]] = ("h",)
    gates: ClassVar[int] = 1
    bias_ih: nn.Parameter | None
    bias_hh: nn.Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        recurrent_size: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size = check_size("input_size", input_size)
        self.hidden_size = check_size("hidden_size", hidden_size)
        self.bias = bias
        rows = self.gates * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size, device=device, dtype=dtype))
        self.weight_hh = nn.Parameter(
            torch.empty(rows, recurrent_size or hidden_size, device=device, dtype=dtype)
        )
        for name in ("bias_ih", "bias_hh"):
            self._add(name, rows if bias else None)

    def _add(self, name: str, *shape: int | None) -> None:
        sizes = [n for n in shape if n is not None]
        empty = nn.Parameter(self.weight_ih.detach().new_empty(sizes)) if len(sizes) == len(shape) else None
        self.register_parameter(name, empty)

    def reset_parameters(self) -> None:
        """Draw all parameters anew: U(−1/sqrt(H), 1/sqrt(H)); gains one, the bias of a normalized cell zero."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for name, p in self.named_parameters(recurse=False):
            if name.startswith("gain"):
                nn.init.ones_(p)
            elif name == "bias_cell":
                nn.init.zeros_(p)
            else:
                nn.init.uniform_(p, -bound, bound)

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The width of each of `state_names`."""
        return (self.hidden_size,) * len(self.state_names)

    def initial_state(self, batch: int, device: Any = None, dtype: Any = None) -> Any:
        """The start where none is given: zeros `(batch, H)` for each of `state_names`, alone or in a tuple."""
        zeros = tuple(torch.zeros(batch, size, device=device, dtype=dtype) for size in self.state_sizes)
        return zeros if len(zeros) > 1 else zeros[0]

    def _start(self, x: Tensor, state: Any) -> Any:
        """The given state, or the default one for the rows of `x`."""
        if x.shape[-1] != self.input_size:
            raise RuntimeError(
                f"{type(self).__name__}: input of shape {tuple(x.shape)}; its last size must be equal to "
                f"input_size = {self.input_size}"
            )
        if state is not None:
            return state
        zeros = tuple(x.new_zeros(*x.shape[:-1], size) for size in self.state_sizes)
        return zeros if len(zeros) > 1 else zeros[0]

    def extra_repr(self) -> str:
        """The sizes, and what differs from the default."""
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")
