"""Many streams of one model, stepped together, with the numbers that each would have alone.

    session -submit-> work -ready-> place in the batch -steps-> done

A *session* is a sequence that goes on from work to work: its state, and what it is asked for. A *work* is some steps
of one session: it writes the inputs of its next step, and reads that step's outputs, so that it may depend on them, as
writing text does. While a session has work it waits in line, takes one of at most `widest` places, and steps beside the
others; no step waits for a fuller batch. A session that has had its `turn`, so many steps, gives its place up if others
wait, and goes to the end of the line. One that has done its work leaves with that very step.

A session outside the batch is nothing but the bytes of its state: keeping it, handing it out and putting another in
its place touch no session that steps. Each place is overwritten when a session enters it, so nothing of one is ever
seen by the next. The numbers of a row do not depend on its batch (csrc/elman.h), so they are those of the session
alone, bit for bit, whoever comes and goes.

Any thread may call any method; `step` belongs to one thread, and lets go of the interpreter while the core computes.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elman.runtime import Frozen, FrozenError
from elman.serve.worker import Worker

__all__ = [
    "Batcher",
    "BusyError",
    "FaultError",
    "FullError",
    "GoneError",
    "LateError",
    "RefusalError",
    "Session",
    "Work",
]

Arrays = Sequence[npt.NDArray[Any]]


class RefusalError(Exception):
    """What cannot be done now, a sentence."""


class FullError(RefusalError):
    """There are as many sessions, or as much work waits, as is allowed."""


class BusyError(RefusalError):
    """The session has work, or as much of it as is allowed."""


class GoneError(RefusalError):
    """The session is closed: by its owner, or because it was idle for too long."""


class LateError(RefusalError):
    """Work was not done by its deadline; its session is closed, for nobody knows how far it has come."""


class FaultError(RefusalError):
    """A request could not be carried out; its session is closed."""


class Work(ABC):
    """Some steps of a session, at least one. deadline: when it has to be done, by the batcher's clock.

    `done` is called once: with nothing, or with what went wrong. All methods are called by other threads than the one
    that submits the work, one at a time, and must be quick.
    """

    deadline = math.inf

    @abstractmethod
    def write(self, xs: Arrays, row: int) -> None:
        """Put the next step's inputs into a row of each of the arrays."""

    @abstractmethod
    def read(self, ys: Arrays, row: int) -> bool:
        """Take that step's outputs from a row of each of the arrays; True where it was the last step."""

    def done(self, error: RefusalError | None) -> None:  # noqa: B027 - work that nobody waits for
        """Be told that all is done, or why it is not."""


class Session:
    """A sequence that goes on from work to work; made by `Batcher.open`, read by nobody else."""

    __slots__ = ("closed", "place", "state", "taken", "touched", "works")

    def __init__(self, state: bytes, now: float) -> None:
        self.state = state
        self.works: deque[Work] = deque()
        self.place: int | None = None
        self.taken = 0  # steps of this turn
        self.touched = now
        self.closed: RefusalError | None = None


Ended = list[tuple[Work, RefusalError | None]]


class Batcher(Worker):
    """The sessions of a model. FrozenError for one that has no single steps, or takes a context.

    sessions: how many may be open. waiting: how much work may wait or be in progress, of all sessions; queue: of one.
    widest: rows of a step, at most. turn: steps after which a session makes room for those that wait.
    Behind `stop` the sessions are open still, to have their states read.
    """

    def __init__(
        self,
        model: Frozen,
        *,
        sessions: int = 1024,
        waiting: int = 4096,
        queue: int = 8,
        widest: int = 32,
        turn: int = 16,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        if model.contexts:
            raise FrozenError("a model that takes a context cannot be served")
        self.model, self.clock = model, clock
        self.limits = {"sessions": sessions, "waiting": waiting, "queue": queue}
        self.widest, self.turn = widest, turn
        self._stream = model.stream(widest)
        self._start = self._stream.row(0)
        self._xs = [np.zeros((widest, *a.shape), a.dtype) for a in model.inputs]
        self._free = list(range(widest - 1, -1, -1))
        self._running: list[Session] = []
        self._ready: OrderedDict[Session, None] = OrderedDict()
        self._open: set[Session] = set()
        self._waiting = 0

    # Sessions

    @property
    def sessions(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def waiting(self) -> int:
        """How much work waits or is in progress."""
        return self._waiting

    def open(self, state: bytes | None = None) -> Session:
        """A new session, where the model begins or in a state that `state` gave. FullError, FrozenError."""
        self._check_size(state)
        with self._change:
            if self._stopped:
                raise GoneError("the server is going down")
            if len(self._open) >= self.limits["sessions"]:
                raise FullError(f"{len(self._open)} sessions are open, which is as many as are allowed")
            session = Session(self._start if state is None else state, self.clock())
            self._open.add(session)
        return session

    def submit(self, session: Session, work: Work) -> None:
        """Have work done, behind what the session has already. GoneError, BusyError, FullError."""
        with self._change:
            if session.closed:
                raise session.closed
            if len(session.works) >= self.limits["queue"]:
                raise BusyError(
                    f"{len(session.works)} requests of this session wait, which is as many as are allowed"
                )
            self.check_room()
            session.works.append(work)
            self._waiting += 1
            session.touched = self.clock()
            if session.place is None and session not in self._ready:
                self._ready[session] = None
                self._change.notify()

    def check_room(self) -> None:
        """FullError where no more work is taken."""
        if self._waiting >= self.limits["waiting"]:
            raise FullError(f"{self._waiting} requests wait, which is as many as are allowed")

    def close(self, session: Session, why: RefusalError | None = None) -> None:
        """End a session at once; what it still had to do is told `why`. One that is closed stays so."""
        with self._change:
            ended = self._close(session, why or GoneError("the session is closed"))
        _tell(ended)

    def state(self, session: Session) -> bytes:
        """The state after all that is done. GoneError; BusyError while there is work."""
        with self._change:
            self._check_rest(session)
            return session.state

    def put_state(self, session: Session, state: bytes | None) -> None:
        """Go on from another state; None is where the model begins. GoneError, BusyError, FrozenError."""
        self._check_size(state)
        with self._change:
            self._check_rest(session)
            session.state = self._start if state is None else state
            session.touched = self.clock()

    def evict(self, idle: float) -> list[tuple[Session, bytes]]:
        """Close the sessions that have had no work for so many seconds; gives them with their states."""
        with self._change:
            before = self.clock() - idle
            found = [s for s in self._open if not s.works and s.touched <= before]
            for session in found:
                self._close(session, GoneError(f"the session was closed: it was idle for {idle:g} seconds"))
        return [(session, session.state) for session in found]

    def expire(self) -> None:
        """Close the sessions whose work has passed its deadline."""
        with self._change:
            ended = self._expire(self._open)
        _tell(ended)

    def give_up(self) -> None:
        """Close all sessions."""
        with self._change:
            why = GoneError("the server is going down")
            ended = [pair for session in list(self._open) for pair in self._close(session, why)]
        _tell(ended)

    def _check_size(self, state: bytes | None) -> None:
        if state is not None and len(state) != len(self._start):
            raise FrozenError(f"a state of this model is {len(self._start)} bytes, not {len(state)}")

    def _check_rest(self, session: Session) -> None:
        if session.closed:
            raise session.closed
        if session.works:
            raise BusyError("the session has work: its state is known when that is done")

    def _close(self, session: Session, why: RefusalError) -> Ended:
        """A session that has a place keeps it until the step in progress is over, and no longer."""
        if session.closed:
            return []
        session.closed = why
        self._open.discard(session)
        self._ready.pop(session, None)
        ended: Ended = [(work, why) for work in session.works]
        self._waiting -= len(session.works)
        session.works.clear()
        return ended

    def _expire(self, sessions: Iterable[Session]) -> Ended:
        now = self.clock()
        late = [s for s in sessions if s.works and min(work.deadline for work in s.works) <= now]
        why = LateError("the time that a request may take was over before it was done")
        return [pair for session in late for pair in self._close(session, why)]

    # Steps

    def step(self) -> int:
        """One step of the sessions in the batch; how many took it."""
        ended: Ended = []
        try:
            with self._change:
                active = self._compose(ended)
            if active:
                began = time.perf_counter()
                xs = [x[: len(active)] for x in self._xs]
                ys, faults = self._stepped(np.array([s.place for s in active]), xs)
                with self._change:
                    self._read(active, ys, faults, ended)
                    self.steps += 1
                    self.rows += len(active)
                    self.seconds += time.perf_counter() - began
        finally:
            _tell(ended)
        return len(active)

    def _compose(self, ended: Ended) -> list[Session]:
        """Who takes the next step, each with its inputs in its row."""
        ended += self._expire(self._running)
        for session in [s for s in self._running if s.closed]:
            self._leave(session)
        over = len(self._ready) - len(self._free)
        for session in [s for s in self._running if s.taken >= self.turn][: max(over, 0)]:
            self._leave(session)
            self._ready[session] = None
        while self._free and self._ready:
            session, _ = self._ready.popitem(last=False)
            ended += self._expire([session])
            if not session.closed:
                self._enter(session)
        active: list[Session] = []
        for session in list(self._running):
            try:
                session.works[0].write(self._xs, len(active))
            except Exception as error:  # noqa: BLE001 - one session's fault is not the others'
                self._fail(session, error, ended)
            else:
                active.append(session)
        return active

    def _stepped(self, places: npt.NDArray[np.int64], xs: Arrays) -> tuple[Arrays, dict[int, FrozenError]]:
        """The outputs of a row for each place. Where the core refuses all for the sake of one, they go one by one."""
        try:
            ys = self._stream.step_rows(places, *xs)
        except FrozenError as error:
            if len(places) == 1:
                return [np.zeros((1, *a.shape), a.dtype) for a in self.model.outputs], {0: error}
        else:
            return (ys if isinstance(ys, tuple) else (ys,)), {}
        rows = [slice(i, i + 1) for i in range(len(places))]
        parts = [self._stepped(places[row], [x[row] for x in xs]) for row in rows]
        faults = {i: fault[0] for i, (_, fault) in enumerate(parts) if fault}
        return [np.concatenate(ys) for ys in zip(*(ys for ys, _ in parts), strict=True)], faults

    def _read(self, active: list[Session], ys: Arrays, faults: dict[int, FrozenError], ended: Ended) -> None:
        """Hand the outputs out; who is done leaves."""
        now = self.clock()
        for row, session in enumerate(active):
            if session.closed:
                self._leave(session)
                continue
            session.taken += 1
            try:
                if row in faults:
                    raise faults[row]
                over = session.works[0].read(ys, row)
            except Exception as error:  # noqa: BLE001 - one session's fault is not the others'
                self._fail(session, error, ended)
                continue
            if over:
                ended.append((session.works.popleft(), None))
                self._waiting -= 1
                session.touched = now
                if not session.works:
                    self._leave(session)

    def _enter(self, session: Session) -> None:
        session.place, session.taken = self._free.pop(), 0
        self._stream.set_row(session.place, session.state)
        self._running.append(session)

    def _leave(self, session: Session) -> None:
        assert session.place is not None
        if not session.closed:
            session.state = self._stream.row(session.place)
        self._free.append(session.place)
        self._running.remove(session)
        session.place = None

    def _fail(self, session: Session, error: Exception, ended: Ended) -> None:
        why = FaultError(f"the request could not be carried out: {error}")
        why.__cause__ = error
        ended += self._close(session, why)
        self._leave(session)

    def _has_work(self) -> bool:
        return bool(self._running or self._ready)


def _tell(ended: Ended) -> None:
    """Outside the lock, for who is told may ask for more."""
    for work, error in ended:
        work.done(error)
