"""Numbers about what was watched: saturated gates, units that vary, stretches to which a unit responds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from elman.nn.inspection.watching import Track

__all__ = [
    "HIGH",
    "LOW",
    "Saturation",
    "Stretch",
    "alike_together",
    "most_varying",
    "saturation",
    "stretches",
]

# Karpathy, Johnson & Fei-Fei 2015, section 4.2: a gate is left- or right-saturated below or above these.
LOW, HIGH = 0.1, 0.9
# A unit's gate counts as always shut or open where it is so in this share of the steps.
ALWAYS = 0.9


class Saturation(NamedTuple):
    """How often a gate is shut (below .1) or open (above .9), in the style of Karpathy, Johnson & Fei-Fei 2015.

    low, high: shares of all steps of all units. units_low, units_high `(H,)`: the same of each unit's steps, the
    coordinates of the points in the paper's figure.
    """

    track: str
    gate: str
    low: float
    high: float
    units_low: Tensor
    units_high: Tensor

    @property
    def always_low(self) -> float:
        """The share of units whose gate is shut in 9 of 10 steps."""
        return float((self.units_low > ALWAYS).float().mean())

    @property
    def always_high(self) -> float:
        """The share of units whose gate is open in 9 of 10 steps: of a forget gate, units that remember for long."""
        return float((self.units_high > ALWAYS).float().mean())


def saturation(tracks: Iterable[Track]) -> list[Saturation]:
    """One for each gate of each layer and direction (arXiv 1506.02078, section 4.2 and figure 3)."""
    found = []
    for track in tracks:
        for gate, values in track.gates.items():
            taken = values[values.isfinite().all(-1)]
            low, high = ((taken < LOW).float().mean(0), (taken > HIGH).float().mean(0))
            found.append(Saturation(track.name, gate, float(low.mean()), float(high.mean()), low, high))
    return found


def most_varying(values: Tensor, count: int) -> list[int]:
    """The units of `(T, B, H)` whose values vary most over all steps, the most varying first."""
    taken = values[values.isfinite().all(-1)]
    if len(taken) < 2:
        return list(range(min(count, values.shape[-1])))
    order = taken.std(0).argsort(descending=True, stable=True)
    found: list[int] = order[:count].tolist()
    return found


def alike_together(values: Tensor) -> list[int]:
    """An order of the units of `(T, U)` in which those that move alike stand together.

    By the angle of each unit's loadings on the first two principal components of its movement, from the widest gap on.
    """
    T, U = values.shape
    if U < 3 or T < 3:
        return list(range(U))
    moved = torch.nan_to_num(values - values.nanmean(0)).double()
    moved = moved / moved.norm(dim=0).clamp(min=1e-12)
    _, _, loadings = torch.linalg.svd(moved, full_matrices=False)
    angles = torch.atan2(loadings[1], loadings[0])
    order = angles.argsort(stable=True)
    gaps = torch.diff(angles[order], append=angles[order][:1] + 2 * torch.pi)
    start = int(gaps.argmax()) + 1
    found: list[int] = torch.cat((order[start:], order[:start])).tolist()
    return found


class Stretch(NamedTuple):
    """Steps `start` to `end` (not among them) of one row around an extreme of a unit, at step `peak`."""

    row: int
    start: int
    end: int
    peak: int
    value: float


def stretches(values: Tensor, count: int, *, before: int, after: int, lowest: bool = False) -> list[Stretch]:
    """The steps of `(T, B)` with the highest values, so many, each with its surroundings; no two overlap.

    before, after: how many steps around a peak are shown. lowest: the lowest values instead.
    """
    left = torch.where(values.isfinite(), -values if lowest else values, -torch.inf).clone()
    found: list[Stretch] = []
    while len(found) < count and bool((left > -torch.inf).any()):
        peak, row = divmod(int(left.argmax()), values.shape[1])
        steps = int(values[:, row].isfinite().nonzero()[-1]) + 1
        start, end = max(0, peak - before), min(steps, peak + after + 1)
        found.append(Stretch(row, start, end, peak, float(values[peak, row])))
        left[max(0, start - after) : end + before, row] = -torch.inf
    return found
