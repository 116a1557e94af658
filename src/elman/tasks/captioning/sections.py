"""The captioner's own part of a report: where it looks, what it says best and worst, how long its captions are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.data.pictures import Fit, Fitting, PictureError, Pixels, fitted, png, read_picture
from elman.page import Section, columns, facts, paragraph, picture, table
from elman.tasks.captioning import learning
from elman.tasks.captioning.captions import Part
from elman.tasks.captioning.looking import strip_of
from elman.tasks.captioning.measures import cider_d, words_of

if TYPE_CHECKING:
    from elman.tasks.captioning.answers import Caption
    from elman.tasks.captioning.task import TrainedCaptioner

__all__ = ["sections_of", "sharper", "steps_in_words"]

# Pictures of the part that are described for the report, and the largest side of one that is shown.
MOST, WORST = 1000, 20
SHOWN = 320


def sections_of(trained: TrainedCaptioner, part: Part) -> Iterator[Section]:
    """Of the first 1,000 pictures."""
    part = part.first(MOST)
    found = [own[0] for own in trained.captions_of(part.pixels)]
    scores = cider_d([words_of(one.text) for one in found], part.references)
    yield Section("Where it looks", _looks(trained, part, found, scores))
    yield Section("Words", _words(part, found))
    yield Section("Worst captions", _worst(part, found, scores))


def _looks(trained: TrainedCaptioner, part: Part, found: Sequence[Caption], scores: Any) -> str:
    """Pictures from the best to the worst, with where each word looks."""
    order = sorted(range(len(found)), key=lambda i: (-scores[i], i))
    places = sorted(
        {0, len(order) // 10, len(order) // 4, len(order) // 2, 3 * len(order) // 4, len(order) - 1}
    )
    chosen = [order[place] for place in places]
    weights = learning.looks(trained.model, part.pixels[chosen], [found[i].tokens for i in chosen])
    pieces = [
        paragraph(
            "From the best to the worst of the part. Behind each picture it stands once more for each word, bright "
            "where the network looked as it wrote the word.",
            kind="quiet",
        )
    ]
    for i, own in zip(chosen, weights, strict=True):
        strip = strip_of(_shown(trained, part, i), list(own), steps_in_words(trained, found[i]))
        pieces.append(
            paragraph(f"“{found[i].text}”, CIDEr-D {scores[i]:.2f}. Right: {_right(part, i)}")
            + picture(png(strip), f"where the network looks as it writes “{found[i].text}”")
        )
    return "".join(pieces)


def _shown(trained: TrainedCaptioner, part: Part, i: int) -> Pixels:
    """The picture as the network sees it, sharper where its file still lies there."""
    try:
        whole = read_picture(part.pictures[i].path)
    except PictureError:
        return np.asarray(part.pixels[i])
    return sharper(whole, part.pixels[i], trained.config.picture.fit)


def sharper(whole: Pixels, seen: Pixels, fit: Fit) -> Pixels:
    """A picture cut as the network sees it, `seen` `(H, W, 3)`, and several times as large."""
    height, width = seen.shape[:2]
    scale = max(1, SHOWN // max(height, width))
    return fitted(whole, Fitting(height * scale, width * scale, fit))


def steps_in_words(trained: TrainedCaptioner, caption: Caption) -> list[str]:
    """What each step wrote, the end too."""
    vocabulary = trained.codec.vocabulary
    return [*(vocabulary.text(token).strip() or "␣" for token in caption.tokens), "(end)"]


def _right(part: Part, i: int, most: int = 3) -> str:
    captions = part.pictures[i].captions
    return " / ".join(captions[:most]) + (" / …" if len(captions) > most else "")


def _words(part: Part, found: Sequence[Caption]) -> str:
    """How many words are written, and which of the right ones never are."""
    answers = [words_of(one.text) for one in found]
    own = Counter(word for answer in answers for word in set(answer))
    right = Counter(
        word for captions in part.references for word in {word for one in captions for word in one}
    )
    missed = [(word, count) for word, count in right.most_common() if not own[word]][:15]
    whole = facts(
        {
            "words a caption": float(np.mean([len(answer) for answer in answers])),
            "words a right one": float(np.mean([len(one) for own in part.references for one in own])),
            "different captions": len({tuple(answer) for answer in answers}),
            "different words": len(own),
        }
    )
    return columns(whole, table(["word that is never written", "pictures with it"], missed) if missed else "")


def _worst(part: Part, found: Sequence[Caption], scores: Any) -> str:
    order = sorted(range(len(found)), key=lambda i: (scores[i], i))[:WORST]
    rows = [(float(scores[i]), found[i].text, _right(part, i), part.pictures[i].path.name) for i in order]
    return table(["CIDEr-D", "caption", "right", "picture"], rows)
