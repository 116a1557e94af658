"""Whether the engine runs a cell as the plain loop does, asked before any training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from elman.engine.errors import EngineError
from elman.engine.explain import Explanation
from elman.engine.scan import Scan
from elman.engine.structure import flatten

__all__ = ["check"]


def check(
    step: Callable[..., Any],
    x: Any = None,
    state: Any = None,
    *,
    context: Any = None,
    owner: nn.Module | None = None,
) -> Explanation:
    """Verify that the engine runs `step` as the plain loop does, on data like the given, in every manner of a call
    (lengths, resets, the states of all steps, reverse); say how it runs it.

    x `(T, B, ...)` and state `(B, ...)`: example data; without them a cell with `input_size` and `hidden_size` is
    checked on random numbers. Raises EngineError with the reason, the op, the source line and what to write instead
    where the step is outside the fast path's rules.
    """
    if x is None:
        x = torch.randn(4, 3, _size_of(step, "input_size", "x"))
    if state is None:
        B = (x[0] if isinstance(x, tuple) else x).shape[1]
        initial = getattr(step, "initial_state", None)
        default = getattr(x, "dtype", torch.float32)
        state = (
            initial(B, torch.device("cpu"), default)
            if initial
            else torch.zeros(B, _size_of(step, "hidden_size", "state"))
        )
    scan = Scan(step, owner=owner, fallback="error")
    T, B = flatten(x)[0][0].shape[:2]
    lengths, reset = torch.arange(B) % T + 1, torch.arange(T * B).view(T, B) % 3 == 1
    for options in ({"lengths": lengths}, {"reset": reset}, {"return_states": True}, {"reverse": True}, {}):
        scan(x, state, context=context, **options)
    return scan.explain()


def _size_of(step: Any, name: str, what: str) -> int:
    size = getattr(step, name, None)
    if not isinstance(size, int):
        raise EngineError(f"the cell has no integer {name!r}; give {what}= an example")
    return size
