"""How a tagger reads: word by word, with the tag of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.config import UserError
from elman.tasks.inspection import Inside, Reading
from elman.tasks.inspection.reading import spread
from elman.tasks.tagging import learning
from elman.tasks.tagging.answers import words_of
from elman.tasks.tagging.sentences import Part, encode_words

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["InsideSentences"]

SENTENCES = 200


class InsideSentences(Inside):
    """Words with their tags; what the chain of tags does is not looked at."""

    unit = "words"

    def readings(self, part: Part) -> Iterator[Reading]:
        """Sentences spread over the part, the longest of them first."""
        kept = [i for i, sentence in enumerate(part.sentences) if sentence.words]
        chosen = [kept[place] for place in spread(len(kept), SENTENCES)]
        for i in sorted(chosen, key=lambda i: -len(part.sentences[i].words)):
            own = part.sentences[i]
            place = str(own.place).rsplit("/", 1)[-1]
            yield Reading(tuple(own.words), (part.numbers[i], part.truth[i]), place=place)

    def of_text(self, text: str) -> Reading:
        """A text, cut into words as for an answer."""
        from elman.config import build

        return self.of_value(text, build(self.trained.task.verbs()["predict"].settings, {}))

    def of_value(self, value: Any, settings: Any = None) -> Reading:
        """A text or its words."""
        own = settings or self.predicting("-")
        words = words_of(value, self.trained.codec, own).words
        if not words:
            raise UserError("an empty text has no steps to look at")
        return Reading(
            tuple(words), (encode_words(words, self.trained.codec), np.zeros(len(words), dtype=np.int64))
        )

    def loss(self, model: Any, readings: Sequence[Reading]) -> Tensor:
        """-log p of each tag by itself; what a chain of tags adds is left out."""
        import torch.nn.functional as F
        from torch import from_numpy

        batch = learning.batch_of(
            [reading.steps[0] for reading in readings], [reading.steps[1] for reading in readings]
        )
        logits = learning.logits_of(model, batch)
        return F.cross_entropy(
            logits.flatten(0, 1), from_numpy(batch.truth).flatten(), ignore_index=-1, reduction="sum"
        )
