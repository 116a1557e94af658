"""Where the core has no kernels for a step, the reference or the user's own loop: whichever takes less time.

Convolutions take nearly all the time of a step that has them, on either path. Which one wins hangs on sizes and on the
machine, so it is measured, once for each kind of call, on the first steps of a call that is large enough to tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from elman.engine.call.inputs import Inputs
from elman.engine.call.run import Plan, run_plan
from elman.engine.structure import flatten
from elman.engine.tracing.trace import gradients

__all__ = ["loop_is_faster", "may_be_slower"]

_STEPS = 8  # of the call, at most
_ROUNDS = 5
_ENOUGH = 1 << 15  # numbers in x and in the states of all steps: with fewer, a call takes a few milliseconds
# The reference is taken where its measured share of the loop's time is less: what is measured in a few milliseconds may
# be wrong by a tenth, and the user's own loop is what nobody may be slower than.
_CLEARLY = 0.9


def may_be_slower(plan: Plan, tensors: Sequence[Tensor], given: Inputs) -> bool:
    """Whether the plan might lose to the loop, and the call can tell without a trace: no draws, and nobody is told of
    gradients."""
    if plan.slower is not None or plan.loops.name != "reference":
        return False
    if plan.random or given.x[0].device.type != "cpu":
        return False
    nodes = [n for section in plan.program.sections.values() for n in section.nodes]
    if not any(n.op == "convolution.default" for n in nodes):
        return False
    if any(t._backward_hooks or getattr(t, "_post_accumulate_grad_hooks", None) for t in tensors):
        return False
    size = sum(v.numel() for v in given.x) + given.T * sum(s.numel() for s in given.s)
    return given.T > 1 and size >= _ENOUGH


def loop_is_faster(
    step: Callable[..., Any], plan: Plan, tensors: list[Tensor], given: Inputs
) -> tuple[bool, str]:
    """Whether the user's own loop is, and what was measured, in words."""
    few = _first_steps(given)
    wanted = [t for t in (*few.x, *few.s, *few.c, *tensors) if t.requires_grad] if plan.needs.any else []
    runs = {"the reference": lambda: run_plan(step, plan, tensors, few), "the loop": lambda: few.loop(step)}
    least = dict.fromkeys(runs, float("inf"))
    for _ in range(_ROUNDS):
        for name, run in runs.items():
            least[name] = min(least[name], _seconds(run, wanted))
    reference, loop = least.values()
    times = ", ".join(f"{name} {1e3 * seconds:.1f} ms" for name, seconds in least.items())
    return reference > _CLEARLY * loop, f"measured on {few.T} steps of {few.B} rows: {times}"


def _first_steps(given: Inputs) -> Inputs:
    def alike(t: Tensor, few: Tensor) -> Tensor:
        return few.detach().requires_grad_(t.requires_grad)

    s = [alike(t, t) for t in given.s]
    return replace(
        given, x=[alike(v, v[:_STEPS]) for v in given.x], s=s, initial=s, c=[alike(t, t) for t in given.c],
        lengths=None, reset=None,
    )  # fmt: skip


def _seconds(run: Callable[[], Any], wanted: list[Tensor]) -> float:
    # of one thread the processor's time, which other work on the machine hardly touches
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    y, state, _ = run()
    outs = [t for t in (*flatten(y)[0], *flatten(state)[0]) if t.requires_grad]
    if outs and wanted:
        gradients(outs, wanted, [torch.ones_like(t) for t in outs])
    return clock() - start
