"""Sessions that share steps against each alone, bit for bit, whoever comes, goes, is late, idle or not a number."""

import ctypes
import itertools
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import elman
from elman.frozen.exporting import frozen_bytes
from elman.nn.networks import LanguageModel
from elman.runtime import Frozen, FrozenError
from elman.runtime.library import library
from elman.serve.batcher import Batcher, BusyError, FaultError, FullError, GoneError, LateError, Session, Work
from elman.serve.works import Rows

NAMES = ("GRU", "LSTM", "float64")


@cache
def models() -> dict[str, Frozen]:
    torch.manual_seed(1)
    layers = {
        "LSTM": elman.LSTM(5, 7, num_layers=2, learn_initial_state=True),
        "GRU": elman.GRU(3, 33),
        "float64": elman.RNN(2, 9).double(),
    }
    for name, parameter in layers["LSTM"].named_parameters():
        if "initial" in name:
            torch.nn.init.normal_(parameter)
    return {name: Frozen(frozen_bytes(layer)) for name, layer in layers.items()}


@pytest.fixture(scope="module")
def words() -> Frozen:
    torch.manual_seed(2)
    return Frozen(frozen_bytes(LanguageModel(11, 6, 8)))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Client:
    """A session, the model run for it alone, and what both have given."""

    session: Session
    alone: Any
    works: list[Rows] = field(default_factory=list)
    expected: list[np.ndarray] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)

    def tell(self, work: Rows, error: Exception | None) -> None:
        self.told.append((work, error))


class Hall:
    """Drawn clients of one batcher; every answer is compared when it is given."""

    def __init__(self, model: Frozen, seed: int, *, widest: int, turn: int) -> None:
        self.model, self.draw, self.clock = model, np.random.default_rng(seed), Clock()
        self.batcher = Batcher(
            model, sessions=9, waiting=20, queue=3, widest=widest, turn=turn, clock=self.clock
        )
        self.clients: list[Client] = []
        self.compared = 0

    def rows(self, steps: int) -> list[np.ndarray]:
        x = [self.draw.standard_normal((steps, *a.shape)).astype(a.dtype) for a in self.model.inputs]
        if self.draw.random() < 0.15:
            x[0][self.draw.integers(steps)] = self.draw.choice([np.nan, np.inf, -np.inf])
        return x

    def join(self) -> None:
        alone = self.model.stream(1)
        kept = None
        givers = [c for c in self.clients if not c.session.works and not c.session.closed]
        if givers and self.draw.random() < 0.4:
            giver = givers[self.draw.integers(len(givers))]
            kept = self.batcher.state(giver.session)
            assert kept == giver.alone.row(0)
            alone.set_row(0, kept)
        try:
            self.clients.append(Client(self.batcher.open(kept), alone))
        except FullError:
            assert self.batcher.sessions == 9

    def ask(self) -> None:
        client = self.any()
        if client is None:
            return
        late = self.clock.now + self.draw.choice([1, 3, np.inf])
        xs = self.rows(self.draw.integers(1, 9))
        work = Rows(self.model, xs, client.tell, deadline=late)
        try:
            self.batcher.submit(client.session, work)
        except (BusyError, FullError):
            assert len(client.session.works) == 3 or self.batcher.waiting == 20
            return
        client.works.append(work)
        client.expected.append(
            np.stack([client.alone(*(x[None] for x in row))[0] for row in zip(*xs, strict=True)])
        )

    def leave(self) -> None:
        client = self.any()
        if client is not None:
            self.batcher.close(client.session)
            self.batcher.close(client.session)

    def evict(self) -> None:
        idle = self.draw.integers(1, 4)
        gone = self.batcher.evict(idle)
        for session, state in gone:
            (client,) = [c for c in self.clients if c.session is session]
            assert state == client.alone.row(0)
            assert session.touched <= self.clock.now - idle
        assert not [
            c for c in self.clients
            if not c.session.closed and not c.session.works and c.session.touched <= self.clock.now - idle
        ]  # fmt: skip

    def reset(self) -> None:
        client = self.any()
        if client is not None and not client.session.works:
            self.batcher.put_state(client.session, None)
            client.alone.reset()

    def wait(self) -> None:
        self.clock.now += self.draw.choice([0.2, 1])
        if self.draw.random() < 0.5:
            self.batcher.expire()
            assert not [c for c in self.clients if any(w.deadline <= self.clock.now for w in c.session.works)]

    def step(self) -> None:
        busy = [
            c
            for c in self.clients
            if c.session.works and min(w.deadline for w in c.session.works) > self.clock.now
        ]
        # All places are taken as long as there is anyone to take one, or a client who waits would wait for nothing.
        assert self.batcher.step() == min(len(busy), self.batcher.widest)
        self.compare()

    def any(self) -> Client | None:
        open_ = [c for c in self.clients if not c.session.closed]
        return open_[self.draw.integers(len(open_))] if open_ else None

    def compare(self) -> None:
        for client in self.clients:
            for work, error in client.told:
                assert work is client.works[0]  # in order, each once
                expected, _ = client.expected.pop(0), client.works.pop(0)
                if error is None:
                    np.testing.assert_array_equal(work.ys[0], expected)
                    self.compared += 1
                else:
                    assert client.session.closed is error
            client.told.clear()
        assert self.batcher.waiting == sum(len(c.session.works) for c in self.clients)
        assert self.batcher.sessions == sum(not c.session.closed for c in self.clients)


@settings(max_examples=40)
@given(
    st.sampled_from(NAMES),
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(1, 5),
)
def test_drawn_sessions_are_each_as_if_alone(name: str, seed: int, widest: int, turn: int) -> None:
    hall = Hall(models()[name], seed, widest=widest, turn=turn)
    actions = [hall.join, hall.ask, hall.step, hall.leave, hall.evict, hall.reset, hall.wait]
    chances = np.array([0.15, 0.3, 0.4, 0.02, 0.02, 0.03, 0.08])
    for _ in range(250):
        hall.draw.choice(actions, p=chances)()
    while hall.batcher.waiting:
        hall.step()
    hall.compare()
    for client in hall.clients:
        if not client.session.closed:
            assert hall.batcher.state(client.session) == client.alone.row(0)
    assert hall.batcher.step() == 0
    assert sorted(hall.batcher._free) == list(range(widest))
    assert hall.compared > 5


class Named(Work):
    """Some steps of zeros, written down by a name."""

    def __init__(self, name: str, steps: int, log: list[str]) -> None:
        self.name, self.left, self.log = name, steps, log
        self.told: list[Any] = []

    def write(self, xs: Any, row: int) -> None:
        xs[0][row] = 0
        self.log.append(self.name)

    def read(self, ys: Any, row: int) -> bool:
        self.left -= 1
        return self.left == 0

    def done(self, error: Exception | None) -> None:
        self.told.append(error)


def order(works: dict[str, int], *, widest: int, turn: int) -> str:
    log: list[str] = []
    batcher = Batcher(models()["LSTM"], widest=widest, turn=turn)
    for name, steps in works.items():
        batcher.submit(batcher.open(), Named(name, steps, log))
    while batcher.step():
        log.append(" ")
    return "".join(log).strip()


def test_first_in_first_out_by_turns() -> None:
    assert order({"a": 3, "b": 2}, widest=1, turn=9) == "a a a b b"
    assert order({"a": 3, "b": 2, "c": 1}, widest=2, turn=9) == "ab ab ac"
    assert order({"a": 5, "b": 1, "c": 3}, widest=1, turn=2) == "a a b c c a a c a"
    # Nobody waits: the turn goes on.
    assert order({"a": 5}, widest=1, turn=2) == "a a a a a"


@settings(max_examples=30)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.integers(1, 4), st.integers(1, 4))
def test_nobody_waits_longer_than_the_turns_of_those_in_front(
    steps: list[int], widest: int, turn: int
) -> None:
    names = "abcdefghijkl"[: len(steps)]
    rounds = order(dict(zip(names, steps, strict=True)), widest=widest, turn=turn).split(" ")
    assert sum(map(len, rounds)) == sum(steps)
    for place, name in enumerate(names):
        first = next(i for i, batch in enumerate(rounds) if name in batch)
        assert first <= (place // widest) * turn
        taken = [i for i, batch in enumerate(rounds) if name in batch]
        # Between two of its turns, each of the others has one at most.
        gap = -(-(len(names) - 1) // widest) * turn + 1
        assert all(b - a <= gap for a, b in itertools.pairwise(taken))


def test_who_is_done_holds_no_place_in_the_next_step() -> None:
    batcher, log = Batcher(models()["LSTM"], widest=2), []
    for name, steps in {"a": 1, "b": 1, "c": 1, "d": 1}.items():
        batcher.submit(batcher.open(), Named(name, steps, log))
    assert (batcher.step(), batcher.step(), batcher.step()) == (2, 2, 0)
    assert log == ["a", "b", "c", "d"]


def test_who_goes_holds_no_place_in_the_next_step() -> None:
    batcher, log = Batcher(models()["LSTM"], widest=1), []
    first, second = batcher.open(), batcher.open()
    work = Named("a", 9, log)
    batcher.submit(first, work)
    batcher.submit(second, Named("b", 1, log))
    batcher.step()
    batcher.close(first)
    assert [type(error) for error in work.told] == [GoneError]
    assert batcher.step() == 1
    assert log == ["a", "b"]


def test_who_goes_in_the_middle_of_a_step_is_told_once_and_read_no_more() -> None:
    batcher = Batcher(models()["LSTM"], widest=2)
    session, log = batcher.open(), []

    class Leaver(Named):
        def write(self, xs: Any, row: int) -> None:
            super().write(xs, row)
            threading.Thread(target=batcher.close, args=(session,)).start()

    # The lock is held while inputs are written: the other thread closes the session while the core computes, or after.
    work = Leaver("a", 100_000, log)
    batcher.submit(session, work)
    ends = time.monotonic() + 20
    while batcher.waiting and time.monotonic() < ends:
        batcher.step()
    assert [type(error) for error in work.told] == [GoneError]
    assert batcher.step() == 0
    assert len(batcher._free) == 2


def test_one_session_with_a_fault_is_the_only_one_that_ends(words: Frozen) -> None:
    """A token that is not in the vocabulary, which the core refuses for the whole batch; and works that raise."""
    alone = words.stream(1)
    expected = np.stack([alone(np.array([t]))[0] for t in (1, 2, 3)])

    class Raises(Named):
        def read(self, ys: Any, row: int) -> bool:
            raise RuntimeError("no")

    class RaisesEarly(Named):
        def write(self, xs: Any, row: int) -> None:
            raise RuntimeError("no")

    batcher, told = Batcher(words), []
    good = Rows(words, [np.array([1, 2, 3])])
    bad = Rows(words, [np.array([1, 99, 3])], lambda work, error: told.append(error))
    works = [RaisesEarly("e", 1, []), good, bad, Raises("r", 1, [])]
    sessions = [batcher.open() for _ in works]
    for session, work in zip(sessions, works, strict=True):
        batcher.submit(session, work)
    while batcher.step():
        pass
    np.testing.assert_array_equal(good.ys[0], expected)
    assert [type(error) for error in [*told, *works[0].told, *works[3].told]] == [FaultError] * 3
    assert "99" in str(told[0])
    assert [bool(s.closed) for s in sessions] == [True, False, True, True]
    with pytest.raises(FaultError):
        batcher.submit(sessions[2], good)


def test_what_is_refused() -> None:
    clock = Clock()
    batcher = Batcher(models()["GRU"], sessions=2, waiting=3, queue=2, clock=clock)
    first, second = batcher.open(), batcher.open()
    with pytest.raises(FullError, match="2 sessions are open"):
        batcher.open()
    log: list[str] = []
    batcher.submit(first, Named("a", 1, log))
    batcher.submit(first, Named("a", 1, log))
    with pytest.raises(BusyError, match="2 requests of this session"):
        batcher.submit(first, Named("a", 1, log))
    batcher.submit(second, Named("b", 1, log))
    with pytest.raises(FullError, match="3 requests wait"):
        batcher.submit(second, Named("b", 1, log))
    for call in (lambda: batcher.state(first), lambda: batcher.put_state(first, None)):
        with pytest.raises(BusyError, match="has work"):
            call()
    while batcher.step():
        pass
    size = len(batcher.state(first))
    for call in (lambda: batcher.open(b"abc"), lambda: batcher.put_state(first, b"abc")):
        with pytest.raises(FrozenError, match=f"{size} bytes, not 3"):
            call()
    late = Named("a", 1, log)
    late.deadline = 5.0
    batcher.submit(first, late)
    clock.now = 5.0
    assert batcher.step() == 0
    assert [type(error) for error in late.told] == [LateError]
    for call in (
        lambda: batcher.state(first),
        lambda: batcher.submit(first, late),
        lambda: batcher.put_state(first, None),
    ):
        with pytest.raises(LateError):
            call()
    assert log == ["a", "b", "a"]
    batcher.stop()
    with pytest.raises(GoneError, match="going down"):
        batcher.open()


def test_a_model_of_whole_sequences_and_one_with_a_context_are_refused() -> None:
    torch.manual_seed(0)
    with pytest.raises(FrozenError):
        Batcher(Frozen(frozen_bytes(elman.LSTM(2, 3, bidirectional=True))))


@pytest.mark.parametrize("name", NAMES)
def test_threads_that_ask_at_once(name: str) -> None:
    """The batcher in its thread, clients in others, each of which looks at its own answers."""
    model = models()[name]
    batcher = Batcher(model, widest=4, turn=3)
    batcher.start()
    faults: list[BaseException] = []

    def client(seed: int) -> None:
        draw = np.random.default_rng(seed)
        try:
            for _ in range(6):
                session, alone = batcher.open(), model.stream(1)
                for _ in range(draw.integers(1, 6)):
                    steps = draw.integers(1, 12)
                    xs = [draw.standard_normal((steps, *a.shape)).astype(a.dtype) for a in model.inputs]
                    over, said = threading.Event(), []
                    work = Rows(model, xs, lambda _, error, s=said, o=over: (s.append(error), o.set()))
                    batcher.submit(session, work)
                    assert over.wait(30)
                    assert said == [None]
                    expected = [alone(*(x[i : i + 1] for x in xs))[0] for i in range(steps)]
                    np.testing.assert_array_equal(work.ys[0], expected)
                    assert batcher.state(session) == alone.row(0)
                batcher.close(session)
        except BaseException as error:  # noqa: BLE001
            faults.append(error)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = Named("z", 50, [])
    batcher.submit(batcher.open(), left)
    batcher.stop()
    assert left.told == [None]  # what waits is done before the thread ends
    assert not faults
    assert not batcher.waiting


@pytest.mark.parametrize("count", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_sessions_leave_nothing_behind(count: int) -> None:
    import tracemalloc

    batcher, log = Batcher(models()["LSTM"], sessions=64, widest=4), []

    def come_and_go(count: int) -> None:
        held: list[Session] = []
        for i in range(count):
            held.append(batcher.open())
            if i % 3 == 0:
                batcher.submit(held[-1], Named("a", 2, log))
            if i % 7 == 0:
                batcher.step()
            if len(held) == 50:
                batcher.close(held.pop(0))
        for session in held:
            batcher.close(session)
        log.clear()

    come_and_go(500)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    come_and_go(count)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 50_000
    assert batcher.sessions == batcher.waiting == 0


def test_the_core_lets_go_of_the_interpreter() -> None:
    assert not isinstance(library(), ctypes.PyDLL)
    torch.manual_seed(0)
    model = Frozen(frozen_bytes(elman.LSTM(256, 256)))
    x = np.zeros((400, 32, 256), np.float32)
    begun, over, counted = threading.Event(), threading.Event(), 0

    def compute() -> None:
        begun.set()
        model.run(x)
        over.set()

    thread = threading.Thread(target=compute)
    thread.start()
    begun.wait()
    while not over.is_set():
        counted += 1
    thread.join()
    # Held, this loop would come by once or twice: it begins and it ends.
    assert counted > 1000
