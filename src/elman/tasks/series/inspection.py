"""How the networks of series read: row by row, one value drawn beside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.config import UserError
from elman.data.series.stamps import written
from elman.metrics import mean_of_known
from elman.tasks.inspection import Inside, Reading
from elman.tasks.inspection.reading import spread
from elman.tasks.series import classes, learning
from elman.tasks.series.maps import targets_of
from elman.tasks.series.panel import Numbers, encode

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["InsideCases", "InsideSeries"]

PIECES, LENGTH = 48, 200


def _middle(values: Any) -> float:
    """What is drawn for a value that is missing: the mean of the others, 0 where there is none."""
    return float(np.nan_to_num(mean_of_known(values)))


class InsideSeries(Inside):
    """Rows of measured series, and the values that follow each."""

    unit = "rows"
    dense = False

    def readings(self, part: Any) -> Iterator[Reading]:
        """Pieces of the rows that are measured, all of one length, each from a start without memory."""
        ends = [min(end, len(frame)) for frame, end in zip(part.frames, part.ends, strict=True)]
        T = min(LENGTH, max(ends, default=0))
        firsts = [
            (number, first)
            for number, (start, end) in enumerate(zip(part.starts, ends, strict=True))
            for first in range(max(0, min(start, end - T)), end - T + 1, T)
        ]
        for place in spread(len(firsts), PIECES):
            number, first = firsts[place]
            yield self._reading(part.frames[number].part(0, ends[number]), first, T)

    def _reading(self, frame: Any, first: int, T: int) -> Reading:
        codec = self.trained.codec
        numbers = encode(frame, codec)
        rows = np.arange(first, first + T)
        h = 1 if self.trained.config.model.ahead == "steps" else codec.horizon
        y = targets_of(numbers.x[:, : codec.targets], h, rows).reshape(T, -1)
        steps = tuple(np.asarray(part[rows], dtype=np.float32) for part in numbers)
        timed = codec.layout.time
        names = [written(float(frame.times[row]), frame.clock) if timed else str(row + 1) for row in rows]
        curve = np.nan_to_num(frame.values[rows, 0], nan=_middle(frame.values[:, 0]))
        unit = codec.scale(frame.name).deviation[: codec.targets].astype(np.float32)
        return Reading(
            tuple(names), (*steps, y.astype(np.float32)), unit, frame.name, tuple(map(float, curve))
        )

    def of_file(self, path: str) -> Reading:
        """The last rows of the first series of a table."""
        part = self.trained.read((path,), self.trained.config)
        frame = part.frames[0]
        T = min(LENGTH, len(frame))
        if T < 3:
            raise UserError(f"{path} has {T} rows of {frame.name or 'its first series'}; three are needed")
        return self._reading(frame, len(frame) - T, T)

    def loss(self, model: Any, readings: Sequence[Reading]) -> Tensor:
        """Of all values that were observed, as in training."""
        parts = [np.stack(column, axis=1) for column in zip(*(r.steps for r in readings), strict=True)]
        count = len(Numbers._fields)
        parts[1:count] = [np.nan_to_num(part, nan=0.0) for part in parts[1:count]]
        unit = np.stack([reading.truth for reading in readings])
        x, since, known, ahead, y = parts
        return learning.loss_of(model, learning.PieceBatch(x, since, known, ahead, y, unit))[0]


class InsideCases(Inside):
    """Steps of whole series, and the class of each."""

    dense = False

    def readings(self, part: Any) -> Iterator[Reading]:
        """Cases spread over the part."""
        for i in spread(len(part.cases), PIECES):
            place = str(part.cases[i].place).rsplit("/", 1)[-1]
            yield self._reading(part.cases[i], part.numbers[i], part.truth[i], place)

    def _reading(self, case: Any, numbers: Any, truth: Any, place: str = "") -> Reading:
        k = self.trained.config.data.frames
        curve = np.nan_to_num(case.values[::k, 0], nan=_middle(case.values[:, 0]))[: len(numbers)]
        names = tuple(str(t + 1) for t in range(len(numbers)))
        return Reading(names, (numbers,), truth, place, tuple(map(float, curve)))

    def of_file(self, path: str) -> Reading:
        """The first case of a file."""
        part = self.trained.read((path,), self.trained.config)
        place = str(part.cases[0].place).rsplit("/", 1)[-1]
        return self._reading(part.cases[0], part.numbers[0], part.truth[0], place)

    def loss(self, model: Any, readings: Sequence[Reading]) -> Tensor:
        """-log p of the class."""
        import torch
        import torch.nn.functional as F

        truth = np.array([int(reading.truth) for reading in readings])
        batch = classes.batch_of([reading.steps[0] for reading in readings], truth)
        logits = model(torch.from_numpy(batch.x), torch.from_numpy(batch.lengths))
        return F.cross_entropy(logits, torch.from_numpy(batch.truth), reduction="sum")
