"""Series of several columns from physical systems, by a seed: `python -m benchmarks.systems lorenz out.csv`.

They are measured with values missing at different times in different columns (`benchmarks.series`, `columns`).
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["SYSTEMS", "Measured", "lorenz", "tanks", "write"]

Floats = npt.NDArray[np.float64]
# Steps of the integration from one row to the next, and rows before the first, in which the start is forgotten.
FINE, BEFORE = 10, 200


class Measured(NamedTuple):
    """Columns by their names, values `(T, C)`."""

    names: tuple[str, ...]
    values: Floats


def lorenz(rows: int, seed: int) -> Measured:
    """Lorenz's convection (1963), σ = 10, ρ = 28, β = 8/3, a row each 0.05, measured with an error of 0.2.

    dx = σ (y - x)    dy = x (ρ - z) - y    dz = x y - β z

    A turn takes about 15 rows; the deviations of x, y and z are about 8, 9 and 9.
    """
    draw = np.random.default_rng([seed, 3])

    def slope(state: Floats, _: float) -> Floats:
        x, y, z = state
        return np.array([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    states = _integrated(slope, draw.normal([1.0, 1.0, 20.0]), np.zeros(rows + BEFORE), 0.05)
    return Measured(("x", "y", "z"), states[BEFORE:] + 0.2 * draw.normal(size=(rows, 3)))


def tanks(rows: int, seed: int) -> Measured:
    """Four tanks, each running into the next; a valve over the first is turned after 25 rows in the mean.

    dh_i = (q_{i-1} - q_i) / A_i    q_i = a sqrt(h_i)    q_0: the inflow, from U(0.2, 1.4) at each turn

    Measured are the inflow and the four levels, with an error of 0.02.
    """
    draw = np.random.default_rng([seed, 4])
    turned = draw.random(rows + BEFORE) < 1 / 25
    settings = draw.uniform(0.2, 1.4, rows + BEFORE)
    inflow = settings[np.maximum.accumulate(np.where(turned, np.arange(rows + BEFORE), 0))]
    areas = np.array([2.0, 3.0, 4.0, 5.0])

    def slope(levels: Floats, inflow: float) -> Floats:
        out = 0.8 * np.sqrt(np.maximum(levels, 0.0))
        return np.asarray((np.append(inflow, out[:-1]) - out) / areas)

    levels = _integrated(slope, np.ones(4), inflow, 1.0)
    values = np.concatenate([inflow[:, None], levels], axis=1)[BEFORE:]
    return Measured(("inflow", "h1", "h2", "h3", "h4"), values + 0.02 * draw.normal(size=values.shape))


SYSTEMS: dict[str, Callable[[int, int], Measured]] = {"lorenz": lorenz, "tanks": tanks}


def _integrated(
    slope: Callable[[Floats, float], Floats], state: Floats, drive: Floats, interval: float
) -> Floats:
    """The states at the end of each row `(T, S)`, by Runge and Kutta's rule of fourth order; drive `(T,)`."""
    d = interval / FINE
    found = np.zeros((len(drive), len(state)))
    for t, own in enumerate(drive.tolist()):
        for _ in range(FINE):
            a = slope(state, own)
            b = slope(state + d / 2 * a, own)
            c = slope(state + d / 2 * b, own)
            state = state + d / 6 * (a + 2 * b + 2 * c + slope(state + d * c, own))
        found[t] = state
    return found


def write(path: Path, found: Measured) -> None:
    """A table of numbered rows; a value that is missing is an empty cell."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["t", *found.names])
        for t, row in enumerate(found.values.tolist()):
            writer.writerow([t, *("" if np.isnan(value) else f"{value:.6g}" for value in row)])


def main(arguments: list[str] | None = None) -> int:
    """Write a system's series."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.systems", description=__doc__)
    parser.add_argument("name", choices=SYSTEMS)
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    write(options.path, SYSTEMS[options.name](options.rows, options.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
