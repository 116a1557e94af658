"""The second of two equal calls, without the questions that the first one has answered.

Equal are plain calls (no lengths, no resets, no all-step states) on tensors of the same shapes and kinds in the same
modes, under a guard that holds. Anything else goes the long way.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from elman.engine.call.inputs import Inputs, gather, kept, with_holes
from elman.engine.call.loop import all_rows
from elman.engine.call.run import Plan, in_one_go, run_recipe
from elman.engine.call.surroundings import is_forward_mode, is_traced, is_transformed
from elman.engine.program.rows import Steps
from elman.engine.structure import ScanResult
from elman.engine.watching.guards import Guard

__all__ = ["Again", "OnTheLoop", "Trees", "again_with_holes", "asked_for", "remember", "remember_loop"]

_PLAIN_TENSORS = (Tensor, torch.nn.Parameter)
_SWITCH = os.fsencode("ELMAN_BACKEND") if os.name == "posix" else "ELMAN_BACKEND"
Trees = tuple[Any, Any, Any]  # x, state, context: each a tensor, a tuple of tensors or None


def _leaves(tree: Any) -> tuple[Any, ...]:
    return tree if type(tree) is tuple else () if tree is None else (tree,)


def _signature(given: Trees, reverse: bool) -> tuple[Any, ...] | None:
    """What a plan depends on beside its guard; None for a call that is not for here."""
    kinds: list[Any] = []
    for tree in given:
        leaves = _leaves(tree)
        kinds.append((type(tree), len(leaves)))
        for t in leaves:
            if type(t) not in _PLAIN_TENSORS:
                return None
            kinds.append((t.shape, t.dtype, t.device, t.requires_grad))
    if (
        torch.compiler.is_compiling()
        or is_transformed()
        or is_forward_mode()
        or torch.is_autocast_enabled("cpu")
        or torch._C._len_torch_function_stack()
        or torch._C._len_torch_dispatch_stack()
        or is_traced()
    ):
        return None
    return kinds, reverse, torch.is_grad_enabled(), torch.get_default_dtype(), asked_for()


def asked_for() -> Any:
    """ELMAN_BACKEND as the process has it. A variable that is not set costs `os.environ.get` two exceptions, a fiftieth
    of a small call; what it keeps beneath is a dictionary."""
    kept = getattr(os.environ, "_data", None)
    return kept.get(_SWITCH) if type(kept) is dict else os.environ.get("ELMAN_BACKEND")


@dataclass(slots=True)
class Again:
    """The last call of a scan, if it was a plain one or one with lengths: what it looked like, and what it came to."""

    signature: tuple[Any, ...]
    guard: Guard
    plan: Plan
    rows: Steps | None  # None: they differ from call to call
    recipe: Any
    holes: bool = False  # there is a mask

    def call(
        self, scan: Any, given: Trees, reverse: bool, lengths: Any, mask: Any = None
    ) -> ScanResult | None:
        """The call, or None where it is another one."""
        if (mask is None) == self.holes or (not self.holes and (lengths is None) != (self.rows is not None)):
            return None
        tensors = self.guard.held() if _signature(given, reverse) == self.signature else None
        if tensors is None:
            return None
        if scan.path != self.plan.loops.name:  # what `explain` says would be of another call
            return None
        step: Callable[..., Any] = scan.step
        x, s, c = map(_leaves, given)
        rows = self.rows if self.rows is not None else self._rows(x[0], lengths, mask, reverse)
        if rows is None:
            return None
        ends, held = (None if marks is None else kept(marks) for marks in (lengths, mask))

        def again() -> Inputs:
            call = gather(*given, None, ends, None, reverse, False)
            return call if held is None else with_holes(call, held)

        return run_recipe(step, self.plan, tensors, (x, s, s, c), again, rows, self.recipe)

    def _rows(self, x: Tensor, lengths: Any, mask: Any, reverse: bool) -> Steps | None:
        """None for lengths and masks that are not for here: wrong ones, and those that leave all steps or none."""
        T, B = x.shape[:2]
        for t, dtype, shape in ((lengths, torch.int64, (B,)), (mask, torch.bool, (T, B))):
            if t is not None and (type(t) is not Tensor or t.dtype is not dtype or t.shape != shape):
                return None
            if t is not None and t.device.type != "cpu":
                return None
        try:
            rows: Any = self.recipe.rows(T, B, reverse, lengths, None, mask)
        except ValueError:
            return None
        return None if rows is None or rows.rows == rows.steps * B else rows


def again_with_holes(last: Again, trees: Trees, reverse: bool) -> Again | None:
    """For calls on such tensors with a mask, carried out as the last one with lengths."""
    signature = None if last.rows is not None or last.holes else _signature(trees, reverse)
    return None if signature is None else replace(last, signature=signature, holes=True)


def remember(guard: Guard, plan: Plan, given: Inputs, trees: Trees) -> Again | None:
    """What the next call may be compared with, or None where this one is none for here."""
    how = in_one_go(given)
    if how is None or given.reset is not None or given.initial is not given.s:
        return None
    recipe = plan.recipe(*how)
    signature = None if recipe is None else _signature(trees, given.reverse)
    if signature is None:
        return None
    rows = recipe.rows(given.T, given.B, given.reverse, None, None) if given.lengths is None else None
    return Again(signature, guard, plan, rows, recipe)


@dataclass(slots=True)
class OnTheLoop:
    """The last call of a scan, if it was a plain one for which the loop is meant or was measured faster."""

    signature: tuple[Any, ...]
    specs: tuple[Any, Any]  # of x and the state
    told: Any  # what `explain` says

    def call(self, scan: Any, given: Trees, reverse: bool, lengths: Any) -> ScanResult | None:
        """The call, or None where it is another one."""
        if (
            lengths is not None
            or scan.explain() is not self.told
            or _signature(given, reverse) != self.signature
        ):
            return None
        x, s, c = given
        extra = () if c is None else (c,)
        x_spec, s_spec = self.specs
        return all_rows(scan.step, list(_leaves(x)), x_spec, list(_leaves(s)), s_spec, extra, reverse, False)


def remember_loop(given: Inputs, trees: Trees, told: Any) -> OnTheLoop | None:
    """What the next call may be compared with after one on the loop, or None where this one is none for here."""
    if (
        given.lengths is not None
        or given.reset is not None
        or given.return_states
        or given.initial is not given.s
    ):
        return None
    signature = _signature(trees, given.reverse)
    return None if signature is None else OnTheLoop(signature, (given.x_spec, given.s_spec), told)
