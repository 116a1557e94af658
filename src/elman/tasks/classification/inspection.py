"""How a classifier of texts reads: word by word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.config import UserError
from elman.tasks.classification import learning
from elman.tasks.classification.texts import Part
from elman.tasks.inspection import Inside, Reading
from elman.tasks.inspection.reading import spread

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["InsideTexts"]

TEXTS = 200


class InsideTexts(Inside):
    """Words or characters, and the label of the whole."""

    def __init__(self, trained: Any) -> None:
        """Take the trained model."""
        super().__init__(trained)
        self.unit = trained.codec.lexicon.unit
        self.joined = " " if self.unit == "words" else ""
        self.around = (12, 6) if self.unit == "words" else (44, 16)

    def readings(self, part: Part) -> Iterator[Reading]:
        """Texts spread over the part, the longest of them first: they have the most to remember."""
        chosen = spread(len(part.examples), TEXTS)
        for i in sorted(chosen, key=lambda i: -len(part.tokens[i])):
            yield self._reading(
                part.examples[i].text, part.tokens[i], part.truth[i], str(part.examples[i].place)
            )

    def _reading(self, text: str, tokens: Any, truth: Any, place: str = "") -> Reading:
        names = [span.word for span in self.trained.codec.lexicon.spans(text)][: len(tokens)]
        return Reading(tuple(names), (np.asarray(tokens),), truth, place.rsplit("/", 1)[-1])

    def of_text(self, text: str) -> Reading:
        """A text, with any label."""
        lexicon, labels = self.trained.codec.lexicon, self.trained.codec.labels
        tokens = lexicon.encoder()(text)[: self.trained.config.data.longest or None]
        if not len(tokens):
            raise UserError("an empty text has no steps to look at")
        truth = np.zeros(len(labels.names), dtype=np.int64) if labels.several else np.int64(0)
        return self._reading(text, tokens, truth)

    def loss(self, model: Any, readings: Sequence[Reading]) -> Tensor:
        """-log p of the label, or of the labels."""
        truth = np.array([reading.truth for reading in readings])
        batch = learning.batch_of([reading.steps[0] for reading in readings], truth)
        return learning.loss_of(model, batch, 0.0, None).sum()
