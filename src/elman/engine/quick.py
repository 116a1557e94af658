"""The second of two equal calls, without the questions that the first one has answered.

Equal are plain calls (no lengths, no resets, no context, no all-step states) on tensors of the same shapes and kinds in
the same modes, under a guard that holds. Anything else goes the long way.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from elman.engine.guards import Guard
from elman.engine.inputs import Inputs, gather
from elman.engine.rows import Layout, layout
from elman.engine.run import Plan, is_plain_call, run_recipe
from elman.engine.structure import ScanResult

__all__ = ["Again", "remember"]

_PLAIN_TENSORS = (Tensor, torch.nn.Parameter)


def _signature(x: Any, state: Any, reverse: bool) -> tuple[Any, ...] | None:
    """What a plan depends on beside its guard; None for a call that is not for here."""
    states = state if type(state) is tuple else (state,)
    for t in (x, *states):
        if type(t) not in _PLAIN_TENSORS:
            return None
    if (
        torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or torch.is_autocast_enabled("cpu")
    ):
        return None
    kinds = [(t.shape, t.dtype, t.device, t.requires_grad) for t in (x, *states)]
    wanted = os.environ.get("ELMAN_BACKEND")
    return kinds, type(state), reverse, torch.is_grad_enabled(), torch.get_default_dtype(), wanted


@dataclass(slots=True)
class Again:
    """The last plain call of a scan: what it looked like, and what it came to."""

    signature: tuple[Any, ...]
    guard: Guard
    plan: Plan
    rows: Layout
    recipe: Any

    def call(self, scan: Any, x: Any, state: Any, reverse: bool) -> ScanResult | None:
        """The call, or None where it is another one."""
        if _signature(x, state, reverse) != self.signature or not self.guard.holds():
            return None
        if scan.path != self.plan.loops.name:
            return None
        step: Callable[..., Any] = scan.step

        def given() -> Inputs:
            return gather(x, state, None, None, None, None, reverse, False)

        states = state if type(state) is tuple else (state,)
        return run_recipe(step, self.plan, self.guard.tensors(), x, states, given, self.rows, self.recipe)


def remember(guard: Guard, plan: Plan, given: Inputs) -> Again | None:
    """What the next call may be compared with, or None where this one is no plain one."""
    if given.c_spec is not None or len(given.x) != 1 or given.lengths is not None or given.reset is not None:
        return None
    if given.x_spec.num_nodes != 1 or given.return_states:
        return None
    rows = layout(given.T, given.B, None, None, given.reverse, given.x[0].device)
    recipe = plan.recipe() if is_plain_call(given, rows) else None
    state: Any = given.s[0] if given.s_spec.num_nodes == 1 else tuple(given.s)
    signature = None if recipe is None else _signature(given.x[0], state, given.reverse)
    if signature is None or (type(state) is tuple and given.s_spec.num_nodes != len(given.s) + 1):
        return None
    return Again(signature, guard, plan, rows, recipe)
