"""What the grid is meant to reach, and how far it is there: geometric mean and worst of the speed-ups of each group."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.grid.catalog import CELLS, CUSTOM
from benchmarks.grid.network import Mode, Size
from benchmarks.grid.record import Entry, Record

SMALL_ROWS = 2048


class Bar(NamedTuple):
    """The least geometric mean and the least single speed-up of a cell beside a peer.

    cells: to each of which it applies, alone. small: only sizes with B·H up to `SMALL_ROWS`.
    """

    cells: tuple[str, ...]
    peer: str
    mode: Mode
    mean: float
    worst: float
    small: bool = False


class Judged(NamedTuple):
    """A group of cases and its bar, if there is one: geometric mean, worst and where it was, number of cases."""

    cell: str
    peer: str
    mode: Mode
    small: bool
    cases: int
    mean: float
    worst: float
    worst_size: Size
    bar: Bar | None

    @property
    def met(self) -> bool:
        """Whether both numbers of the bar are reached (true where there is none)."""
        return self.bar is None or (self.mean >= self.bar.mean and self.worst >= self.bar.worst)

    @property
    def name(self) -> str:
        """The group in words."""
        sizes = f", B·H up to {SMALL_ROWS}" if self.small else ""
        return f"{self.cell} beside {self.peer}, {self.mode}{sizes}"


USERS = tuple(CUSTOM)
BAR_THREADS = 2  # the bars are for so many
BARS = (
    Bar(("LSTM",), "torch.nn", "training", 1.5, 0.95),
    Bar(("LSTM",), "torch.nn", "forward", 1.4, 0.95),
    Bar(("GRU",), "torch.nn", "training", 4, 1.2),
    Bar(("GRU",), "torch.nn", "forward", 3, 1.2),
    Bar(("RNN",), "torch.nn", "training", 4, 1.1),
    Bar(("RNN",), "torch.nn", "forward", 3, 1.1),
    Bar(("ragged LSTM",), "torch.nn", "training", 3, 1.2),
    Bar(("bidirectional LSTM", "2-layer LSTM"), "torch.nn", "training", 1.5, 0.95),
    Bar(USERS, "loop", "training", 12, 4, small=True),
    Bar(USERS, "loop", "training", 8, 1.7),
    Bar(USERS, "compiled-step", "training", 4, 1.2),
    Bar(("hand-written LSTM",), "elman.nn.LSTM", "training", 0.95, 0.85),
    Bar(tuple(CELLS), "flax", "training", 2, 1),
    Bar(tuple(CELLS), "flax", "forward", 2, 1),
)


def judge_record(record: Record) -> list[Judged]:
    """The groups of a record, held against the bars where it has their number of threads."""
    bars = BARS if record.conditions.get("threads") == BAR_THREADS else ()
    return judge(record.entries.values(), bars)


def judge(entries: Iterable[Entry], bars: Sequence[Bar]) -> list[Judged]:
    """The groups of one cell, peer and mode, in the order of the entries; again where a bar is for small sizes."""
    groups: dict[tuple[str, str, Mode], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.status == "measured" and entry.kind == "pair":
            groups[entry.cell, entry.peer, entry.mode].append(entry)
    found = []
    for (cell, peer, mode), group in groups.items():
        held = [bar for bar in bars if cell in bar.cells and (bar.peer, bar.mode) == (peer, mode)]
        whole = next((bar for bar in held if not bar.small), None)
        found.append(_judged(group, whole, small=False))
        for bar in held:
            small = [entry for entry in group if entry.size.B * entry.size.H <= SMALL_ROWS]
            if bar.small and small:
                found.append(_judged(small, bar, small=True))
    return found


def _judged(group: list[Entry], bar: Bar | None, *, small: bool) -> Judged:
    worst = min(group, key=lambda entry: entry.speedup)
    return Judged(
        cell=worst.cell,
        peer=worst.peer,
        mode=worst.mode,
        small=small,
        cases=len(group),
        mean=geometric_mean([entry.speedup for entry in group]),
        worst=worst.speedup,
        worst_size=worst.size,
        bar=bar,
    )


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product."""
    return math.exp(sum(map(math.log, values)) / len(values))
