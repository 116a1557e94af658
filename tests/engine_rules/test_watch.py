"""The core's watch over Python objects: each kind of place sees each change, and nothing else."""

from __future__ import annotations

import array
import contextvars
import gc
import types
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from elman.engine.backends import core_watch
from elman.engine.watching.places import (
    NOTHING,
    Bytes,
    Cell,
    Chance,
    Class,
    Entries,
    Entry,
    Function,
    Items,
    Member,
    Place,
    Several,
    Variable,
)

pytestmark = pytest.mark.skipif(core_watch(NOTHING) is None, reason="no core")


class Base:
    level: Any = 1


class Derived(Base):
    __slots__ = ("slot",)


def free(default: float = 1.0, *, keyword: float = 2.0) -> float:
    return default + keyword


def cell_of(value: Any) -> types.CellType:
    return types.CellType(value)


VARIABLE: contextvars.ContextVar[Any] = contextvars.ContextVar("VARIABLE", default=None)


def _slotted() -> Any:
    thing = Derived()
    thing.slot = 1
    return thing


# name: (what, place of it, changes that must be seen, changes that must not)
CASES: dict[str, tuple[Callable[[], Any], Callable[[Any], Place], list[Callable[[Any], Any]], list[Any]]] = {
    "entry": (
        lambda: {"a": 1, "b": 2}, lambda d: Entry(d, "d", "a"),
        [lambda d: d.update(a=3), lambda d: d.pop("a"), lambda d: d.clear()], [lambda d: d.update(b=5, c=6)],
    ),
    "absent entry": (
        lambda: {"b": 2}, lambda d: Entry(d, "d", "a"), [lambda d: d.update(a=None)], [lambda d: d.update(b=5)],
    ),
    "entries": (
        lambda: {"a": 1, "b": 2, 3: []}, lambda d: Entries(d, "d"),
        [lambda d: d.update(a=2), lambda d: d.pop("b"), lambda d: d.update(c=1), lambda d: d.update({3: []}),
         lambda d: d.update(a=d.pop("a"))],
        [lambda d: d[3].append(1)],
    ),
    "entries but for loose ones": (
        lambda: {"a": 1, "b": 2}, lambda d: Entries(d, "d", frozenset({"b"})),
        [lambda d: d.update(a=2), lambda d: d.pop("b"), lambda d: d.update(c=1)], [lambda d: d.update(b=7)],
    ),
    "items": (
        lambda: [1, 2.5, None], lambda v: Items(v, "v"),
        [lambda v: v.append(1), lambda v: v.pop(), lambda v: v.__setitem__(1, 3.5), lambda v: v.reverse()], [],
    ),
    "set": (lambda: {1, 2}, lambda v: Several(v, "v"), [lambda v: v.add(3), lambda v: v.discard(1)], []),
    "deque": (
        lambda: deque([1, 2]), lambda v: Several(v, "v"),
        [lambda v: v.append(3), lambda v: v.rotate(), lambda v: v.__setitem__(0, 9)], [],
    ),
    "slot": (
        _slotted, lambda o: Member(o, "o", Derived.__dict__["slot"]),
        [lambda o: setattr(o, "slot", 2), lambda o: delattr(o, "slot")], [lambda o: setattr(o, "other", 1)],
    ),
    "empty slot": (
        Derived, lambda o: Member(o, "o", Derived.__dict__["slot"]), [lambda o: setattr(o, "slot", None)], [],
    ),
    "cell": (lambda: cell_of(1), lambda c: Cell(c, "c"), [lambda c: setattr(c, "cell_contents", 2)], []),
    "empty cell": (types.CellType, lambda c: Cell(c, "c"), [lambda c: setattr(c, "cell_contents", 2)], []),
    "bytes": (
        lambda: bytearray(b"abc"), lambda b: Bytes(b, "b"),
        [lambda b: b.__setitem__(0, 0), lambda b: b.append(1), lambda b: b.pop()], [],
    ),
    "array": (
        lambda: array.array("d", [1.0, 2.0]), lambda b: Bytes(b, "b"),
        [lambda b: b.__setitem__(1, -2.0), lambda b: b.append(1.0)], [],
    ),
    "numpy": (
        lambda: np.arange(6.0).reshape(2, 3), lambda b: Bytes(b, "b"),
        [lambda b: b.__setitem__((1, 2), 7), lambda b: setattr(b, "shape", (3, 2)), lambda b: b.fill(0)], [],
    ),
    "numpy, not contiguous": (
        lambda: np.arange(6.0).reshape(2, 3).T, lambda b: Bytes(b, "b"), [lambda b: b.__setitem__((2, 1), 7)], [],
    ),
    "variable": (lambda: VARIABLE, lambda v: Variable(v, "v"), [lambda v: v.set(3)], []),
}  # fmt: skip


def _watch(place: Place) -> Any:
    core = core_watch(NOTHING)
    core.add_length([], 0)
    place.add_to(core)
    return core


@pytest.mark.parametrize("name", CASES)
def test_place(name: str) -> None:
    """A change is seen by the core and by Python alike, and is put right again."""
    make, at, seen, unseen = CASES[name]
    for change in (*seen, *unseen):
        what = make()
        place = at(what)
        core = _watch(place)
        assert core.first_change() == -1
        assert not place.changed()
        change(what)
        assert core.first_change() == (1 if change in seen else -1)
        assert place.changed() is (change in seen)
        if change in seen and not (isinstance(place, Bytes) and "numpy" in name) and place.held != [NOTHING]:
            place.put()
            assert core.first_change() == -1
            assert not place.changed()


def test_answers_by_value_and_kind() -> None:
    said: list[Any] = [1.5]
    core = core_watch(NOTHING)
    core.add_answer(lambda: said[0], 1.5)
    for value, same in ((3.0 / 2, True), (2.5, False), ("1.5", False)):
        said[0] = value
        assert (core.first_change() == -1) is same
    core = core_watch(NOTHING)
    core.add_answer(lambda: said[0], 1)
    said[0] = True
    assert core.first_change() == 0


def test_class_attributes() -> None:
    place = Class(Derived, "Derived", ["level", "other"])
    core = _watch(place)
    changes: list[tuple[Callable[[], Any], Callable[[], Any]]] = [
        (lambda: setattr(Base, "level", 2), lambda: setattr(Base, "level", 1)),
        (lambda: setattr(Derived, "level", 2), lambda: delattr(Derived, "level")),
        (lambda: setattr(Base, "other", 2), lambda: delattr(Base, "other")),
    ]
    for change, back in changes:
        assert core.first_change() == -1
        change()
        assert core.first_change() == 1
        assert place.changed()
        back()
        assert core.first_change() == -1
        change()
        place.put()
        assert core.first_change() == -1
        assert not place.changed()
    Base.unrelated = 1  # type: ignore[attr-defined]
    assert core.first_change() == -1
    del Base.unrelated  # type: ignore[attr-defined]


def test_function() -> None:
    def other() -> float:
        return 0.0

    for name, value in (
        ("__code__", other.__code__),
        ("__defaults__", (3.0,)),
        ("__kwdefaults__", {"keyword": 1.0}),
    ):
        place = Function(free, "free")
        core = _watch(place)
        assert core.first_change() == -1
        setattr(free, name, value)
        assert core.first_change() == 1
        place.put()
        assert core.first_change() == -1
        assert free() == 3.0


def test_chance() -> None:
    """A generator of numpy stands again where it stood."""
    generator = np.random.default_rng(3)
    place = Chance(generator, "generator")
    first = generator.random(4)
    assert place.changed()
    place.put()
    assert not place.changed()
    np.testing.assert_array_equal(generator.random(4), first)


def test_a_watch_is_collected_with_what_it_watches() -> None:
    class Held:
        """Can be referred to weakly."""

    held = Held()
    core = core_watch(NOTHING)
    core.add_scan(held.__dict__, [], [])
    core.add_list([held], [held])
    held.watch = core  # type: ignore[attr-defined]
    seen = weakref.ref(held)
    del held, core
    gc.collect()
    assert seen() is None


def test_wrong_arguments() -> None:
    core = core_watch(NOTHING)
    with pytest.raises(ValueError, match="cell"):
        core.add_cell({}, 1)
    with pytest.raises(ValueError, match="function"):
        core.add_function(len)
    with pytest.raises(ValueError, match="buffer"):
        core.add_bytes("text")
    with pytest.raises(ValueError, match="variable"):
        core.add_variable(3, 1)
    with pytest.raises(ValueError, match="a value for each key"):
        core.add_scan({}, ["a"], [])
