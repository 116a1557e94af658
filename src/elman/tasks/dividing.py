"""Training, validation and test of media whose fields say what they are: given, picked by a field, or drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from elman.config import UserError, nearest
from elman.data.account import Place
from elman.data.splits import Split, folds, picked, split, where_of

__all__ = ["PARTS", "Division", "divide", "draw", "field_value"]

T = TypeVar("T")
PARTS = ("train", "valid", "test")


class Division(Protocol):
    """The settings of a division; see the options of these names."""

    @property
    def valid_where(self) -> str:
        """Which items of the training data validate instead (`subject=5,6`)."""

    @property
    def test_where(self) -> str:
        """Which of them test."""

    @property
    def valid_share(self) -> float:
        """The part that is drawn for validation."""

    @property
    def test_share(self) -> float:
        """The part that is drawn for the test."""

    @property
    def split_seed(self) -> int:
        """Which items are drawn."""

    @property
    def fold(self) -> str:
        """`2/5`: test on the second of five equal parts."""


def field_value(known: Mapping[str, str], name: str, place: Place) -> str:
    """What is known of an item under a name. Raises UserError where it has no such field."""
    if name not in known:
        hint = nearest(name, known) or f"; its fields are {', '.join(known)}, from --pattern and from tables"
        raise UserError(f"{place} has no field {name!r}{hint}")
    return known[name]


def draw(
    keys: Sequence[str], strata: Sequence[str], settings: Division, *, valid: float, test: float
) -> Split:
    """The split of items with these keys and strata: a fold of equal parts, or drawn by shares."""
    if settings.fold:
        number, count = map(int, settings.fold.split("/"))
        return folds(keys, strata, count, valid=valid, seed=settings.split_seed)[number - 1]
    return split(keys, strata, valid=valid, test=test, seed=settings.split_seed)


def divide(
    read: dict[str, list[T]],
    settings: Division,
    what: str,
    value: Callable[[T, str], str],
    marked: Callable[[list[T]], tuple[Sequence[str], Sequence[str]]],
) -> tuple[dict[str, list[T]], tuple[str, ...]]:
    """The parts, and which of them were drawn.

    read: the items of "train", and of "valid" and "test" where these were given. what: an item's name (`recording`).
    value: of an item's field, by the field's name. marked: keys and strata of items, asked for where some are drawn.
    """
    for name, word in (("test", settings.test_where), ("valid", settings.valid_where)):
        flag = f"--{name}-where"
        where = where_of(word, flag)
        if where is not None:
            values = [value(item, where[0]) for item in read["train"]]
            read[name], read["train"] = picked(read["train"], values, where, flag, what)
    valid = 0.0 if "valid" in read else settings.valid_share
    test = 0.0 if "valid" in read or "test" in read else settings.test_share
    drawn = tuple(name for name, share in (("valid", valid), ("test", test)) if share)
    if drawn:
        own = read["train"]
        found = draw(*marked(own), settings, valid=valid, test=test)
        parts = {name: [own[i] for i in rows] for name, rows in zip(PARTS, found, strict=True)}
        read = {name: parts[name] or read.get(name, []) for name in PARTS}
    return {name: read[name] for name in PARTS if read.get(name)}, drawn
