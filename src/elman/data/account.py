"""The account of what was read: what was used, what was left out and why, each with its file and line.

    read 10,000 rows, used 9,988, left out 12: 7 empty text (a.csv:17, :93, :201, ...), 5 unknown label (a.csv:4, ...)

Nothing leaves the data without an entry here. A *fault* is a row that cannot be used; one that a setting leaves out is
*set aside*; a *remark* is about a row that is used all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from elman.errors import UserError

__all__ = ["Account", "OnBad", "Place", "listed"]

OnBad = Literal["auto", "skip", "refuse"]

# With --on-bad auto, more faults than this share of what was read refuse the data.
MOST_FAULTS = 0.01


class Place(NamedTuple):
    """Where an item comes from: `a.csv:17`; line 0 is the whole file."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        """Write it as compilers do."""
        return f"{self.file}:{self.line}" if self.line else self.file


def listed(places: Sequence[Place], most: int = 3) -> str:
    """`a.csv:17, :93, b.csv:4, ...`: at most so many different places, a file's name written once in a row."""
    places = list(dict.fromkeys(places))
    words, file = [], None
    for place in places[:most]:
        words.append(f":{place.line}" if place.file == file and place.line else str(place))
        file = place.file
    return ", ".join(words + ["..."] * (len(places) > most))


@dataclass
class Account:
    """What was read. Reasons are short nouns (`empty text`); each has the places that it concerns, in order.

    unit: what is counted. found: what the reader recognized, a line each (encoding, delimiter, columns).
    """

    unit: str = "rows"
    read: int = 0
    faults: dict[str, list[Place]] = field(default_factory=dict)
    aside: dict[str, list[Place]] = field(default_factory=dict)
    remarks: dict[str, list[Place]] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)

    def fault(self, reason: str, place: Place) -> None:
        """Leave out an item that cannot be used."""
        self.faults.setdefault(reason, []).append(place)

    def set_aside(self, reason: str, place: Place) -> None:
        """Leave out an item because a setting says so."""
        self.aside.setdefault(reason, []).append(place)

    def remark(self, text: str, places: Place | Iterable[Place]) -> None:
        """Say something about items that are used."""
        self.remarks.setdefault(text, []).extend([places] if isinstance(places, Place) else places)

    @property
    def bad(self) -> int:
        """How many items have a fault."""
        return sum(map(len, self.faults.values()))

    @property
    def used(self) -> int:
        """How many items are left."""
        return self.read - self.bad - sum(map(len, self.aside.values()))

    def merge(self, other: Account) -> None:
        """Count another account of the same unit in."""
        self.read += other.read
        for mine, theirs in zip(self._tables(), other._tables(), strict=True):
            for reason, places in theirs.items():
                mine.setdefault(reason, []).extend(places)
        self.found += [line for line in other.found if line not in self.found]

    def _tables(self) -> tuple[dict[str, list[Place]], ...]:
        return self.faults, self.aside, self.remarks

    def lines(self, most: int = 3) -> list[str]:
        """The account for a terminal: what was found, the sum, and a line for each remark."""
        total = f"read {self.read:,} {self.unit}, used {self.used:,}"
        left = [(reason, places) for table in (self.faults, self.aside) for reason, places in table.items()]
        if left:
            reasons = ", ".join(f"{len(at):,} {reason} ({listed(at, most)})" for reason, at in left)
            total += f", left out {self.read - self.used:,}: {reasons}"
        remarks = [f"{text}: {len(at):,} ({listed(at, most)})" for text, at in self.remarks.items()]
        return [*self.found, total, *remarks]

    def judge(self, on_bad: OnBad) -> None:
        """Raise UserError if the faults are too many: any of them with "refuse", more than 1 % with "auto"."""
        most = {"skip": self.read, "refuse": 0, "auto": MOST_FAULTS * self.read}[on_bad]
        if self.bad > most:
            reasons = "; ".join(
                f"{len(at):,} {reason} ({listed(at, 5)})" for reason, at in self.faults.items()
            )
            way = "--on-bad skip leaves them out" if on_bad == "auto" else "leave --on-bad refuse out"
            raise UserError(
                f"{self.bad:,} of {self.read:,} {self.unit} cannot be used: {reasons}; mend them, or {way}"
            )

    def to_json(self) -> dict[str, Any]:
        """All of it; places as the lines of each file."""
        own: dict[str, Any] = {"unit": self.unit, "read": self.read, "used": self.used, "found": self.found}
        names = ("faults", "aside", "remarks")
        return own | {name: _pack(table) for name, table in zip(names, self._tables(), strict=True)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Account:
        """The account that `to_json` wrote."""
        faults, aside, remarks = (_unpack(saved[name]) for name in ("faults", "aside", "remarks"))
        return cls(saved["unit"], saved["read"], faults, aside, remarks, list(saved["found"]))


def _pack(table: Mapping[str, Sequence[Place]]) -> dict[str, list[list[Any]]]:
    """Runs of places of one file: `{reason: [[file, line, line, ...], ...]}`."""
    packed: dict[str, list[list[Any]]] = {}
    for reason, places in table.items():
        runs = packed.setdefault(reason, [])
        for place in places:
            if not runs or runs[-1][0] != place.file:
                runs.append([place.file])
            runs[-1].append(place.line)
    return packed


def _unpack(packed: Mapping[str, Sequence[Sequence[Any]]]) -> dict[str, list[Place]]:
    return {
        reason: [Place(file, line) for file, *lines in runs for line in lines]
        for reason, runs in packed.items()
    }
