"""The public door: a step, unfolded over a sequence, on the fastest path that is right for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from elman.engine.backends import BACKENDS, backend_of_environment, choose_loops
from elman.engine.call.cached import Cached, is_cached
from elman.engine.call.checkpoint import carrying, check_every, loop_in_chunks, run_in_chunks
from elman.engine.call.choice import loop_is_faster, may_be_slower
from elman.engine.call.holes import Holes
from elman.engine.call.inputs import Inputs, Manner, common_length, gather, manner_of
from elman.engine.call.paired import any_complex, on_pairs
from elman.engine.call.quick import Again, OnTheLoop, remember, remember_loop
from elman.engine.call.records import Recorder
from elman.engine.call.run import Plan, run_plan
from elman.engine.call.surroundings import (
    TRANSFORMED,
    Unfinished,
    alone,
    check_modules,
    check_tensors,
    faster_than_a_transform,
    half_precision,
    only_the_loop,
    refuse_tracing,
    unseen,
)
from elman.engine.compiler.compiling import scan_compiled, stay_outside
from elman.engine.errors import EngineError, EngineWarning, NotSupported, user_level
from elman.engine.explain import Explanation, debug, explain_program
from elman.engine.program.ops import is_random
from elman.engine.structure import ScanResult, flatten, unflatten
from elman.engine.trust.families import Anew, Axes, Entry, Family, Wanted, bound, same_way, traced
from elman.engine.trust.verify import Execute, verify, verify_case, verify_size
from elman.engine.watching.guards import Guard, make_guard, reach
from elman.engine.watching.snapshot import Snapshot

__all__ = ["Scan"]

_MOST_ENTRIES, _MOST_FAMILIES, _MOST_SIZES = 16, 8, 256
_STEPS_OF_A_CHUNK = 2  # of three, when chunks are verified
_FEW_ROWS = 3  # of a batch size that is known


class Scan:
    """One recurrent step, unfolded over T steps, forward and backward (BPTT).

    step: `(x_t, state[, context]) -> (y_t, next_state)` or `-> next_state`; a module, a function or a partial.
    owner: the module whose parameters, buffers and attributes the step reads (default: `step` if it is a module).
    fallback: what happens where a step is outside the rules of the fast path: "warn" (the plain loop and one
    EngineWarning) or "error" (EngineError). backend: None (the fastest that can), "native", "reference" or "loop";
    a backend that is named and cannot run the step is an EngineError.
    """

    watched_by_identity = True  # a scan in a module's attribute is no part of what the module computes

    def __init__(
        self,
        step: Callable[..., Any],
        *,
        owner: nn.Module | None = None,
        fallback: str = "warn",
        backend: str | None = None,
    ) -> None:
        if not callable(step):
            raise EngineError(
                f"step is a {type(step).__name__}; expected a callable (x_t, state) -> (y_t, next_state)"
            )
        if fallback not in ("warn", "error"):
            raise EngineError(f"fallback={fallback!r}; expected 'warn' or 'error'")
        if backend is not None and backend not in BACKENDS:
            raise EngineError(f"backend={backend!r}; expected None or one of {BACKENDS}")
        self.step = step
        self.owner = owner if owner is not None else (step if isinstance(step, nn.Module) else None)
        self.fallback = fallback
        self.backend = backend
        self._forget()

    def _forget(self) -> None:
        self.path: str | None = None
        self._entries: list[Entry] = []
        self._families: list[Family] = []
        self._anew = Anew()
        self._explanation = Explanation(None)
        self._warned: set[str] = set()
        self.last: Again | OnTheLoop | None = None
        self._holes = Holes()  # for calls with a mask
        self._recorder: Recorder | None = None
        self._cached: Cached | None = None  # for calls under parametrize.cached()
        self.pairs: Scan | None = None  # for calls with complex numbers
        self._sets: list[tuple[dict[str, Any], str]] = []  # attributes that the step was last seen to set
        self._refused: dict[str, int] = {}
        self._slower: dict[tuple[Any, ...], str] = {}  # kinds of calls for which the loop was measured faster

    def __getstate__(self) -> dict[str, Any]:
        """What was traced stays behind when a scan is copied or pickled."""
        return {"step": self.step, "owner": self.owner, "fallback": self.fallback, "backend": self.backend}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __repr__(self) -> str:
        name = getattr(self.step, "__name__", type(self.step).__name__)
        return f"Scan({name}, path={self.path!r})"

    def explain(self) -> Explanation:
        """Which path the last call took and why, part by part."""
        return self._explanation

    def __call__(
        self,
        x: Any,
        state: Any,
        *,
        context: Any = None,
        initial_state: Any = None,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
        reverse: bool = False,
        return_states: bool = False,
        checkpoint_every: int | None = None,
    ) -> ScanResult:
        """Run over a sequence; see `elman.engine.call.loop.plain_loop` for the meaning and shape of each argument.

        mask: bool `(T, B)`, true where a row takes the step. Where it does not, its state is held, y and the states are
        zero, and nothing of that step reaches a value or a gradient; a reset there waits for the row's next step.
        checkpoint_every: k steps at a time, each chunk computed again in the backward (`elman.engine.call.checkpoint`):
        beside x, the results and their gradients one state `(B, ...)` for every k steps is kept, not what each step
        keeps. It costs one more forward, and a call's overhead for each chunk; about sqrt(T) needs the least memory.
        """
        if mask is not None:
            return self._holes.call(
                self, mask, x, state, lengths, reset, context=context, initial_state=initial_state, reverse=reverse,
                return_states=return_states, checkpoint_every=checkpoint_every,
            )  # fmt: skip
        alike = initial_state is None and reset is None and not return_states and checkpoint_every is None
        if alike and (last := self.last) is not None:
            made_once = is_cached(self.step, self.owner)
            result = None if made_once else last.call(self, (x, state, context), reverse, lengths)
            if result is not None:
                return result
        if lengths is not None and (length := common_length(x, lengths)) is not None:
            return self._cut(
                length, x, state, context=context, initial_state=initial_state, reset=reset, reverse=reverse,
                return_states=return_states, checkpoint_every=checkpoint_every,
            )  # fmt: skip
        if not torch.compiler.is_compiling():
            refuse_tracing()
        check_every(checkpoint_every)
        given = gather(x, state, context, initial_state, lengths, reset, reverse, return_states)
        if torch.compiler.is_compiling():
            return self._in_compiler(given, checkpoint_every)
        wanted = self.backend or backend_of_environment()
        if wanted == "loop":
            return self.as_loop(
                given, "the plain loop was asked for", "", checkpoint_every, (x, state, context)
            )
        if (why := only_the_loop(given)) is not None:
            hint = self._say_transformed() if why is TRANSFORMED else ""
            return self.as_loop(given, why, hint, checkpoint_every)
        return self._on_the_fast_path(given, wanted, checkpoint_every, (x, state, context))

    def _on_the_fast_path(
        self, given: Inputs, wanted: str | None, checkpoint_every: int | None, trees: tuple[Any, Any, Any]
    ) -> ScanResult:
        if is_cached(self.step, self.owner):
            self._cached = self._cached or Cached(self)
            return self._cached.call(self, given, checkpoint_every)
        if any_complex((*given.x, *given.s, *given.c)):
            return on_pairs(self, given, checkpoint_every)
        recorded = None if self._recorder is None else self._recorder.call(self, given, checkpoint_every)
        if recorded is not None:
            return recorded
        if self._slower and wanted is None and (slow := self._slower.get(given.key())) is not None:
            return self.as_loop(given, slow, "", checkpoint_every, trees)
        try:
            with unseen() if torch._C._len_torch_dispatch_stack() else nullcontext():
                entry, plan = self._look(given, wanted, checkpoint_every)
        except NotSupported as reason:
            return self._fall_back(given, reason, checkpoint_every)
        if wanted is None and self.fallback != "error":
            self._weigh(entry, plan, given)
        if plan.slower:
            self._slower[given.key()] = plan.reason
            return self.as_loop(given, plan.reason, every=checkpoint_every)
        self._say(entry, plan, given)
        if checkpoint_every is not None:
            tensors = entry.guard.tensors()
            return run_in_chunks(self.step, self.owner, plan, tensors, given, checkpoint_every)
        self.last = remember(entry.guard, plan, given, trees)
        return run_plan(self.step, plan, entry.guard.tensors(), given)

    def _cut(self, length: int, x: Any, state: Any, *, reset: Any, **arguments: Any) -> ScanResult:
        """A call in which all rows have one length: without lengths, on so many steps."""
        leaves, spec = flatten(x)
        T = leaves[0].shape[0]
        if length == T:
            return self(x, state, reset=reset, **arguments)
        if not all(isinstance(t, Tensor) and t.shape[0] == T for t in leaves):
            raise EngineError(
                f"the tensors of x begin with {[tuple(t.shape[:1]) for t in leaves]}; expected one T"
            )
        cut = unflatten([t[:length] for t in leaves], spec)
        if isinstance(reset, Tensor) and reset.shape[:1] == (T,):
            reset = reset[:length]
        y, final, states = self(cut, state, reset=reset, **arguments)

        def padded(tree: Any) -> Any:
            parts, kind = flatten(tree)
            return unflatten([torch.cat((t, t.new_zeros(T - length, *t.shape[1:]))) for t in parts], kind)

        return ScanResult(padded(y), final, None if states is None else padded(states))

    # -- torch.compile and torch.export

    def _in_compiler(self, given: Inputs, every: int | None) -> ScanResult:
        """The call as one operator; a step that has none breaks the compiler's graph, saying why, and runs outside."""
        result = scan_compiled(self, given) if every is None else stay_outside(self)
        if not isinstance(result, str):
            return result
        if self.fallback == "error" if every is None else not torch.compiler.is_dynamo_compiling():
            raise EngineError(result)
        if torch.compiler.is_dynamo_compiling():
            torch._dynamo.graph_break(msg=result)
        return given.loop(self.step)

    def prepare(self, given: Inputs, wanted: str | None) -> tuple[Guard, Plan]:
        """The verified plan of this kind of call, and what it rests on. Raises NotSupported where there is none."""
        if wanted == "loop":
            raise NotSupported("the plain loop was asked for")
        entry, plan = self._look(given, wanted, None)
        return entry.guard, plan

    def trust(self, given: Inputs, plan: Plan, manner: Manner, execute: Execute) -> None:
        """Verify others who carry out the plan of a prepared call. Raises NotSupported where they differ from the step
        in a loop, which answers all calls like it from then on."""
        if manner not in plan.seen:
            self._see_manner(self._entry(given), plan, given, manner, execute)

    # -- the plain loop

    def as_loop(
        self, given: Inputs, reason: str, hint: str = "", every: int | None = None, trees: Any = None
    ) -> ScanResult:
        """trees: x, state and context of a call for which the loop is right whatever changes."""
        said = self._explanation
        if (self.path, said.path, said.reason, said.hint) != ("loop", "loop", reason, hint):
            self.path, self._explanation = "loop", Explanation("loop", reason, hint)
            debug(1, f"{self!r}: {reason}")
        # what is made once a call is not made again in a chunk
        if every is None or is_cached(self.step, self.owner):
            self.last = None if trees is None else remember_loop(given, trees, self._explanation)
            return given.loop(self.step)
        return loop_in_chunks(self.step, self.owner, given, every)

    def _fall_back(self, given: Inputs, reason: NotSupported, every: int | None) -> ScanResult:
        if isinstance(reason, Unfinished):
            return self.as_loop(given, reason.reason, every=every)
        if self._sets and self._recorder is None:
            self._recorder, self._sets = Recorder(self, self._sets), []
            if (result := self._recorder.call(self, given, every)) is not None:
                return result
        text = f"this cell runs on the plain Python loop: {reason.reason}"
        if reason.hint:
            text += f"; instead: {reason.hint}"
        if self.fallback == "error":
            raise EngineError(text) from reason
        if self.backend is not None:
            raise EngineError(self._named(text)) from reason
        self._warn_once(reason.reason.rsplit(" at ", 1)[-1], text)  # one warning for each line of the step
        self._say_anew()
        result = self.as_loop(given, reason.reason, reason.hint, every)
        # a step that is refused again for the same reason is not traced anew for what it changes itself
        entry = next((e for e in self._entries if e.reason and e.reason.reason == reason.reason), None)
        if entry is not None:
            self._refused[reason.reason] = self._refused.get(reason.reason, 0) + 1
            if self._refused[reason.reason] > 1:
                entry.guard.settle()
        return result

    # -- the fast path

    def _say_anew(self) -> None:
        if text := self._anew.take():
            warnings.warn(text, EngineWarning, stacklevel=user_level())

    def _weigh(self, entry: Entry, plan: Plan, given: Inputs) -> None:
        """Once for a plan: whether the user's own loop is faster."""
        tensors = entry.guard.tensors()
        if not may_be_slower(plan, tensors, given):
            return
        with self._left_alone(entry):
            plan.slower, times = loop_is_faster(self.step, plan, tensors, given)
        chosen = "the loop is faster" if plan.slower else "faster than the loop"
        plan.reason = f"{plan.reason}; {chosen} ({times})"

    def _say_transformed(self) -> str:
        """Once, that a torch.func transform is answered by the plain loop; an error where that is not to be. What would
        be faster, where something is."""
        hint = faster_than_a_transform()
        text = f"this cell runs on the plain Python loop: {TRANSFORMED}" + (
            f"; instead: {hint}" if hint else ""
        )
        if self.fallback == "error" or self.backend is not None:
            raise EngineError(text if self.backend is None else self._named(text))
        if hint:
            self._warn_once(TRANSFORMED, text)
        return hint

    def _named(self, text: str) -> str:
        return text.replace(
            "this cell runs on the plain Python loop", f"backend={self.backend!r} cannot run this cell"
        )

    def _warn_once(self, key: str, text: str) -> None:
        if key not in self._warned:
            self._warned.add(key)
            warnings.warn(text, EngineWarning, stacklevel=user_level())

    def _say(self, entry: Entry, plan: Plan, given: Inputs) -> None:
        self._say_anew()
        if self.path != plan.loops.name or self._explanation.path != plan.loops.name:
            self.path = plan.loops.name
            self._explanation = explain_program(plan.loops.name, plan.program, plan.reason)
            debug(1, f"{self!r} {plan.reason}")
            if self.path == "reference" and plan.reason.startswith("not native") and self.backend is None:
                self._say_reference(entry, given)

    def _say_reference(self, entry: Entry, given: Inputs) -> None:
        """Once, that the reference runs where the step itself is not what keeps it from the core."""
        device = given.x[0].device.type
        half = half_precision(given, entry.guard.tensors()) if device == "cpu" else ""
        if device != "cpu":
            text = f"custom cells run on the reference backend on {device}: a torch call for each operation"
            self._warn_once(device, text)
        elif half:
            self._warn_once("half", half)

    def _look(self, given: Inputs, wanted: str | None, every: int | None) -> tuple[Entry, Plan]:
        """The trace and the verified plan for this call. NotSupported where there is none, whatever the trouble."""
        try:
            check_tensors([*given.x, *given.s, *given.initial, *given.c], "x, the state or the context")
            return self._ready(given, wanted, every)
        except (NotSupported, EngineError):
            raise
        except Exception as error:
            raise NotSupported(
                f"the engine could not look at the step ({type(error).__name__}: {error})",
                hint="nothing is wrong with the cell; backend='loop' says that the loop is meant",
            ) from error

    def _ready(self, given: Inputs, wanted: str | None, every: int | None) -> tuple[Entry, Plan]:
        entry = self._entry(given)
        manner = manner_of(given, every)
        try:
            plan = self._plan(entry, given if every is None else carrying(given), wanted)
            if manner not in plan.seen:
                self._see_manner(entry, plan, given, manner)
                entry.agree((plan.needs, wanted))
            if given.B not in plan.sizes:
                self._see_size(entry, plan, given)
        except Exception as error:
            if entry.family is None:
                raise
            entry.reason = NotSupported(str(error))  # at these sizes; a trace of their own may do
            if not any(entry.family.seen.values()):
                self._families = [f for f in self._families if f is not entry.family]
                self._anew.unfit[entry.family.kind, entry.family.axes] = str(error)
            return self._ready(given, wanted, every)
        return entry, plan

    def _entry(self, given: Inputs) -> Entry:
        """The trace for this kind of call, a new one where there is none that still holds."""
        if (entry := self._known(given) or self._new(given)).reason is not None:
            raise entry.reason.again()
        return entry

    def _known(self, given: Inputs) -> Entry | None:
        key = kind, sizes = given.key()
        for i, entry in enumerate(self._entries):
            if entry.key == key and entry.guard.holds():
                if i:
                    self._entries.insert(0, self._entries.pop(i))
                return entry
        for family in self._families:
            values = bound(family.axes, sizes) if family.kind == kind else None
            if values is None or not family.guard.holds():
                continue
            if family.pattern is None:
                return family.entries[()]
            found = family.entries.get(values) or self._member(family, given, key, values)
            if found.reason is None:
                return found
        return None

    def _new(self, given: Inputs) -> Entry:
        """A new trace; for sizes that vary, where some did already."""
        key = kind, sizes = given.key()
        with self._anew.measured(self._entries, key):
            axes = self._anew.axes(self._entries, self._families, key)
            entry = self._trace(key, given, axes) if axes != sizes else None
            if entry is not None and entry.reason is None:
                return entry
            if entry is not None and entry.reason is not None and entry.family is None:
                self._anew.unfit[kind, axes] = entry.reason.reason
            entry = self._trace(key, given)
        if (alike := same_way(entry, self._entries)) is not None:
            self._families = [alike, *self._families][:_MOST_FAMILIES]
        self._entries = [entry, *self._entries][:_MOST_ENTRIES]
        return entry

    def _member(self, family: Family, given: Inputs, key: Any, sizes: tuple[int, ...]) -> Entry:
        """The entry of a family for other sizes than those that were seen so far."""
        snapshot = Snapshot(self.step, self.owner)
        try:
            with alone():
                family.check(given, sizes)
            family.guard.check_undisturbed()
        except NotSupported as reason:
            return family.entry(key, sizes, reason.again())
        finally:
            snapshot.restore()
        return family.entry(key, sizes)

    def _trace(self, key: tuple[Any, ...], given: Inputs, axes: Axes | None = None) -> Entry:
        """The entry of a new trace. axes: which sizes are to vary; it is one of a family then."""
        check_modules(self.step, self.owner)
        snapshot, reached = Snapshot(self.step, self.owner), reach(self.step, self.owner)
        axes = axes or given.sizes()
        try:
            with alone():
                graph, dtypes, pattern = traced(self.step, given, snapshot, reached, axes)
            snapshot.check()
            reached.check()
            guard = make_guard(self.step, self.owner, graph.externals, reached)
            debug(2, "\n".join(map(str, graph.nodes)))
            if pattern is None:
                return Entry(key, guard, graph, dtypes)
            family = Family(key[0], axes, guard, graph, dtypes, pattern)
            self._families = [family, *self._families][:_MOST_FAMILIES]
            return self._member(family, given, key, bound(axes, key[1]) or ())
        except NotSupported as reason:
            told = reached.better_reason(snapshot.better_reason(reason))
            self._sets = snapshot.set_tensors()
            snapshot.restore()
            reached.restore()
            guard = make_guard(self.step, self.owner, [], reached, alone=True)
            return Entry(key, guard, reason=told.again())
        finally:
            snapshot.restore()
            reached.restore()

    def _see_manner(
        self, entry: Entry, plan: Plan, given: Inputs, manner: Manner, execute: Execute | None = None
    ) -> None:
        """At the first call of each manner, whoever will carry it out is compared with the user's own step."""
        in_chunks = partial(run_in_chunks, self.step, self.owner, every=_STEPS_OF_A_CHUNK)
        run = execute or (in_chunks if manner.chunks else partial(run_plan, self.step))
        with self._left_alone(entry):
            verify(self.step, plan, entry.guard.tensors(), given, entry.dtypes, manner, run)
        plan.seen.add(manner)

    @contextmanager
    def _left_alone(self, entry: Entry) -> Iterator[None]:
        """Small runs of the step leave no trace; what they refuse is refused for good."""
        snapshot = Snapshot(self.step, self.owner)
        try:
            with alone():
                yield
            entry.guard.check_undisturbed()
        except NotSupported as reason:
            entry.reason = reason.again()
            raise
        finally:
            snapshot.restore()

    def _see_size(self, entry: Entry, plan: Plan, given: Inputs) -> None:
        """At each new batch size (up to a bound) one step is compared with the user's own."""
        if len(plan.sizes) >= _MOST_SIZES:
            return
        if not entry.believes(given.B):
            with self._left_alone(entry):
                verify_size(self.step, plan, entry.guard.tensors(), given)
            entry.believe(given.B)
        plan.sizes.add(given.B)

    def _plan(self, entry: Entry, given: Inputs, wanted: str | None) -> Plan:
        needs = entry.needs(given)
        plan = entry.plans.get((needs, wanted))
        if plan is not None:
            return plan
        assert entry.graph is not None and entry.graph.y_spec is not None
        try:
            program = entry.lowered(needs)
            debug(3, str(program))
            loops, reason = choose_loops(program, wanted, given.x[0].device)
        except NotSupported as error:
            entry.reason = error.again()
            raise
        plan = Plan.of(program, loops, entry.graph, s_spec=given.s_spec, needs=needs, reason=reason)
        plan.random, plan.held = any(is_random(n) for n in entry.graph.nodes), entry.guard.held
        if entry.family is not None:
            plan.seen = entry.family.seen.setdefault((needs, wanted), set())
            if plan.seen:
                self._see_case(entry, plan, (needs, wanted), given)
        entry.plans[needs, wanted] = plan
        return plan

    def _see_case(self, entry: Entry, plan: Plan, kind: Wanted, given: Inputs) -> None:
        """At other sizes than those at which a program was verified it is compared anew, unless these lie between."""
        if not entry.is_between(kind, given.B):
            rows = _FEW_ROWS if entry.knows(given.B) else given.B
            with self._left_alone(entry):
                verify_case(self.step, plan, entry.guard.tensors(), given, entry.dtypes, rows)
            entry.agree(kind)
            entry.believe(given.B)
        plan.sizes.add(given.B)
