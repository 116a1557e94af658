"""How a recognizer, or a classifier of recordings, reads: frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.config import UserError
from elman.tasks.inspection import Inside, Reading
from elman.tasks.inspection.reading import spread
from elman.tasks.speech import answers, learning
from elman.tasks.speech.hearing import step_seconds
from elman.tasks.speech.recordings import Part

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["InsideRecordings"]

RECORDINGS = 48


class InsideRecordings(Inside):
    """Steps of features by their time; how loud they are is drawn beside."""

    unit = "seconds"
    dense = False

    def __init__(self, trained: Any) -> None:
        """Take the trained model of a run; where it has a decoder too, the layers are those of the encoder."""
        super().__init__(trained)
        self.within = "encoder" if trained.config.model.decoder == "joint" else "recurrent"

    def readings(self, part: Part) -> Iterator[Reading]:
        """Recordings spread over the part."""
        steps = learning.normalized(part, self.trained.codec, self.trained.config)
        for i in spread(len(steps), RECORDINGS):
            place = part.recordings[i].path.name
            yield self._reading(steps[i], part.frames(i), part.truth[i], place)

    def _reading(self, steps: Any, frames: Any, truth: Any, place: str) -> Reading:
        config, codec = self.trained.config, self.trained.codec
        seconds, stride = step_seconds(codec, config.features), config.features.stride
        loud = frames.mean(axis=1)
        curve = [float(loud[t * stride : (t + 1) * stride].mean()) for t in range(len(steps))]
        names = tuple(f"{t * seconds:.2f}" for t in range(len(steps)))
        return Reading(names, (steps,), truth, place, tuple(curve))

    def of_value(self, value: Any) -> Reading:
        """A recording by its name."""
        (found,) = answers.opened([str(value)], self.trained.codec, self.trained.config)
        if isinstance(found, str):
            raise UserError(f"{value}: {found}")
        (steps,) = answers.steps_of_opened([found], self.trained.codec, self.trained.config)
        place = str(value).rsplit("/", 1)[-1]
        return self._reading(steps, found.frames, np.zeros(1, dtype=np.int64), place)

    def loss(self, model: Any, readings: Sequence[Reading]) -> Tensor:
        """-log p of the class; of a recognizer −log p of the symbol that it finds likeliest at each step.

        A recording that is cut has no transcript, so that CTC's own loss has no meaning there.
        """
        import torch

        steps = [reading.steps[0] for reading in readings]
        if self.trained.codec.classes:
            return learning.loss_of(model, learning.batch_of(steps, [r.truth for r in readings])).sum()
        if not self.trained.config.by_ctc:
            raise UserError(
                "a network that writes by its decoder alone says nothing at each step of the sound"
            )
        batch = learning.batch_of(steps, [])
        logs = learning.logits_of(model, batch).log_softmax(dim=-1)
        real = torch.arange(len(logs)).unsqueeze(1) < torch.from_numpy(batch.lengths)
        return -torch.where(real, logs.max(dim=-1).values, 0.0).sum()
