"""Metrics: CIDEr-D, BLEU, ROUGE-L and exact match of captions, and what simple rules reach beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from elman.data.pictures import thumbnails
from elman.metrics import bootstrap
from elman.tasks.base import Baseline
from elman.tasks.captioning.captions import Captions, Part
from elman.tasks.captioning.measures import bleu, cider_d, exact, rouge_l, words_of
from elman.training.score import Score

__all__ = ["NearestPicture", "caption_baselines", "score_of"]

# Pictures whose distances are computed at once.
ROWS = 256


def score_of(captions: Sequence[str], part: Part, words: frozenset[str], *, interval: bool = False) -> Score:
    """CIDEr-D of captions of the part's pictures, with the other measures as figures.

    words: those of the training; `exact_known` is over the `known` pictures, which have a caption of such words alone.
    interval: with its 95 % interval, pictures drawn anew 1,000 times.
    """
    answers, references = [words_of(caption) for caption in captions], part.references
    values, common, right = (measure(answers, references) for measure in (cider_d, rouge_l, exact))
    known = np.array([any(words.issuperset(one) for one in own) for own in references], dtype=bool)
    figures: dict[str, Any] = {f"BLEU_{n}": value for n, value in enumerate(bleu(answers, references), 1)}
    figures |= {
        "ROUGE_L": _mean(common),
        "exact": _mean(right),
        "exact_known": _mean(right[known]),
        "known": int(known.sum()),
        "different": len({tuple(answer) for answer in answers}),
        "pictures": len(answers),
    }
    limits = bootstrap(lambda own: float(own.mean()), [values]) if interval else None
    return Score("CIDEr-D", _mean(values), higher=True, figures=figures, interval=limits)


def _mean(values: Any) -> float:
    return float(values.mean()) if len(values) else 0.0


class NearestPicture:
    """The picture of a collection that looks most like another: the nearest 16 x 16 mean colours."""

    def __init__(self, pixels: Any) -> None:
        """Index pictures `(N, H, W, 3)`."""
        self._known = thumbnails(pixels)
        self._sizes = np.square(self._known).sum(axis=1)

    def __call__(self, pixels: Any) -> list[int]:
        """The number of the nearest to each of `pixels` `(M, H, W, 3)`."""
        found: list[int] = []
        for start in range(0, len(pixels), ROWS):
            own = thumbnails(pixels[start : start + ROWS])
            found += (self._sizes - 2 * own @ self._known.T).argmin(axis=1).tolist()
        return found


def caption_baselines(prepared: Captions) -> Iterator[Baseline]:
    """The commonest caption for all, and the first caption of the nearest picture of the training data."""
    train, words = prepared.parts["train"], prepared.codec.words
    counts = Counter(caption for picture in train.pictures for caption in picture.captions)
    usual = min(counts, key=lambda caption: (-counts[caption], caption))
    nearest = NearestPicture(train.pixels)
    rules: dict[str, Callable[[Part], list[str]]] = {
        "commonest caption": lambda part: [usual] * len(part.pictures),
        "nearest training picture": lambda part: [
            train.pictures[i].captions[0] for i in nearest(part.pixels)
        ],
    }
    for name, rule in rules.items():
        for part in prepared.parts.values():
            if part.name != "train":
                yield Baseline(name, part.name, score_of(rule(part), part, words))
