"""A call in chunks of k steps: each is computed again in the backward, so that memory does not grow with what a step
keeps.

All parts of a scan (input projection, loop, trailing) run on one chunk at a time. What stays over all T steps is x, the
results, their gradients, and one state for each chunk. The price is one more forward.

A traced step has an autograd node of its own here, which writes y and dx once, in place. A step on the plain loop may
read tensors that nobody knows of, so there each chunk is a `torch.utils.checkpoint` and y is put together at the end.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._guards import detect_fake_mode
from torch.utils.checkpoint import checkpoint

from elman.engine.call.inputs import Inputs
from elman.engine.call.roles import Counts
from elman.engine.call.run import Call, Plan, autocast_now, differentiate_again, run_plan
from elman.engine.call.surroundings import is_forward_mode, is_transformed
from elman.engine.errors import EngineError
from elman.engine.program.rows import Layout
from elman.engine.structure import ScanResult, flatten, unflatten
from elman.engine.watching.snapshot import Snapshot

__all__ = ["carrying", "check_every", "joined", "loop_in_chunks", "piece_of", "run_in_chunks"]

Step = Callable[..., Any]


def check_every(every: Any) -> None:
    """EngineError unless `checkpoint_every` is None or an int of at least 1."""
    if every is None:
        return
    if isinstance(every, bool) or not isinstance(every, int):
        raise EngineError(
            f"checkpoint_every={every!r} is a {type(every).__name__}; expected a number of steps as an int, or None"
        )
    if every < 1:
        raise EngineError(f"checkpoint_every={every}; expected at least 1 step, or None")


def carrying(given: Inputs) -> Inputs:
    """A call like the given one whose state wants a gradient: between two chunks it has one in any case."""
    if not torch.is_grad_enabled():
        return given
    return replace(given, s=[s.detach().requires_grad_(s.is_floating_point()) for s in given.s])


# ---- cutting


def _bounds(given: Inputs, every: int) -> list[tuple[int, int]]:
    """First step and end of each chunk that has rows, in the order of processing."""
    steps = given.T if given.lengths is None else int(given.lengths.max())
    bounds = [(start, min(start + every, steps)) for start in range(0, steps, every)]
    return bounds[::-1] if given.reverse else bounds


def piece_of(
    given: Inputs, start: int, stop: int, x: list[Tensor], s: list[Tensor], initial: list[Tensor], c: list[Tensor]
) -> Inputs:  # fmt: skip
    """The call for the steps start .. stop − 1. `given` tells lengths, resets and options of the whole; x are the
    tensors of the chunk, s is the state that is carried in."""
    lengths = None if given.lengths is None else (given.lengths - start).clamp(0, stop - start)
    reset = None if given.reset is None else given.reset[start:stop]
    if given.reverse and given.reset is not None and stop < given.reset.shape[0]:
        s = _crossed(given.reset[stop], given.lengths, stop, s, initial)
    return replace(given, x=x, s=s, initial=initial, c=c, lengths=lengths, reset=reset)


def _crossed(
    flags: Tensor, lengths: Tensor | None, step: int, s: list[Tensor], initial: list[Tensor]
) -> list[Tensor]:
    """In reverse a reset acts on the way from its step to the one before, here from chunk to chunk."""
    if lengths is not None:
        flags = flags & (lengths.to(flags.device) > step)
    return [
        torch.where(flags.view(-1, *[1] * (v.dim() - 1)).to(v.device), i.to(v.dtype), v)
        for i, v in zip(initial, s, strict=True)
    ]


def _without_tensors(given: Inputs) -> Inputs:
    """Lengths, resets and options of a call."""
    return replace(given, x=[], s=[], initial=[], c=[])


def _leaves(result: ScanResult) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Leaves of y, of the final state and of the states of all steps."""
    history = [] if result.states is None else flatten(result.states)[0]
    return flatten(result.y)[0], flatten(result.state)[0], history


# ---- a traced step


def run_in_chunks(
    step: Step, owner: nn.Module | None, plan: Plan, p: Sequence[Tensor], given: Inputs, every: int
) -> ScanResult:
    """As `run_plan`, in chunks. `plan` is one of `carrying(given)`, `p` are the tensors that the step reads."""
    tensors = [*given.x, *given.s, *given.initial, *given.c, *p]
    counts = Counts(len(given.x), len(given.s), len(given.c), len(p))
    empty, bounds = _without_tensors(given), _bounds(given, every)
    whole = _Whole(
        step, owner, plan, empty, counts, given.T, given.B, every, bounds, autocast_now(given.x[0].device), p
    )
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        outs = list(_Chunked.apply(whole, *tensors))
    else:
        with torch.no_grad():
            outs = whole.forward(tensors).outs
    n_y, n_s = len(plan.program.y), counts.s
    states = unflatten(outs[n_y + n_s :], given.s_spec) if given.return_states else None
    return ScanResult(
        unflatten(outs[:n_y], plan.y_spec), unflatten(outs[n_y : n_y + n_s], given.s_spec), states
    )


@dataclass(slots=True)
class _Forward:
    """What the forward leaves: the flat results, and for each chunk the state before it and the random state."""

    outs: list[Tensor]
    carries: list[list[Tensor]]
    chances: list[list[Tensor]]


@dataclass(slots=True)
class _Whole:
    """A call in chunks, but for its tensors: `given` has none, they come as x, state, initial state, context, p."""

    step: Step
    owner: nn.Module | None
    plan: Plan
    given: Inputs
    counts: Counts
    T: int
    B: int
    every: int
    bounds: list[tuple[int, int]]
    autocast: AbstractContextManager[Any]
    p: Sequence[
        Tensor
    ]  # those of the call themselves: what autograd keeps may be others with the same values

    def forward(self, tensors: Sequence[Tensor]) -> _Forward:
        """One chunk after the other; the parts of each are gone when the next begins."""
        x, carry, initial, c, p = self.counts.split(tensors)
        steps: list[Tensor] = []  # y and the states of all steps
        n_y = len(self.plan.program.y)
        done = _Forward([], [], [])
        for start, stop in self.bounds:
            done.carries.append(carry)
            done.chances.append(_chance(x[0].device) if self.plan.random else [])
            piece = piece_of(self.given, start, stop, [v[start:stop] for v in x], carry, initial, c)
            ys, carry, history = _leaves(run_plan(self.step, self.plan, p, piece))
            carry = [_alone(s) for s in carry]
            found = [*ys, *history]
            if stop - start == self.T:
                steps = found
                break
            steps = steps or [self._room(v) for v in found]
            for whole, part in zip(steps, found, strict=True):
                whole[start:stop] = part
        done.outs = [*steps[:n_y], *carry, *steps[n_y:]]
        return done

    def _room(self, like: Tensor) -> Tensor:
        """For all T steps; zero where no row goes any more."""
        room = like.new_empty(self.T, *like.shape[1:])
        room[max(stop for _, stop in self.bounds) :] = 0
        return room

    def dead(self, outs: list[Tensor]) -> list[Tensor]:
        """Results that carry no gradient."""
        n_y, dead = len(self.plan.program.y), self.plan.dead
        # A row without steps hands its state, and its gradient, through.
        waits = self.given.lengths is not None and bool((self.given.lengths == 0).any())
        flags = [*dead[:n_y], *[d and not waits for d in dead[n_y:]], *dead[n_y:]][: len(outs)]
        return [o for o, d in zip(outs, flags, strict=True) if d or not o.dtype.is_floating_point]

    def backward(
        self,
        tensors: Sequence[Tensor],
        done: _Forward,
        grads: Sequence[Tensor | None],
        wanted: Sequence[bool],
    ) -> list[Tensor | None]:
        """Gradients of the tensors that are wanted: the chunks from the last to the first, each run once more."""
        x = self.counts.split(tensors).x
        n_y, n_x, n_s = len(self.plan.program.y), len(x), self.counts.s
        gy, carried, rest = list(grads[:n_y]), list(grads[n_y : n_y + n_s]), list(grads[n_y + n_s :])
        into = [torch.zeros_like(v) if w else None for v, w in zip(x, wanted, strict=False)]
        sums: list[Tensor | None] = [None] * len(tensors)
        chunks = list(zip(self.bounds, done.carries, done.chances, strict=True))
        for (start, stop), carry, chance in reversed(chunks):
            parts = [*[v[start:stop] for v in x], *carry, *tensors[n_x + n_s :]]
            asks = [*wanted[:n_x], *[s.is_floating_point() for s in carry], *wanted[n_x + n_s :]]
            of = [*_cut(gy, start, stop), *carried, *_cut(rest, start, stop)]
            found = self._again(start, stop, parts, asks, of, chance)
            for whole, g in zip(into, found[:n_x], strict=True):
                if whole is not None and g is not None:
                    whole[start:stop] = g
            carried = found[n_x : n_x + n_s]
            for k in range(n_x + n_s, len(tensors)):
                sums[k] = _added(sums[k], found[k])
        starts = [g if w else None for g, w in zip(carried, wanted[n_x : n_x + n_s], strict=True)]
        sums[: n_x + n_s] = [*into, *starts]
        return [None if g is None else g.to(t.dtype) for g, t in zip(sums, tensors, strict=True)]

    def _again(
        self, start: int, stop: int, parts: list[Tensor], asks: list[bool], grads: list[Tensor | None],
        chance: list[Tensor],
    ) -> list[Tensor | None]:  # fmt: skip
        """Run a chunk once more, and back."""
        leaves = [t.detach().requires_grad_(a) for t, a in zip(parts, asks, strict=True)]
        x, s, initial, c, p = self.counts.split(leaves)
        with torch.enable_grad(), _replayed(chance, x[0].device):
            piece = piece_of(self.given, start, stop, x, s, initial, c)
            ys, finals, history = _leaves(run_plan(self.step, self.plan, p, piece))
            outs = [*ys, *finals, *history]
        pairs = [(o, g) for o, g in zip(outs, grads, strict=True) if g is not None and o.requires_grad]
        inputs = [t for t in leaves if t.requires_grad]
        if not pairs or not inputs:
            return [None] * len(leaves)
        ends, given = [o for o, _ in pairs], [g.to(o.dtype) for o, g in pairs]
        found = iter(torch.autograd.grad(ends, inputs, given, allow_unused=True))
        return [next(found) if t.requires_grad else None for t in leaves]

    def on_the_loop(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The flat results of the same call on the plain loop, in chunks as well, from the tensors that were kept."""
        x, s, initial, c, _ = self.counts.split(tensors)
        given = replace(self.given, x=x, s=s, initial=initial, c=c)
        with self.autocast:
            result = loop_in_chunks(self.plan.at_call(self.step, self.p), self.owner, given, self.every)
        return [t for part in _leaves(result) for t in part]


class _Chunked(torch.autograd.Function):
    """The autograd node of a sequence in chunks. Tensors: x, state, initial state, context, what the step reads."""

    @staticmethod
    def forward(ctx: Any, whole: _Whole, *tensors: Tensor) -> tuple[Tensor, ...]:
        done = whole.forward(tensors)
        ctx.whole, ctx.count, ctx.chances = whole, len(tensors), done.chances
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *[s for carry in done.carries[1:] for s in carry])
        ctx.mark_non_differentiable(*whole.dead(done.outs))
        return tuple(done.outs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        whole: _Whole = ctx.whole
        saved, n_s = ctx.saved_tensors, whole.counts.s
        tensors, later = saved[: ctx.count], saved[ctx.count :]
        if torch.is_grad_enabled():
            rows = Layout(whole.T, whole.B, whole.T, whole.T * whole.B, whole.given.reverse)
            after = list(range(n_s)) if whole.given.return_states else []
            call = Call(whole.plan, rows, whole.counts, after, whole.on_the_loop)
            return (None, *differentiate_again(call, tensors, grads))
        first = whole.counts.split(tensors).s
        carries = [first, *[list(later[i : i + n_s]) for i in range(0, len(later), n_s)]]
        done = _Forward([], carries, ctx.chances)
        return (None, *whole.backward(tensors, done, grads, ctx.needs_input_grad[1:]))


def _cut(grads: list[Tensor | None], start: int, stop: int) -> list[Tensor | None]:
    return [None if g is None else g[start:stop] for g in grads]


def _alone(state: Tensor) -> Tensor:
    """Not a view into the memory of a whole chunk, which it would keep."""
    own = state.untyped_storage().nbytes() <= state.numel() * state.element_size()
    return state if own else state.clone()


def _added(total: Tensor | None, g: Tensor | None) -> Tensor | None:
    """The sum over the chunks, of half precision in single."""
    if g is None:
        return total
    if total is None:
        return g.to(torch.float32 if g.dtype in (torch.float16, torch.bfloat16) else g.dtype, copy=True)
    return total.add_(g)


# ---- random numbers


def _chance(device: torch.device) -> list[Tensor]:
    """The random states that a step on this device draws from."""
    if device.type == "cpu":
        return [torch.get_rng_state()]
    return [torch.get_rng_state(), torch.get_device_module(device).get_rng_state(device)]


@contextmanager
def _replayed(chance: list[Tensor], device: torch.device) -> Iterator[None]:
    """Draw as after `chance` was taken, and leave the random states as they are; nothing where it is empty."""
    if not chance:
        yield
        return
    now = _chance(device)
    _set_chance(chance, device)
    try:
        yield
    finally:
        _set_chance(now, device)


def _set_chance(chance: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(chance[0])
    if len(chance) > 1:
        torch.get_device_module(device).set_rng_state(chance[1], device)


# ---- the plain loop


def loop_in_chunks(step: Step, owner: nn.Module | None, given: Inputs, every: int) -> ScanResult:
    """The call on the plain loop in chunks; in one piece under a torch.func transform or forward mode, which know no
    recomputation, and where no row takes a step."""
    bounds = [] if is_transformed() or is_forward_mode() or given.B == 0 else _bounds(given, every)
    if not bounds:
        return given.loop(step)
    parts = [v.split(every) for v in given.x]
    carry, results, chance = given.s, [], _other_chance()
    empty = _without_tensors(given)
    counts = Counts(len(given.x), len(given.s), len(given.c), 0)
    for start, stop in bounds:
        now = _other_chance()
        chance = chance if now == chance else now  # one for all where nobody draws: it is not small
        chunk = _LoopChunk(step, owner, empty, counts, start, stop, chance)
        tensors = [*[v[start // every][: stop - start] for v in parts], *carry, *given.initial, *given.c]
        if torch.is_grad_enabled():
            result = checkpoint(chunk, *tensors, use_reentrant=False, early_stop=False)
        else:
            result = chunk(*tensors)
        results.append(result)
        carry = flatten(result.state)[0]
    return joined(results[::-1] if given.reverse else results, results[-1].state, given)


def joined(results: list[ScanResult], state: Any, given: Inputs) -> ScanResult:
    """One result of those of the chunks, in the order of time; zeros where no row goes any more."""

    def join(trees: list[Any]) -> Any:
        spec = flatten(trees[0])[1]
        columns = [list(column) for column in zip(*[flatten(tree)[0] for tree in trees], strict=True)]
        left = given.T - sum(v.shape[0] for v in columns[0]) if columns else 0
        rest = [[v[0].new_zeros(left, *v[0].shape[1:])] if left else [] for v in columns]
        return unflatten([torch.cat([*v, *r]) for v, r in zip(columns, rest, strict=True)], spec)

    states = join([r.states for r in results]) if given.return_states else None
    return ScanResult(join([r.y for r in results]), state, states)


class _LoopChunk:
    """A chunk on the plain loop. The first call is the forward; a later one computes it again, and must agree."""

    def __init__(
        self, step: Step, owner: nn.Module | None, given: Inputs, counts: Counts, start: int,
        stop: int, chance: tuple[Any, ...],
    ) -> None:  # fmt: skip
        self.step, self.owner, self.given, self.counts = step, owner, given, counts
        self.start, self.stop = start, stop
        self.chance = chance
        self.marks: list[Tensor] | None = None

    def __call__(self, *tensors: Tensor) -> ScanResult:
        x, s, initial, c, _ = self.counts.split(tensors)
        with nullcontext() if self.marks is None else self._as_before():
            result = piece_of(self.given, self.start, self.stop, x, s, initial, c).loop(self.step)
        marks = [_marks(v) for part in _leaves(result) for v in part if _has_values(v)]
        if self.marks is None:
            self.marks = marks
        elif not all(map(_same, marks, self.marks)):
            raise EngineError(
                f"checkpoint_every: steps {self.start} to {self.stop - 1}, computed again for the backward, gave other "
                "values. The step may change an attribute of its own, draw from a generator of its own, or read a "
                "tensor that was modified by an inplace operation since; hand such things in with x or the state, or "
                "leave checkpoint_every out"
            )
        return result

    @contextmanager
    def _as_before(self) -> Iterator[None]:
        """Python's and numpy's random numbers as at the first time; attributes and buffers afterwards as before."""
        now, snapshot = _other_chance(), Snapshot(self.step, self.owner)
        kept = [(t, t.detach().clone()) for t in snapshot.tensors() if not t.requires_grad]
        _set_other_chance(self.chance)
        try:
            yield
        finally:
            snapshot.restore()
            for t, before in kept:
                t.data.copy_(before)
            _set_other_chance(now)


def _has_values(v: Tensor) -> bool:
    return not v.is_meta and detect_fake_mode([v]) is None


def _marks(v: Tensor) -> Tensor:
    """Two numbers by which values are known again: their sum, and the sum of their sizes."""
    with torch.no_grad():
        v = v.detach()
        wide = (torch.view_as_real(v) if v.is_complex() else v).to(torch.float64)
        return torch.stack((wide.sum(), wide.abs().sum()))


def _same(a: Tensor, b: Tensor) -> bool:
    """But for the order of a sum."""
    slack = 1e-6 * float(b[1].nan_to_num())
    return torch.allclose(a, b, rtol=1e-6, atol=slack, equal_nan=True)


def _other_chance() -> tuple[Any, ...]:
    """The states of Python's and numpy's own random numbers; plain values, so that equal ones are found equal."""
    if (numpy := sys.modules.get("numpy")) is None:
        return (random.getstate(),)
    name, key, *rest = numpy.random.get_state()
    return (random.getstate(), name, key.tobytes(), *rest)


def _set_other_chance(chance: tuple[Any, ...]) -> None:
    random.setstate(chance[0])
    if len(chance) > 1:
        numpy = sys.modules["numpy"]
        numpy.random.set_state((chance[1], numpy.frombuffer(chance[2], dtype=numpy.uint32), *chance[3:]))
