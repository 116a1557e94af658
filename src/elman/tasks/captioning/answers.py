"""Predict: a caption for every picture, the n best, scores, and pictures of where the network looked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from elman.config import Amount, Count, Flag, UserError, Whole, option
from elman.data.account import OnBad
from elman.data.inputs import STANDARD_INPUT, Item, check_inputs, lines
from elman.data.pictures import (
    FOREIGN,
    SUFFIXES,
    Fitting,
    PictureError,
    Pixels,
    fitted,
    pictures_in,
    read_picture,
)
from elman.tasks import verbs
from elman.tasks.base import Answer
from elman.tasks.captioning.learning import Search
from elman.tasks.captioning.measures import words_of

__all__ = ["Caption", "Evaluate", "Predict", "answer_of", "by_consensus", "inputs_of", "opened", "search_of"]


@dataclass(frozen=True)
class Searching:
    """How captions are searched for."""

    beam: Count = option(
        5, "captions that are followed at once (1: the likeliest token each time)", unit="COUNT"
    )
    length_penalty: Amount = option(
        0.6, "how much longer captions are favoured: alpha of Wu et al. 2016", unit="ALPHA"
    )
    consensus: Amount = option(
        0.0,
        "of the captions of the beam that one which is most like all of them, each weighed by its probability to the "
        "power of 1 / T (0: the likeliest)",
        unit="T",
    )
    no_repeat: Whole = option(0, "never write the same so many tokens twice (0: allowed)", unit="COUNT")


@dataclass(frozen=True)
class Evaluate(Searching, verbs.Evaluate):
    """Flags of `elman evaluate`."""

    on_bad: OnBad = option(
        "auto",
        "captions of --data that cannot be used: skip them, refuse the data, or auto: refuse where they are more than "
        "1 %",
        needs={"data": True},
    )
    shuffled: Flag = option(
        False, "show the network other pictures of the part in their place: what it knows without looking"
    )


@dataclass(frozen=True)
class Predict(Searching, verbs.Predict):
    """Flags of `elman predict`: pictures, folders of them, or files and standard input whose lines name them."""

    n_best: Count = option(1, "captions of each picture in the object of --json, best first", unit="COUNT")
    scores: Flag = option(False, "write log p of each caption, in nats, and a tab in front of it")
    attention: str = option(
        "", "folder for a picture of where each word looks, a PNG for each input (empty: none)", unit="FOLDER"
    )

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        if self.n_best > self.beam:
            raise UserError(
                f"--n-best {self.n_best} is more than --beam {self.beam}, which is as many as are found: give a larger "
                f"--beam"
            )


class Caption(NamedTuple):
    """A caption; its tokens; log p of these and of the end, in nats; score: what captions are ordered by.

    The score is log p over the length's penalty, or the likeness to all captions of the beam.
    """

    text: str
    tokens: tuple[int, ...]
    log_probability: float
    score: float


def search_of(settings: Any) -> Search:
    """How captions are searched for, by the flags of a verb."""
    return Search(
        beam=settings.beam,
        n_best=getattr(settings, "n_best", 1),
        length_penalty=settings.length_penalty,
        no_repeat_ngram=settings.no_repeat,
        consensus=settings.consensus,
    )


def by_consensus(found: Sequence[Caption], search: Search) -> list[Caption]:
    """The captions of a beam in the order of their likeness to all of it, the first `n_best` of them."""
    from elman.decoding import expected_likeness

    likeness = expected_likeness(
        [words_of(one.text) for one in found], [one.log_probability for one in found], search.consensus
    )
    ordered = sorted(zip(found, likeness, strict=True), key=lambda pair: -pair[1])
    return [one._replace(score=score) for one, score in ordered][: search.n_best]


def inputs_of(settings: Predict) -> Iterator[list[Item]]:
    """Pictures in groups; the lines of any other file, and of standard input, name pictures."""
    check_inputs(settings.inputs)
    for path in settings.inputs:
        picture = path != STANDARD_INPUT and Path(path).suffix.lower() in SUFFIXES | FOREIGN
        if path == STANDARD_INPUT or not (picture or Path(path).is_dir()):
            yield from lines([path], settings.together)
            continue
        files = pictures_in(Path(path)) if Path(path).is_dir() else [Path(path)]
        if not files:
            raise UserError(f"{path} holds no pictures")
        items = [Item(str(file), str(file)) for file in files]
        yield from (items[at : at + settings.together] for at in range(0, len(items), settings.together))


def opened(values: Sequence[Any], how: Fitting) -> list[Pixels | str]:
    """The pictures of these names, or of pixels `(H, W, 3)`; what is wrong with one in a few words."""
    found: list[Pixels | str] = []
    for value in values:
        try:
            found.append(fitted(_pixels(value), how))
        except PictureError as error:
            found.append(str(error))
    return found


def _pixels(value: Any) -> Pixels:
    if not isinstance(value, str | Path):
        if getattr(value, "ndim", 0) != 3 or value.shape[2] != 3 or str(value.dtype) != "uint8":
            raise PictureError("pixels that are not (H, W, 3) of uint8")
        pixels: Pixels = value
        return pixels
    name = str(value).strip()
    if not name:
        raise PictureError("empty line")
    if not Path(name).is_file():
        raise PictureError("no such picture")
    return read_picture(Path(name))


def answer_of(value: Any, found: Sequence[Caption], settings: Predict) -> Answer:
    """A line for a person, an object for a program."""
    best = found[0]
    name = str(value) if isinstance(value, str | Path) else ""
    data: dict[str, Any] = {
        "picture": name,
        "caption": best.text,
        "log_probability": round(best.log_probability, 4),
    }
    if settings.n_best > 1:
        data["n_best"] = [
            {
                "caption": one.text,
                "log_probability": round(one.log_probability, 4),
                "score": round(one.score, 4),
            }
            for one in found
        ]
    return Answer(f"{best.log_probability:.4f}\t{best.text}" if settings.scores else best.text, data)
