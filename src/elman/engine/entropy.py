"""Cross entropy of a block of rows of logits in the core: the loss, and its gradient in the place of the logits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from elman.engine.backends import backend_of_environment
from elman.engine.call.surroundings import watched

__all__ = ["LogitBlock", "RowScales", "empty_rows", "in_memory"]


def in_memory(*tensors: Tensor) -> bool:
    """Whether the core may compute on the memory of these tensors as it is: plain ones of one dtype that it knows, on
    the CPU, and nothing under way that has to see each operation (a transform, a mode, the compiler, autocast)."""
    # The compiler reads this first: what follows is no graph.
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    first = tensors[0]
    if first.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    if torch._C._len_torch_dispatch_stack() or watched(first.device) is not None:
        return False
    plain = all(
        type(t) in {Tensor, nn.Parameter}
        and t.dtype == first.dtype
        and t.device == first.device
        and t.layout == torch.strided
        for t in tensors
    )
    if not plain or backend_of_environment() in {"reference", "loop"}:
        return False
    try:
        from elman.engine.backends.kernel import DTYPES
    except ImportError:
        return False
    return first.dtype in DTYPES


def empty_rows(rows: int, width: int, dtype: torch.dtype) -> Tensor:
    """Uninitialised `(rows, width)`, from memory that the core has kept if there is some."""
    from elman.engine.backends.kernel import empty

    return empty(rows, width, dtype)


class RowScales(NamedTuple):
    """What a row's gradient `(R,)` is made of: g_v = p_v power − even w_v, less `right` where v is the target."""

    power: Tensor
    right: Tensor
    even: Tensor | None


class LogitBlock:
    """Room for `rows` rows of K logits, for one block after the other. Tensors are of one dtype, contiguous."""

    def __init__(self, rows: int, classes: int, dtype: torch.dtype) -> None:
        from elman.engine.backends import kernel

        self._kernel = kernel
        self._z = kernel.empty(rows, classes, dtype)
        self._factor = kernel.entropy_factors(rows, classes, dtype)

    def rows(self, count: int) -> Tensor:
        """`(count, K)`, where logits without their bias are to be written."""
        return self._z[:count]

    def losses(
        self, target: Tensor, bias: Tensor | None, weight: Tensor | None, nll: Tensor, even: Tensor | None,
        *, keeps: bool,
    ) -> None:  # fmt: skip
        """Write -log p(target) into `nll`, -Σ_v w_v log p_v into `even`; keeps: for `gradient`, else logits stay."""
        z = self._z[: len(target)]
        self._kernel.entropy(z, bias, weight, target, self._factor, nll, even, keeps=keeps)

    def gradient(
        self, target: Tensor, weight: Tensor | None, scales: RowScales, total: Tensor | None, *, adds: bool
    ) -> Tensor:
        """The gradient by the logits `(R, K)`, in their place; total `(K,)`: its sum over rows, added where `adds`."""
        z = self._z[: len(target)]
        self._kernel.entropy_gradient(
            z, weight, target, self._factor, scales.power, scales.right, scales.even, total, adds=adds
        )
        return z
