"""Which calls of torch are about complex numbers, and who answers them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from elman.engine.tracing.complexes.pair import Pair, handled, paired

__all__ = ["complex_call", "is_complex_call"]

_METADATA = {
    "size", "dim", "ndimension", "is_complex", "is_floating_point", "numel", "element_size", "stride", "storage_offset",
    "is_contiguous", "get_device", "requires_grad_", "is_conj", "is_neg", "__hash__", "__repr__", "data_ptr",
}  # fmt: skip
_GOTTEN = {"real", "imag", "T", "H", "mT", "mH"}


def is_complex_call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call of torch makes complex numbers or is given some, other than to ask what kind of tensor it is."""
    if isinstance(func, torch._ops.OpOverload):  # what was recorded, once more
        return False
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return getattr(func.__self__, "__name__", "") in _GOTTEN and _has_complex(args)
    if name in _METADATA or name == "__set__":
        return False
    wanted = kwargs.get("dtype")
    if name in ("complex", "polar", "view_as_complex") or name.startswith("fft_"):
        return True
    if isinstance(wanted, torch.dtype) and wanted.is_complex:
        return True
    if name in ("to", "type") and any(isinstance(a, torch.dtype) and a.is_complex for a in args):
        return True
    return name in ("cfloat", "cdouble") or _has_complex(args) or _has_complex(tuple(kwargs.values()))


def _has_complex(args: Any) -> bool:
    for a in args:
        if isinstance(a, Pair | complex) or (isinstance(a, Tensor) and a.is_complex()):
            return True
        if isinstance(a, tuple | list) and _has_complex(a):
            return True
    return False


def complex_call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call with pairs for complex tensors. Raises NotSupported for a function without a rule."""
    name = func.__name__
    if name == "__get__":
        return getattr(paired(args[0]), func.__self__.__name__)
    return handled(name.strip("_") if name.startswith("__") else name, *args, **kwargs)
