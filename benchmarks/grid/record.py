"""The results of the grid on disk: one JSON file, whole at every moment, that grows case by case."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks.grid.network import Mode, Size
from elman.files import write_bytes

Conditions = dict[str, str | int | float]
Status = Literal["measured", "refused", "failed", "gave up"]
# What may be another at each start, and does not make two parts of a record incomparable.
PASSING = ("load before", "commit")


class OtherConditionsError(Exception):
    """A record was begun on another machine, with other threads or other versions."""


class Spot(NamedTuple):
    """Which case."""

    cell: str
    size: Size
    mode: Mode
    peer: str

    @property
    def key(self) -> tuple[str, str, str, Size]:
        """As in the record."""
        return self.cell, self.peer, self.mode, self.size

    @property
    def name(self) -> str:
        """The case in words: what `--only` looks into."""
        return f"{self.cell} {self.size} {self.mode} beside {self.peer}"


@dataclass(frozen=True)
class Entry:
    """One case. Times in milliseconds a call, medians over the rounds; speedup: the median of theirs / ours by round.

    status: "refused": the answers differ; "failed": one side raised; "gave up": not compiled in time; then `reason`
    says what happened, and there are no numbers. kind: "pair", "noise" (a layer against itself) or "share" (of the
    rate of a plain product: `speedup` is that share).
    """

    cell: str
    peer: str
    mode: Mode
    size: Size
    status: Status
    kind: Literal["pair", "noise", "share"] = "pair"
    ours: str = ""
    theirs: str = ""
    ours_ms: float = 0.0
    theirs_ms: float = 0.0
    speedup: float = 0.0
    spread: float = 0.0
    rounds: int = 0
    reason: str = ""

    @property
    def spot(self) -> Spot:
        """Which case it is."""
        return Spot(self.cell, self.size, self.mode, self.peer)


@dataclass
class Record:
    """All entries so far, by key, and under which conditions; written after each one where there is a path."""

    path: Path | None
    conditions: Conditions
    entries: dict[tuple[str, str, str, Size], Entry] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Keep an entry, in the place of an older one of the same case, and write the file."""
        self.entries[entry.spot.key] = entry
        self.save()

    def done(self, key: tuple[str, str, str, Size]) -> bool:
        """Whether a case is measured, or known not to compile in time; a refusal or a failure is tried again."""
        return key in self.entries and self.entries[key].status in {"measured", "gave up"}

    def save(self) -> None:
        """Write beside the file, then put it in its place: a reader, or a kill, finds the old one or the new one."""
        if self.path is None:
            return
        content = {
            "suite": "grid",
            "date": datetime.now(UTC).date().isoformat(),
            "machine": self.conditions,
            "results": [asdict(entry) | {"size": list(entry.size)} for entry in self.entries.values()],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self.path, (json.dumps(content, indent=1) + "\n").encode())


def resumed(path: Path, conditions: Conditions) -> Record:
    """The record that is there, to go on with. Raises OtherConditionsError."""
    content = json.loads(path.read_text(encoding="utf-8"))
    before: Conditions = content["machine"]
    other = [
        f"{name} {before.get(name)}, now {conditions.get(name)}"
        for name in {**before, **conditions}
        if name not in PASSING and before.get(name) != conditions.get(name)
    ]
    if other:
        raise OtherConditionsError(f"{path} was measured under other conditions: {'; '.join(other)}")
    commits = {*str(before.get("commit", "")).split(", "), str(conditions.get("commit", ""))} - {""}
    if commits:
        before = before | {"commit": ", ".join(sorted(commits))}
    return Record(path, before, {entry.spot.key: entry for entry in map(_entry, content["results"])})


def _entry(saved: dict[str, Any]) -> Entry:
    return Entry(**(saved | {"size": Size(*saved["size"])}))
