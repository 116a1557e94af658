"""Whole series as a classifier reads them: scaled, side by side in frames, with what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from elman.data.account import Place
from elman.data.labels import Labels
from elman.data.series.cases import Case, as_case
from elman.data.series.frames import since_of

__all__ = ["CaseCodec", "CaseReading", "case_of", "columns_of", "filled", "numbers_of", "rows_in"]

Floats = npt.NDArray[np.float64]


class CaseReading(Protocol):
    """How cases are read: scaled by themselves or as all, changes beside values, steps that are one frame."""

    @property
    def each(self) -> str:
        """How: "none", "case", or by all."""

    @property
    def differences(self) -> bool:
        """Whether changes stand beside the values."""

    @property
    def frames(self) -> int:
        """Steps side by side."""


@dataclass(frozen=True)
class CaseCodec:
    """Between cases and numbers. mean, deviation `(C,)`: of the training cases; missing: whether they lack values.

    width: numbers of a step as the network reads it; features: the same before mask and time since.
    """

    labels: Labels
    mean: Floats
    deviation: Floats
    missing: bool
    gaps: str
    cell: str
    features: int
    width: int
    label: str = ""
    target: str = "classify"

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        own = {
            name: getattr(self, name)
            for name in ("missing", "gaps", "cell", "features", "width", "label", "target")
        }
        return {
            **own, "labels": list(self.labels.names), "mean": self.mean.tolist(), "deviation": self.deviation.tolist(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> CaseCodec:
        """What `to_json` wrote."""
        known = {name: saved[name] for name in ("missing", "gaps", "cell", "features", "width", "label")}
        return cls(
            Labels(tuple(saved["labels"]), several=False),
            np.array(saved["mean"]),
            np.array(saved["deviation"]),
            **known,
        )


def filled(values: Floats) -> Floats:
    """Each value `(T, C)`, or the last one before it; the first ones take the first that there is, else 0."""
    found = values.copy()
    for column in found.T:
        known = np.flatnonzero(~np.isnan(column))
        if not len(known):
            column[:] = 0.0
            continue
        at = np.maximum.accumulate(np.where(np.isnan(column), -1, np.arange(len(column))))
        column[:] = column[np.where(at < 0, known[0], at)]
    return found


def columns_of(case: Case, how: CaseReading) -> Floats:
    """The values of a case `(T, C)`, scaled by themselves where asked, with their changes beside them."""
    values = case.values
    if how.each == "case":
        with np.errstate(invalid="ignore"):
            known = ~np.isnan(values)
            n = np.maximum(known.sum(axis=0), 1)
            mean = np.where(known, values, 0.0).sum(axis=0) / n
            deviation = np.sqrt(np.where(known, (values - mean) ** 2, 0.0).sum(axis=0) / n)
        values = (values - mean) / np.where(deviation > 1e-12, deviation, 1.0)
    if not how.differences:
        return values
    change = np.diff(values, axis=0, prepend=values[:1])
    return np.concatenate([values, change], axis=1)


def numbers_of(case: Case, codec: CaseCodec, how: CaseReading) -> npt.NDArray[np.float32]:
    """A case as the network reads it, `(T / frames, W)`: values, and where some may be missing mask and time since."""
    values = (columns_of(case, how) - codec.mean) / codec.deviation
    k = how.frames
    rows = -(-len(values) // k)
    padded = np.full((rows * k, values.shape[1]), np.nan)
    padded[: len(values)] = values
    # What fills the last frame up is its last step.
    padded[len(values) :] = values[-1]
    stacked = padded.reshape(rows, -1)
    mask = ~np.isnan(stacked)
    if codec.gaps == "forward":
        return np.asarray(filled(stacked), dtype=np.float32)
    pieces = [np.nan_to_num(stacked, nan=0.0)]
    if codec.gaps in {"decay", "mask"}:
        since = since_of(mask, np.ones(rows))
        pieces += [mask, since if codec.gaps == "decay" else np.log1p(since)]
    return np.concatenate(pieces, axis=1).astype(np.float32)


def rows_in(value: Any) -> Floats | str:
    """The rows `(T, C)` of `(T,)` or `(T, C)` numbers; a few words where it is neither, and where it has none."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return "no numbers: expected (T,) or (T, C) of them"
    if array.ndim not in (1, 2):
        return f"numbers of {array.ndim} dimensions; expected (T,) or (T, C)"
    return array.reshape(len(array), -1) if array.size else "no values"


def case_of(value: Any, columns: int, how: CaseReading) -> Case | str:
    """A case from what was given; a few words where it is none."""
    channels = columns // (2 if how.differences else 1)
    if isinstance(value, str):
        found = as_case(value, Place("-"))
        if found is None:
            return "no numbers: expected values set apart by commas, channels by colons"
        value = found
    elif not isinstance(value, Case):
        rows = rows_in(value)
        if isinstance(rows, str):
            return rows
        value = Case(Place("-"), rows, "")
    if value.values.shape[1] != channels:
        return f"{value.values.shape[1]} channels; the model has {channels}"
    return value if len(value.values) and not np.isnan(value.values).all() else "no values"
