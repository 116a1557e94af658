"""Calls with a mask: the steps that are taken are found in the core, or moved together first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from elman.engine.call.cached import is_cached
from elman.engine.call.inputs import Inputs, Manner, gather
from elman.engine.call.masks import Taken, check_mask, taken
from elman.engine.call.quick import Again, Trees, again_with_holes
from elman.engine.call.run import Plan, run_recipe
from elman.engine.errors import EngineError, NotSupported
from elman.engine.structure import ScanResult, flatten, unflatten

__all__ = ["Holes"]


class Holes:
    """The calls with a mask of one scan.

    The first one of a kind goes with each row's steps moved together by torch, as a call with lengths. What that came
    to is, from there on, carried out by the core with the holes as they are, once that has been compared with the step.
    """

    def __init__(self) -> None:
        self._last: Again | None = None

    def call(
        self, scan: Any, mask: Any, x: Any, state: Any, lengths: Any, reset: Any, *, context: Any, initial_state: Any,
        reverse: bool, return_states: bool, checkpoint_every: int | None,
    ) -> ScanResult:  # fmt: skip
        """See `Scan.__call__`."""
        alike = initial_state is None and reset is None and not return_states and checkpoint_every is None
        trees = x, state, context
        alike = alike and not torch.compiler.is_compiling() and not is_cached(scan.step, scan.owner)
        if alike and self._last is not None:
            result = self._last.call(scan, trees, reverse, lengths, mask)
            if result is not None:
                return result
        given = gather(x, state, context, initial_state, lengths, reset, False, False)
        if (wrong := check_mask(mask, given.T, given.B)) is not None:
            raise EngineError(wrong)
        options = {
            "context": context, "initial_state": initial_state, "reverse": reverse, "return_states": return_states,
            "checkpoint_every": checkpoint_every,
        }  # fmt: skip
        steps = taken(mask, given.lengths)
        if steps is None:
            return scan(x, state, reset=reset, **options)
        moved = unflatten([steps.steps_in(v) for v in given.x], given.x_spec)
        reset = None if reset is None else steps.resets_in(reset)
        if alike:
            scan.last = None  # what is there afterwards is of this call
        y, final, states = scan(moved, state, lengths=steps.lengths, reset=reset, **options)
        if alike:
            self._remember(scan, trees, (moved, state, context), steps.lengths, reverse)
        return ScanResult(steps.tree_out(y), final, None if states is None else steps.tree_out(states))

    def _remember(self, scan: Any, trees: Trees, moved: Trees, lengths: Tensor, reverse: bool) -> None:
        """How the call has just gone, for the next one like it; verified at the first time of its plan."""
        last = scan.last
        self._last = again_with_holes(last, trees, reverse) if isinstance(last, Again) else None
        if self._last is None:
            return
        given = gather(*moved, None, lengths, None, reverse, False)
        manner = Manner(lengths=True, reverse=reverse, holes=True)
        recipe = self._last.recipe
        try:
            scan.trust(given, self._last.plan, manner, _through_holes(scan.step, recipe))
        except NotSupported:
            self._last = None


def _through_holes(step: Callable[..., Any], recipe: Any) -> Callable[..., ScanResult]:
    """A call of a few steps with lengths, carried out with holes between them."""

    def run(plan: Plan, p: Sequence[Tensor], few: Inputs) -> ScanResult:
        lengths = torch.full((few.B,), few.T) if few.lengths is None else few.lengths
        steps = _spread(lengths, few.T)
        x = [steps.steps_out(v) for v in few.x]
        mask = torch.zeros(steps.T, few.B, dtype=torch.bool)
        assert steps.times is not None
        mask.scatter_(0, steps.times, torch.arange(few.T).unsqueeze(1) < lengths)
        rows = recipe.rows(steps.T, few.B, few.reverse, None, None, mask)
        whole = replace(few, x=x, lengths=None)
        result = run_recipe(step, plan, p, (x, few.s, few.s, few.c), lambda: whole, rows, recipe)
        ys = [steps.steps_in(v) for v in flatten(result.y)[0]]
        return ScanResult(unflatten(ys, plan.y_spec), result.state, None)

    return run


def _spread(lengths: Tensor, T: int) -> Taken:
    """Every other step, from the first or the second one on."""
    times = 2 * torch.arange(T).unsqueeze(1) + torch.arange(len(lengths)) % 2
    return Taken(2 * T + 1, lengths, times)
