"""Train, validation and test: stratified, by group, or by time; and what stands on both sides.

Items with the same key (a speaker, a document, the text itself) are never parted. Which item goes where depends on the
seed, the keys and the strata, not on the order of the rows.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from elman.config import UserError

__all__ = ["Split", "Where", "folds", "picked", "shared", "split", "split_by_time", "where_of"]

Indices = npt.NDArray[np.int64]
# A field of the items, and the values that are meant.
Where = tuple[str, frozenset[str]]
T = TypeVar("T")


class Split(NamedTuple):
    """The indices of the items of each part, ascending; each item stands in exactly one."""

    train: Indices
    valid: Indices
    test: Indices


class _Group(NamedTuple):
    stratum: str
    order: bytes
    items: list[int]


def _groups(keys: Sequence[str], strata: Sequence[str], seed: int) -> list[_Group]:
    """The items of each key, stratum by stratum, in an order drawn by the seed."""
    items: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        items[key].append(index)
    found = [
        _Group(_usual(strata[index] for index in indices), _drawn(seed, key), indices)
        for key, indices in items.items()
    ]
    return sorted(found)


def _usual(strata: Iterable[str]) -> str:
    """The commonest; of equally common ones the first by its letters."""
    counts = Counter(strata)
    return min(counts, key=lambda stratum: (-counts[stratum], stratum))


def _drawn(seed: int, key: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()


def split(keys: Sequence[str], strata: Sequence[str], *, valid: float, test: float, seed: int = 0) -> Split:
    """Divide items such that each part has its share of each stratum, to within a group's size.

    The first group of each stratum goes to training, so that no class is missing there.
    Raises UserError where a share is asked for and there are too few groups to give it any.
    """
    shares = {"train": 1 - valid - test, "valid": valid, "test": test}
    owed = dict.fromkeys(shares, 0.0)
    parts: dict[str, list[int]] = {name: [] for name in shares}
    stratum: str | None = None
    for group in _groups(keys, strata, seed):
        size = len(group.items)
        for name, share in shares.items():
            owed[name] += share * size
        first, stratum = group.stratum != stratum, group.stratum
        part = "train" if first else max(owed, key=lambda name: owed[name])
        owed[part] -= size
        parts[part] += group.items
    _check(parts, shares, len(set(keys)))
    return Split(*(np.array(sorted(parts[name]), dtype=np.int64) for name in shares))


def split_by_time(times: Sequence[str], *, valid: float, test: float) -> Split:
    """The latest items are the test, those before them the validation; items of one time are not parted.

    Times are numbers, or texts whose order is that of time (2026-11-26T10:00).
    """
    stamps = _ranks(times)
    names = {"train": 1 - valid - test, "valid": valid, "test": test}
    at: dict[int, list[int]] = defaultdict(list)
    for index, stamp in enumerate(stamps):
        at[stamp].append(index)
    parts: dict[str, list[int]] = {name: [] for name in names}
    seen = 0
    for stamp in sorted(at):
        middle = (seen + len(at[stamp]) / 2) / len(times)
        part = "train" if middle <= names["train"] else "valid" if middle <= 1 - test else "test"
        parts[part] += at[stamp]
        seen += len(at[stamp])
    _check(parts, names, len(at))
    return Split(*(np.array(sorted(parts[name]), dtype=np.int64) for name in names))


def _ranks(times: Sequence[str]) -> list[int]:
    """The place of each time among all different ones."""
    try:
        values = np.array([float(time) for time in times])
    except ValueError:
        values = np.array(times)
    ranks: list[int] = np.unique(values, return_inverse=True)[1].tolist()
    return ranks


def _check(parts: Mapping[str, list[int]], shares: Mapping[str, float], groups: int) -> None:
    empty = [name for name, share in shares.items() if share > 0 and not parts[name]]
    if empty:
        raise UserError(
            f"{groups:,} different items or groups are too few to keep a share of {shares[empty[0]]:g} for {empty[0]}: "
            f"give more data, a larger share, or a file of its own"
        )


def folds(
    keys: Sequence[str], strata: Sequence[str], count: int, *, valid: float, seed: int = 0
) -> list[Split]:
    """`count` divisions in which every item is in the test once; of the rest, a share is for validation."""
    groups = _groups(keys, strata, seed)
    if not 2 <= count <= len(groups):
        raise UserError(
            f"--folds {count}: give a number from 2 to {len(groups)}, the count of items or groups"
        )
    sizes = [0] * count
    tests: list[list[int]] = [[] for _ in range(count)]
    for group in groups:
        fold = min(range(count), key=lambda number: sizes[number])
        sizes[fold] += len(group.items)
        tests[fold] += group.items
    return [_fold(keys, strata, np.array(sorted(items)), valid, seed) for items in tests]


def _fold(keys: Sequence[str], strata: Sequence[str], test: Indices, valid: float, seed: int) -> Split:
    rest = np.setdiff1d(np.arange(len(keys)), test)
    inner = split([keys[i] for i in rest], [strata[i] for i in rest], valid=valid, test=0.0, seed=seed)
    return Split(rest[inner.train], rest[inner.valid], test)


def shared(train: Iterable[Hashable], others: Sequence[Hashable]) -> list[int]:
    """The indices of `others` that stand among the training items too; empty keys are not compared."""
    known = {key for key in train if key != ""}
    return [index for index, key in enumerate(others) if key in known]


def where_of(word: str, flag: str) -> Where | None:
    """`index=0,1` as ("index", {"0", "1"}); None for nothing. Raises UserError for what has no such form."""
    if not word:
        return None
    name, sign, values = word.partition("=")
    if not sign or not name or not values:
        raise UserError(f"{flag} {word}: expected FIELD=VALUE,VALUE, such as index=0,1 or speaker=ann")
    return name, frozenset(values.split(","))


def picked(
    items: Sequence[T], values: Sequence[str], where: Where, flag: str, what: str
) -> tuple[list[T], list[T]]:
    """The items whose value is meant, and the rest. values: of the field, one for each item.

    Raises UserError where one of the two would be empty. what: an item's name (`recording`).
    """
    name, meant = where
    chosen = [item for item, value in zip(items, values, strict=True) if value in meant]
    rest = [item for item, value in zip(items, values, strict=True) if value not in meant]
    if not chosen or not rest:
        known = ", ".join(sorted(set(values))[:20])
        which = f"no {what}" if not chosen else f"every {what}"
        raise UserError(f"{flag} {name}={','.join(sorted(meant))} picks {which}; the values are {known}")
    return chosen, rest
