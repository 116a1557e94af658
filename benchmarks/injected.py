"""Anomalies put into clean series: spikes, shifts, changed periods and flat stretches, by a seed.

`python -m benchmarks.injected waves.csv --rows 4000 --seed 1` writes a table of a series that is made here, marked.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["KINDS", "inject", "waves", "write"]

Floats = npt.NDArray[np.float64]
KINDS = ("spike", "shift", "period", "flat")
# Rows between two anomalies, at least and at most; and rows of one that is no spike.
APART, LONG = (60, 140), (20, 40)


def waves(rows: int, seed: int) -> Floats:
    """Hours of a load that has its day and its week, a slow level and noise that holds on for some hours."""
    draw = np.random.default_rng([seed, 0])
    t = np.arange(rows)
    day = np.sin(2 * np.pi * t / 24) + 0.4 * np.sin(4 * np.pi * t / 24 + 1)
    week = np.where((t // 24) % 7 < 5, 1.0, 0.6)
    level = 0.3 * np.sin(2 * np.pi * t / 2400 + draw.uniform(0, 6))
    noise = np.zeros(rows)
    for i in range(1, rows):
        noise[i] = 0.7 * noise[i - 1] + 0.08 * draw.standard_normal()
    return np.asarray(10 + 3 * week * day + level + noise)


def inject(values: Floats, seed: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The series with anomalies, and which rows they are, `(T,)` each. Kinds come in turns, places, sizes by the seed.

    Sizes are counted in s, the deviation of the values: a spike of 0.6 to 1.5 s for 1 to 2 rows; a shift of 0.4 to 1 s;
    a stretch that runs at 1.6 to 2.2 times the speed; a stretch that holds its first value.
    """
    draw = np.random.default_rng([seed, 1])
    found, marks = values.copy(), np.zeros(len(values), dtype=np.int64)
    s, at, turn = float(values.std()), int(draw.integers(*APART)), 0
    while at + LONG[1] < len(values):
        kind = KINDS[turn % len(KINDS)]
        rows = int(draw.integers(1, 3)) if kind == "spike" else int(draw.integers(*LONG))
        stretch = slice(at, at + rows)
        found[stretch] = _changed(kind, values, at, rows, s, draw)
        marks[stretch] = 1
        at, turn = at + rows + int(draw.integers(*APART)), turn + 1
    return found, marks


def _changed(kind: str, values: Floats, at: int, rows: int, s: float, draw: np.random.Generator) -> Floats:
    own = values[at : at + rows]
    sign = 1 if draw.random() < 0.5 else -1
    if kind == "spike":
        return np.asarray(own + sign * s * draw.uniform(0.6, 1.5))
    if kind == "shift":
        return np.asarray(own + sign * s * draw.uniform(0.4, 1.0))
    if kind == "flat":
        return np.full(rows, own[0])
    # Later rows come early: the stretch is read at another speed, and starts where it would have.
    places = at + np.arange(rows) * draw.uniform(1.6, 2.2)
    return np.asarray(np.interp(places, np.arange(len(values)), values))


def write(path: Path, values: Floats, marks: npt.NDArray[np.int64], first: int = 0) -> None:
    """A table of numbered rows, values and marks."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["t", "value", "anomaly"])
        rows = zip(values.tolist(), marks.tolist(), strict=True)
        writer.writerows([first + i, round(value, 6), mark] for i, (value, mark) in enumerate(rows))


def main(arguments: list[str] | None = None) -> int:
    """Write a marked series."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.injected", description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    write(options.path, *inject(waves(options.rows, options.seed), options.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
