"""A Program carried out on tensors: forward over a whole sequence, backward over it, and the autograd node
around both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from elman.engine.call.inputs import Inputs
from elman.engine.call.roles import Counts
from elman.engine.call.substituted import as_then
from elman.engine.errors import EngineError
from elman.engine.lowering.lower import Needs
from elman.engine.program.execute import Environment, kind, run_section
from elman.engine.program.flops import BACKWARD, FORWARD, counted, told
from elman.engine.program.program import Graph, Program, Section, Value
from elman.engine.program.rows import Layout, Steps, layout
from elman.engine.structure import LEAF, ScanResult, TreeSpec, flatten, unflatten

__all__ = [
    "Call",
    "Loops",
    "Plan",
    "ScanFunction",
    "as_bases",
    "autocast_now",
    "autocast_off",
    "differentiate_again",
    "in_one_go",
    "run_backward",
    "run_forward",
    "run_plan",
    "run_recipe",
]


class Loops(Protocol):
    """A backend's loops for one program (see `backends.reference` for the meaning of each argument)."""

    name: str

    def compile(self, section: Section, outs: list[Value]) -> Callable[..., tuple[Tensor, ...]]: ...

    def forward(
        self, rows: Layout, env: Environment, states: list[Tensor], initial: list[Tensor], before: list[Value],
        after: list[int],
    ) -> list[Tensor]: ...  # fmt: skip

    def backward(
        self, rows: Layout, env: Environment, grads: list[Tensor | None]
    ) -> tuple[list[Tensor | None], list[Tensor | None]]: ...


@dataclass(slots=True)
class Plan:
    """A program, who runs its loops, and what follows from both."""

    program: Program
    loops: Loops
    y_spec: TreeSpec
    s_spec: TreeSpec
    needs: Needs
    reason: str = ""
    random: bool = False
    dead: list[bool] = field(default_factory=list)  # of y and the state: results that carry no gradient
    functions: dict[str, Any] = field(default_factory=dict)
    before: list[Value] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    apart: bool = False  # the outputs and the final states are known to lie in memory of their own
    slower: bool | None = None  # than the user's own loop, where that was measured
    sizes: set[int] = field(default_factory=set)  # batch sizes at which one step has been seen to agree
    seen: set[Any] = field(default_factory=set)  # manners of calls that have been seen to agree
    recipes: dict[tuple[bool, bool], Any] = field(default_factory=dict)  # or None, those that were asked for
    held: Callable[[], list[Tensor] | None] | None = None  # see `Guard.held`

    def for_inference(self) -> Plan:
        """The same without an autograd node."""
        return replace(self, needs=Needs(), recipes={})

    def at_call(self, step: Callable[..., Any], p: Sequence[Tensor]) -> Callable[..., Any]:
        """The step for a later run, as at the call in which it read `p`."""
        return step if self.held is None else partial(as_then, self.held, p, step)

    def recipe(self, ragged: bool = False, resets: bool = False) -> Any:
        """A call in one go (see `backends.recipe`), or None. ragged: not every row takes every step."""
        if (ragged, resets) not in self.recipes:
            make = getattr(self.loops, "recipe", None)
            self.recipes[ragged, resets] = None if make is None else make(
                self.kept, self.before, grad=self.needs.any, ragged=ragged, resets=resets
            )  # fmt: skip
        return self.recipes[ragged, resets]

    @classmethod
    def of(
        cls,
        program: Program,
        loops: Loops,
        graph: Graph,
        *,
        needs: Needs,
        s_spec: TreeSpec = LEAF,
        reason: str = "",
        random: bool = False,
    ) -> Plan:
        """reason: why it is not a faster backend; random: whether the step draws random numbers."""
        sections = program.sections
        later = [sections[n] for n in ("trailing", "pre", "loop_back", "post")]
        read = {v for section in later for v in section.ins}
        read |= {v for role in ("y", "dx", "dc") for v in getattr(program, role) if v is not None}
        before = [v for v in program.s if v in read]
        backward = [sections[n] for n in ("pre", "loop_back", "post", "final")]
        made = {v.name for section in backward for v in section.outs}
        given = {v.name for role in ("gy", "gs", "ga") for v in getattr(program, role) if v is not None}
        wanted = [v.name for section in backward for v in section.ins]
        wanted += [v.name for role in ("dx", "dc") for v in getattr(program, role) if v is not None]
        kept = list(dict.fromkeys(n for n in wanted if n not in made and n not in given))
        assert graph.y_spec is not None
        dead = [g is None for g in (*graph.gy, *graph.gs)]
        stored = {v.name for v in sections["loop"].outs}
        apart = getattr(loops, "name", None) == "native" and len(set(program.y)) == len(program.y)
        apart = apart and all(v.name in stored for v in program.y)
        return cls(
            program,
            loops,
            graph.y_spec,
            s_spec,
            needs,
            reason,
            random,
            dead,
            before=before,
            kept=kept,
            apart=apart,
        )


def run_forward(
    plan: Plan, rows: Layout, x: Sequence[Tensor], s: Sequence[Tensor], initial: Sequence[Tensor], c: Sequence[Tensor],
    p: Sequence[Tensor], after: list[int],
) -> tuple[list[Tensor], list[Tensor], list[Tensor], Environment]:  # fmt: skip
    """Outputs `(T, B, ...)`, final states `(B, ...)`, all-step states of the leaves `after`, and the environment."""
    program = plan.program
    env: Environment = {v.name: rows.pack(t) for v, t in zip(program.x, x, strict=True)}
    env.update({v.name: rows.sort(t) for v, t in zip(program.c, c, strict=True)})
    env.update({v.name: t for v, t in zip(program.p, p, strict=True)})
    for name in ("static", "context", "hoisted"):
        run_section(program, name, plan.functions, env, rows, plan.loops.compile)
    states = [rows.sort(t).to(v.dtype) for v, t in zip(program.s, s, strict=True)]
    starts = (
        [rows.sort(t).to(v.dtype) for v, t in zip(program.s, initial, strict=True)]
        if rows.flags is not None
        else []
    )
    finals = plan.loops.forward(rows, env, states, starts, plan.before, after)
    run_section(program, "trailing", plan.functions, env, rows, plan.loops.compile)
    ys = [rows.unpack(_as_rows(program, v, env, rows)) for v in program.y]
    history = [rows.unpack(env[f"after{j}"]) for j in after]
    return ys, [rows.unsort(f) for f in finals], history, env


def autocast_off(device: torch.device) -> Any:
    """The casts are in the program already; a cast on top would be one too many."""
    on = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if on else nullcontext()


def autocast_now(device: torch.device) -> Any:
    """The casts of the moment, to be put on again."""
    kind = device.type
    on = torch.is_autocast_enabled(kind)
    return torch.autocast(kind, torch.get_autocast_dtype(kind)) if on else nullcontext()


def _as_rows(program: Program, v: Value, env: Environment, rows: Layout) -> Tensor:
    return rows.spread(env[v.name]) if kind(program, v) == "context" else env[v.name]


def run_backward(
    plan: Plan, rows: Layout, env: Environment, gy: Sequence[Tensor | None], final: Sequence[Tensor | None],
    ga: Sequence[Tensor | None], s_like: Sequence[Tensor],
) -> tuple[list[Tensor | None], ...]:  # fmt: skip
    """Gradients `(dx, ds, dinitial, dc, dp)` of the inputs, None where there is none."""
    program = plan.program
    for role, grads in (("gy", gy), ("ga", ga)):
        for v, g in zip(getattr(program, role), grads, strict=False):
            if v is not None:
                env[v.name] = _zeros(v, rows, s_like[0]) if g is None else rows.pack(g).to(v.dtype)
    run_section(program, "pre", plan.functions, env, rows, plan.loops.compile)
    carried: list[Tensor | None] = [
        None if v is None else (torch.zeros_like(s, dtype=v.dtype) if g is None else rows.sort(g).to(v.dtype))
        for v, g, s in zip(program.gs, final, s_like, strict=True)
    ]
    ds, dinitial = plan.loops.backward(rows, env, carried)
    run_section(program, "post", plan.functions, env, rows, plan.loops.compile)
    run_section(program, "final", plan.functions, env, rows, plan.loops.compile)
    dx = [None if v is None else rows.unpack(_as_rows(program, v, env, rows)) for v in program.dx]
    dc = [
        None if v is None else rows.unsort(rows.gather(_as_rows(program, v, env, rows))) for v in program.dc
    ]
    dp = [None if v is None else env[v.name] for v in program.dp]
    back = [[None if g is None else rows.unsort(g) for g in grads] for grads in (ds, dinitial)]
    return dx, back[0], back[1], dc, dp


def _zeros(v: Value, rows: Layout, like: Tensor) -> Tensor:
    return torch.zeros(
        rows.rows, *[n for n in v.shape[1:] if isinstance(n, int)], dtype=v.dtype, device=like.device
    )


def run_plan(step: Callable[..., Any], plan: Plan, p: Sequence[Tensor], given: Inputs) -> ScanResult:
    """A call on the fast path; `p` are the tensors that the step reads."""
    how = in_one_go(given)
    recipe = None if how is None else plan.recipe(*how)
    if recipe is not None and not counted():
        taken = recipe.rows(given.T, given.B, given.reverse, given.lengths, given.reset)
        if taken is not None:
            leaves = given.x, given.s, given.initial, given.c
            return run_recipe(step, plan, p, leaves, lambda: given, taken, recipe)
    rows = layout(given.T, given.B, given.lengths, given.reset, given.reverse, given.x[0].device)
    if counted():
        with told(plan.program, FORWARD, rows.rows, rows.B):
            return run_plan(step, plan, p, given)
    after = list(range(len(given.s))) if given.return_states else []
    tensors = [*given.x, *given.s, *given.initial, *given.c, *p]
    if plan.needs.any:
        counts, casts = (
            Counts(len(given.x), len(given.s), len(given.c), len(p)),
            autocast_now(given.x[0].device),
        )
        call = Call(
            plan, rows, counts, after, lambda again: _on_the_loop(plan.at_call(step, p), given, again, casts)
        )
        outs = list(ScanFunction.apply(call, *tensors))
    else:
        with torch.no_grad(), autocast_off(given.x[0].device):
            ys, finals, history, _ = run_forward(
                plan, rows, given.x, given.s, given.initial, given.c, p, after
            )
        outs = as_bases(_own_memory(plan, [*ys, *finals, *history], tensors, history))
    n_y, n_s = len(plan.program.y), len(given.s)
    states = unflatten(outs[n_y + n_s :], given.s_spec) if given.return_states else None
    return ScanResult(
        unflatten(outs[:n_y], plan.y_spec), unflatten(outs[n_y : n_y + n_s], given.s_spec), states
    )


def run_recipe(
    step: Callable[..., Any], plan: Plan, p: Sequence[Tensor],
    leaves: tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]], given: Callable[[], Inputs],
    rows: Steps, recipe: Any,
) -> ScanResult:  # fmt: skip
    """A call in one go (see `backends.recipe`). leaves: of x, state, initial state and context; `given` makes the
    call's inputs for what needs the plain loop."""
    x, s, initial, c = leaves
    tensors = [*x, *s, *initial, *c, *p]
    n_y, n_s = len(plan.program.y), len(s)
    if plan.needs.any:
        counts = Counts(len(x), n_s, len(c), len(p))
        call = Call(
            plan, rows, counts, [], lambda again: _on_the_loop(plan.at_call(step, p), given(), again), recipe
        )
        outs = list(ScanFunction.apply(call, *tensors))
    elif torch.is_grad_enabled():
        with torch.no_grad():
            outs, _ = recipe.forward(tensors, rows)
    else:
        outs, _ = recipe.forward(tensors, rows)
    return ScanResult(unflatten(outs[:n_y], plan.y_spec), unflatten(outs[n_y:], plan.s_spec), None)


def in_one_go(given: Inputs) -> tuple[bool, bool] | None:
    """Which recipe a call may take: whether for rows that end, and for resets. None where all states are wanted or a
    cast comes between."""
    if given.return_states or torch.is_autocast_enabled(given.x[0].device.type):
        return None
    return given.lengths is not None, given.reset is not None


def _on_the_loop(
    step: Callable[..., Any], given: Inputs, tensors: Sequence[Tensor], casts: Any = None
) -> list[Tensor]:
    """The flat results of the same call on the plain loop, from the tensors that the autograd node has kept."""
    x, s, initial, c, _ = Counts(len(given.x), len(given.s), len(given.c), len(tensors)).split(tensors)
    with casts or nullcontext():
        result = replace(given, x=x, s=s, initial=initial, c=c).loop(step)
    return [
        t for part in (result.y, result.state, result.states) if part is not None for t in flatten(part)[0]
    ]


@dataclass(slots=True)
class Call:
    """What one call needs beside its tensors."""

    plan: Plan
    rows: Any  # a Layout, or what the recipe takes
    counts: Counts
    after: list[int]
    again: Callable[..., list[Tensor]]  # the same call on the plain loop, differentiable as often as wished
    recipe: Any = None  # the call in one go, where it can be


class ScanFunction(torch.autograd.Function):
    """The autograd node of a whole sequence. Tensors: x, state, initial state, context, what the step reads."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        plan, rows = call.plan, call.rows
        if call.recipe is not None:
            outs, kept = call.recipe.forward(tensors, rows)
            shared = call.recipe.shared
        else:
            x, s, initial, c, p = call.counts.split(tensors)
            with autocast_off(tensors[0].device):
                ys, finals, history, env = run_forward(plan, rows, x, s, initial, c, p, call.after)
            outs = _own_memory(plan, [*ys, *finals, *history], tensors, history)
            kept = [env[name] for name in plan.kept]
            shared = _shared(outs, kept)
            if plan.random:  # it cannot be computed once more
                outs = [o.clone() if i in shared else o for i, o in enumerate(outs)]
                shared = []
            outs = [o.data if i in shared else o for i, o in enumerate(as_bases(outs))]
        # A result may lie where the backward reads. An alias of it knows of every write, and does not keep its node
        # alive as the result itself would.
        ctx.aliases = [outs[i].detach() for i in shared]
        ctx.call, ctx.count = call, len(tensors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *kept)
        if call.recipe is not None and not any(plan.dead):
            return tuple(outs)
        n_y, n_s = len(plan.program.y), len(plan.program.ns)
        dead = [*plan.dead, *(plan.dead[n_y + j] for j in call.after)]
        waits = rows.waits  # a row without steps hands its state, and its gradient, through
        ctx.mark_non_differentiable(
            *[o for i, (o, d) in enumerate(zip(outs, dead, strict=True))
              if not o.dtype.is_floating_point or (d and not (waits and n_y <= i < n_y + n_s))]
        )  # fmt: skip
        return tuple(outs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        call: Call = ctx.call
        saved = ctx.saved_tensors
        tensors = saved[: ctx.count]
        if torch.is_grad_enabled():
            return (None, *differentiate_again(call, tensors, grads))
        if counted():
            with told(call.plan.program, BACKWARD, call.rows.rows, call.rows.B):
                return ScanFunction.backward(ctx, *grads)
        kept = saved[ctx.count :]
        for alias in ctx.aliases:
            if alias._version:
                kept = _kept_again(call, tensors)
                break
        if call.recipe is not None:
            return (None, *call.recipe.backward(tensors, kept, grads, call.rows))
        env = dict(zip(call.plan.kept, kept, strict=True))
        n_y, n_s = len(call.plan.program.y), call.counts.s
        gy, final, rest = grads[:n_y], grads[n_y : n_y + n_s], grads[n_y + n_s :]
        ga: list[Tensor | None] = [None] * n_s
        for j, g in zip(call.after, rest, strict=True):
            ga[j] = g
        _, s, *_ = call.counts.split(tensors)
        with autocast_off(tensors[0].device):
            dx, ds, dinitial, dc, dp = run_backward(call.plan, call.rows, env, gy, final, ga, s)
        wanted = ctx.needs_input_grad[1:]
        found = [*dx, *ds, *dinitial, *dc, *dp]
        return (None, *_finish(found, wanted, tensors))


def _finish(
    found: list[Tensor | None], wanted: Sequence[bool], tensors: Sequence[Tensor]
) -> list[Tensor | None]:
    """Each gradient once, in the dtype and shape of its tensor."""
    grads: list[Tensor | None] = []
    seen: set[int] = set()
    for g, want, t in zip(found, wanted, tensors, strict=True):
        if g is None or not want:
            grads.append(None)
            continue
        g = g.to(t.dtype)
        grads.append(g.clone() if id(g) in seen else g)
        seen.add(id(g))
    return grads


def as_bases(outs: Sequence[Tensor]) -> list[Tensor]:
    """The results as tensors that are no views, each with a version of its own: whoever gets one may write in it."""
    return [o.data if o._is_view() else o for o in outs]


def _shared(outs: Sequence[Tensor], kept: Sequence[Tensor]) -> list[int]:
    """Which results lie in memory that the backward reads."""
    places = {t.untyped_storage().data_ptr() for t in kept if t.numel()}
    return [i for i, o in enumerate(outs) if o.untyped_storage().data_ptr() in places]


def _kept_again(call: Call, tensors: Sequence[Tensor]) -> list[Tensor]:
    """What the forward had left for the backward, computed once more: a result that shared its memory was written."""
    plan, rows = call.plan, call.rows
    if call.recipe is not None:
        kept: list[Tensor] = call.recipe.forward(tensors, rows)[1]
        return kept
    x, s, initial, c, p = call.counts.split(tensors)
    with autocast_off(tensors[0].device):
        *_, env = run_forward(plan, rows, x, s, initial, c, p, call.after)
    return [env[name] for name in plan.kept]


def _own_memory(
    plan: Plan, outs: list[Tensor], inputs: Sequence[Tensor], history: list[Tensor]
) -> list[Tensor]:
    return outs if plan.apart and not history else _unaliased(outs, inputs)


def _unaliased(outs: list[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """No result shares memory with an input or with another result."""
    taken = {t.untyped_storage().data_ptr() for t in inputs if t.numel()}
    own = []
    for o in outs:
        place = o.untyped_storage().data_ptr()
        own.append(o.clone() if place in taken else o)
        taken.add(own[-1].untyped_storage().data_ptr())
    return own


def differentiate_again(
    call: Call, tensors: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The backward as a differentiable computation (create_graph=True): through the plain loop, run once more."""
    if call.plan.random:
        raise EngineError(
            "double backward through a step that draws random numbers: the draws of the first time are gone; "
            "use backend='loop' for this call"
        )
    n = len(tensors) - call.counts.p  # each role gets an alias of its own: one tensor may have several
    aliases = [t.view_as(t) if t.requires_grad else t for t in tensors[:n]]
    outs = call.again([*aliases, *tensors[n:]])
    pairs = [(o, g) for o, g in zip(outs, grads, strict=True) if g is not None and o.requires_grad]
    tensors = [*aliases, *tensors[n:]]
    inputs = [t for t in tensors if t.requires_grad]
    if not pairs or not inputs:
        return [None] * len(tensors)
    found = torch.autograd.grad(
        [o for o, _ in pairs], inputs, [g for _, g in pairs], create_graph=True, allow_unused=True
    )
    table = {id(t): g for t, g in zip(inputs, found, strict=True)}
    return [table.get(id(t)) for t in tensors]
