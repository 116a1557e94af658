"""Steps that set tensor attributes anew at each step: a record (`self.attn = a.detach()`), weights that a hook makes.

Such a step is a step like any other as long as nothing reads at one step what another one has left. It is traced with
the attributes put back after each run, alternately with the old values and with those of the run before in them, so
that a step that reads them shows two faces and is refused. In a call all steps but the last one processed go the fast
path; the last one is the user's own in Python, and leaves behind what it leaves behind in a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from elman.engine.call.checkpoint import joined, piece_of
from elman.engine.call.inputs import Inputs
from elman.engine.errors import EngineError, NotSupported
from elman.engine.explain import Explanation
from elman.engine.structure import ScanResult, flatten, unflatten

__all__ = ["Recorder"]

_ABSENT = object()
Step = Callable[..., Any]
Places = list[tuple[dict[str, Any], str]]


class Records:
    """The attributes that a step sets: where they are, what was there before, and what a call has left."""

    watched_by_identity = True  # it is no part of what the step computes
    __slots__ = ("left", "old", "places", "run", "runs")

    def __init__(self, places: Places) -> None:
        self.places = places
        self.old = self._now()
        self.left: list[Any] | None = None
        self.run: list[Any] | None = None
        self.runs = 0

    def _now(self) -> list[Any]:
        return [mapping.get(key, _ABSENT) for mapping, key in self.places]

    def _put(self, values: list[Any]) -> None:
        for (mapping, key), value in zip(self.places, values, strict=True):
            if value is _ABSENT:
                mapping.pop(key, None)
            else:
                mapping[key] = value

    def before_a_run(self) -> None:
        """Every second run sees what the one before has set."""
        self.runs += 1
        self._put(self.run if self.run is not None and self.runs % 2 == 0 else self.old)

    def after_a_run(self) -> None:
        self.run = self._now()
        self._put(self.old)

    def as_traced(self, ask: Callable[[], Any]) -> Any:
        """What `ask` says with the attributes as they were before the call; what the call has left is put back."""
        now = self._now()
        self._put(self.old)
        try:
            return ask()
        finally:
            self._put(now)

    def before_a_call(self) -> None:
        """As it was when the step was traced, but for what somebody else has set since."""
        now = self._now()
        if self.left is not None:
            now = [o if n is at else n for n, at, o in zip(now, self.left, self.old, strict=True)]
        self.old = now
        self._put(now)

    def after_a_call(self) -> None:
        self.left = self._now()


def recorded(records: Records, step: Step, *arguments: Any) -> Any:
    """The step, leaving no record."""
    records.before_a_run()
    try:
        return step(*arguments)
    finally:
        records.after_a_run()


class Recorder:
    """Runs all steps but the last one processed by a scan of their own, and that one as the user wrote it."""

    def __init__(self, scan: Any, places: Places) -> None:
        self.records = Records(places)
        self.inner = type(scan)(self._step(scan), owner=scan.owner, fallback="error", backend=scan.backend)

    def _step(self, scan: Any) -> Step:
        return partial(recorded, self.records, scan.step)

    def call(self, scan: Any, given: Inputs, every: int | None) -> ScanResult | None:
        """The call, or None where the fast path does not take the step so either."""
        self.inner.backend, self.inner.step = scan.backend, self._step(scan)
        self.records.before_a_call()
        try:
            result = self._run(scan.step, given, every)
        except EngineError as error:
            if not isinstance(error.__cause__, NotSupported):
                raise
            scan._recorder = None
            return None
        finally:
            self.records.after_a_call()
        said = self.inner.explain()
        if said.path is None:
            said = Explanation("loop", "one step, which sets attributes, is run as it is written")
        scan.path, scan._explanation = said.path, said
        return result

    def _run(self, step: Step, given: Inputs, every: int | None) -> ScanResult:
        steps = given.T if given.lengths is None else int(given.lengths.max())
        if steps == 1:
            return given.loop(step)
        first, last = ((1, steps), (0, 1)) if given.reverse else ((0, steps - 1), (steps - 1, steps))
        head = _part(given, *first, given.s)
        result: ScanResult = self.inner(
            unflatten(head.x, head.x_spec), unflatten(head.s, head.s_spec),
            context=None if head.c_spec is None else unflatten(head.c, head.c_spec),
            initial_state=None if head.reset is None else unflatten(head.initial, head.s_spec),
            lengths=head.lengths, reset=head.reset, reverse=head.reverse, return_states=head.return_states,
            checkpoint_every=every,
        )  # fmt: skip
        end = _part(given, *last, flatten(result.state)[0]).loop(step)
        return joined([end, result] if given.reverse else [result, end], end.state, given)


def _part(given: Inputs, start: int, stop: int, s: list[Tensor]) -> Inputs:
    part = piece_of(given, start, stop, [v[start:stop] for v in given.x], s, given.initial, given.c)
    return part if given.reset is not None else replace(part, initial=part.s)
