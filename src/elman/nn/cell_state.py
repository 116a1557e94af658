"""What is known of a cell that anyone may have written: where its state starts, its names, its widths."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

__all__ = [
    "default_state",
    "entries",
    "entry_names",
    "leaf_names",
    "output_size",
    "own_size",
    "rebuild",
    "wanted_states",
]


_MOST_STATES = 4


def default_state(cell: nn.Module, batch: int, device: Any, dtype: Any) -> Any:
    """The state that a cell starts from where none is given.

    `cell.initial_state(batch, device, dtype)`, else zeros `(batch, cell.hidden_size)`: two for torch.nn.LSTMCell.
    Raises ValueError where the cell has neither.
    """
    make = getattr(cell, "initial_state", None)
    if callable(make):
        return make(batch, device, dtype)
    size = own_size(cell, "hidden_size")
    if size is None:
        raise ValueError(
            f"no state was given, and {type(cell).__name__} has neither initial_state(batch, device, dtype) nor an int "
            f"hidden_size; pass state=, or add one of them to the cell"
        )
    zeros = torch.zeros(batch, size, device=device, dtype=dtype)
    return (zeros, torch.zeros_like(zeros)) if isinstance(cell, nn.LSTMCell) else zeros


def wanted_states(cell: nn.Module, x_t: Any, batch: int, context: Any) -> int | None:
    """How many tensors of zeros the cell takes as its state, where the one that `default_state` makes of its
    `hidden_size` is refused; None where that is not what is wrong."""
    if callable(getattr(cell, "initial_state", None)) or own_size(cell, "hidden_size") is None:
        return None
    like = next(cell.parameters(), torch.empty(0))
    start = default_state(cell, batch, like.device, like.dtype)
    arguments = () if context is None else (context,)
    if not isinstance(start, Tensor) or _runs(cell, x_t, start, *arguments):
        return None
    return next((k for k in range(2, _MOST_STATES + 1) if _runs(cell, x_t, (start,) * k, *arguments)), None)


def _runs(cell: nn.Module, *arguments: Any) -> bool:
    try:
        with torch.no_grad():
            cell(*arguments)
    except Exception:  # noqa: BLE001 - a user's cell may raise anything at a state that it does not expect
        return False
    return True


def own_size(cell: nn.Module, name: str) -> int | None:
    """The cell's attribute `name` where it is an int."""
    value = getattr(cell, name, None)
    return value if isinstance(value, int) else None


def output_size(cell: nn.Module) -> int | None:
    """The width of y_t, as far as the cell says: its `output_size`, else its `hidden_size`."""
    return own_size(cell, "output_size") or own_size(cell, "hidden_size")


def entries(state: Any) -> list[Any]:
    """The parts of a state, one level down."""
    if isinstance(state, Tensor):
        return [state]
    return list(state.values()) if isinstance(state, dict) else list(state)


def rebuild(like: Any, parts: list[Any]) -> Any:
    """The inverse of `entries`, in the structure of `like`."""
    if isinstance(like, Tensor):
        return parts[0]
    if isinstance(like, dict):
        return dict(zip(like, parts, strict=True))
    return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)


def entry_names(cell: nn.Module, state: Any) -> tuple[str, ...]:
    """The name of each part of a state: its field or key, the cell's `state_names`, else its position."""
    count = len(entries(state))
    names: Any = tuple(state) if isinstance(state, dict) else getattr(state, "_fields", None)
    known = tuple(names or getattr(cell, "state_names", ()))
    return known if len(known) == count else tuple(map(str, range(count)))


def leaf_names(cell: nn.Module, state: Any) -> tuple[str, ...]:
    """The name of each tensor of a state: that of its part where every part is one tensor, else its position."""
    if all(isinstance(part, Tensor) for part in entries(state)):
        return entry_names(cell, state)
    return tuple(map(str, range(len(tree_leaves(state)))))
