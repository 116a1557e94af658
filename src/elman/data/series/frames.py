"""A frame: one series, or several channels measured together, on an even grid, with what is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.account import Place
from elman.data.series.stamps import Clock, Step

__all__ = ["Chosen", "Frame", "Layout", "since_of"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Chosen:
    """What the user says about columns and times; empty, or auto: find out."""

    time: str = ""
    series: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    future: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    label: str = ""
    wide: Literal["auto", "channels", "series"] = "auto"
    decimal: Literal["auto", "point", "comma"] = "auto"
    form: str = "auto"
    zone: str = ""
    step: Literal["auto", "rows", "seconds", "months"] = "auto"


class Layout(NamedTuple):
    """The columns of tables, as they were found.

    targets, past, future: the channels, in this order; past ones are known up to now only, future ones ahead of time.
    months: twelve columns that are the months of a year a row. wide: whether each target is a series of its own.
    order: all columns of the table, in their order, as rows without names come in later.
    """

    time: str
    series: tuple[str, ...]
    targets: tuple[str, ...]
    past: tuple[str, ...] = ()
    future: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    label: str = ""
    months: tuple[str, ...] = ()
    wide: bool = False
    decimal: str = "point"
    order: tuple[str, ...] = ()

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels of a frame."""
        targets = ("value",) if self.wide or self.months else self.targets
        return (*targets, *self.past, *self.future)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        return tuple(
            name
            for name in (
                self.time,
                *self.series,
                *self.targets,
                *self.past,
                *self.future,
                *self.static,
                self.label,
            )
            if name
        )

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in self._asdict().items()
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Layout:
        """What `to_json` wrote."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()
        }
        return cls(**values)


@dataclass
class Frame:
    """T rows of C channels: `values` `(T, C)`, NaN where missing, on an even grid unless the step is irregular.

    name: of the series, "" where there is one only. times: `(T,)` seconds, or a plain number a row. gap: `(T,)` steps
    since the row before, 1 on an even grid. labels: `(T,)` 1 where a row is marked, 0 where it is not, -1 where nobody
    said; None where the data have no marks. places: where each row stands, None for a row that fills a gap.
    """

    name: str
    values: Floats
    times: Floats
    gap: Floats
    step: Step
    clock: Clock
    places: list[Place | None]
    labels: npt.NDArray[np.int64] | None = None
    static: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.values)

    def part(self, start: int, end: int | None = None) -> Frame:
        """Some rows of it."""
        own = slice(start, end)
        return Frame(
            self.name,
            self.values[own],
            self.times[own],
            self.gap[own],
            self.step,
            self.clock,
            self.places[own],
            None if self.labels is None else self.labels[own],
            self.static,
        )

    @property
    def missing(self) -> float:
        """The share of values that are missing."""
        return float(np.isnan(self.values).mean()) if self.values.size else 0.0


def since_of(seen: npt.NDArray[np.bool_], gap: Floats) -> Floats:
    """Steps since the last row in which a channel was seen, before each row, `(T, C)` (Che et al. 2018, eq. 2).

    δ_0 = 0    δ_t = gap_t where the channel was seen at t - 1, else gap_t + δ_{t-1}
    """
    found = np.zeros(seen.shape)
    if len(seen) < 2:
        return found
    reached = np.cumsum(np.append(0.0, gap[1:]))
    last = np.maximum.accumulate(np.where(seen, np.arange(len(seen))[:, None], 0))
    found[1:] = reached[1:, None] - reached[last[:-1]]
    return found
