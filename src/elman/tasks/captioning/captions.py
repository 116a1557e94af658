"""Data: pictures with captions, read, divided, checked and put into numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import UserError, nearest, require
from elman.data.account import Account, Place
from elman.data.captions import Captioned, read_captions
from elman.data.feature_store import cache_folder, digests
from elman.data.labelled import parts_of
from elman.data.pictures import load_pictures, thumbnails
from elman.data.splits import folds, shared, split
from elman.data.subwords import Vocabulary, learn_vocabulary
from elman.tasks.captioning.measures import Words, words_of
from elman.tasks.captioning.settings import CaptionSettings, Config
from elman.tasks.divided import Divided
from elman.tasks.network import require_weights
from elman.training.run import Run

__all__ = ["Captions", "Codec", "Part", "prepare", "read_codec", "read_part"]

Ids = npt.NDArray[np.int32]
Pixels = npt.NDArray[np.uint8]
PARTS = ("train", "valid", "test")
# Pictures whose thumbnails differ by less, in the mean over their colours from 0 to 1 (root of the mean square).
NEAR = 0.03
# Pictures whose distances to all others are computed at once.
ROWS = 512


class Codec(NamedTuple):
    """Between captions and numbers; words: all that stand in the captions of the training, as the measures cut them."""

    vocabulary: Vocabulary
    words: frozenset[str]

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {"vocabulary": self.vocabulary.to_json(), "words": sorted(self.words)}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Codec:
        """What `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(Vocabulary.from_json(saved["vocabulary"]), frozenset(saved["words"]))


class Part(NamedTuple):
    """The pictures of a part, `(N, size, size, 3)`, each with its captions as words and as numbers without an end."""

    name: str
    pictures: list[Captioned]
    marks: list[str]
    pixels: Pixels
    tokens: list[list[Ids]]
    account: Account | None = None

    @property
    def references(self) -> list[list[Words]]:
        """The captions of each picture, cut into words."""
        return [[words_of(caption) for caption in picture.captions] for picture in self.pictures]

    def first(self, count: int) -> Part:
        """The part with its first pictures alone."""
        return self._replace(
            pictures=self.pictures[:count],
            marks=self.marks[:count],
            pixels=self.pixels[:count],
            tokens=self.tokens[:count],
        )


class _Opened(NamedTuple):
    """Pictures that could be opened, with their marks and pixels."""

    pictures: list[Captioned]
    marks: list[str]
    pixels: Pixels

    def only(self, indices: Sequence[int]) -> _Opened:
        own = np.asarray(indices, dtype=np.int64)
        return _Opened([self.pictures[i] for i in own], [self.marks[i] for i in own], self.pixels[own])


@dataclass(frozen=True)
class Captions(Divided[Codec, Part]):
    """The data of a training."""

    def items(self, part: Part) -> Sequence[Any]:
        """Its pictures."""
        return part.pictures

    def facts(self) -> dict[str, Any]:
        """Sizes, and a fingerprint of all pictures and captions in their parts."""
        digest = hashlib.sha256()
        for name, part in self.parts.items():
            for picture, mark in zip(part.pictures, part.marks, strict=True):
                digest.update("\0".join((name, mark, *picture.captions, "")).encode("utf-8", "surrogatepass"))
        vocabulary = self.codec.vocabulary.size
        return {
            "read": self.read,
            "pictures": self.sizes,
            "vocabulary": vocabulary,
            "sha256": digest.hexdigest(),
        }

    def lines(self) -> list[str]:
        """The accounts, the sizes, the vocabulary."""
        lines = self.account_lines()
        lines.append(self.sizes_line("pictures"))
        train = self.parts["train"]
        captions = sum(map(len, train.tokens))
        tokens = sum(len(ids) for own in train.tokens for ids in own)
        height, width = train.pixels.shape[1:3]
        unit = self.codec.vocabulary.unit.replace("bpe", "byte pairs")
        lines.append(
            f"{captions / max(len(train.pictures), 1):.1f} captions a picture, {tokens / max(captions, 1):.1f} tokens "
            f"a caption; {self.codec.vocabulary.size:,} {unit} to write; pictures of {height} x {width}"
        )
        return lines


def read_codec(run: Run) -> Codec:
    """The codec of a run. Raises UserError where it is damaged."""
    try:
        return Codec.from_json(run.read_json("codec.json"))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{run.path / 'codec.json'} is damaged ({error!r}); bring it back or train anew"
        ) from None


def prepare(config: Config, codec: Codec | None) -> Captions:
    """Read, open, divide, check and encode. The vocabulary is learnt from the training captions unless it is given.

    Raises UserError where the data cannot be used.
    """
    require("PIL", extra="vision", what="captioning")
    if config.model.encoder == "pretrained" and codec is None:
        require_weights()
    settings = config.data
    accounts: dict[str, Account] = {}
    read: dict[str, _Opened] = {}
    for name, paths in _sources(settings).items():
        if paths:
            account = accounts[name] = Account("captions")
            read[name] = _opened(read_captions(paths, account, settings.listing()), config, account)
    for account in accounts.values():
        account.judge(settings.on_bad)
    if not read["train"].pictures:
        raise UserError(f"{', '.join(settings.train)}: no picture with a caption that can be used")
    read, drawn = _divide(read, settings)
    for name, found in read.items():
        if name != "train":
            _remark_shared(name, read["train"], found, accounts.get(name, accounts["train"]))
    whole = codec or _learn(read["train"].pictures, settings)
    parts = {
        name: _encoded(name, found, whole, accounts.get(name, accounts["train"]))
        for name, found in read.items()
        if found.pictures
    }
    parts["train"] = _without_long(parts["train"], settings.longest, accounts["train"])
    return Captions(whole, parts, accounts, drawn)


def _sources(settings: CaptionSettings) -> dict[str, Sequence[str]]:
    if not settings.train:
        raise UserError(
            "nothing to learn from: give pictures with captions by --data (a table, a file of captions, or a folder)"
        )
    given: dict[str, Sequence[str]] = {name: getattr(settings, name) for name in PARTS}
    folder = Path(settings.train[0])
    if len(settings.train) == 1 and folder.is_dir() and not settings.fold:
        parts = parts_of(folder)
        if parts:
            given = {
                name: given[name] if name != "train" and given[name] else _lists(parts.get(name, ()))
                for name in given
            }
    return given


def _lists(paths: Sequence[Path]) -> tuple[str, ...]:
    """What a part is read from: its tables, where there are some, for then its folders hold what these list."""
    tables = [path for path in paths if path.is_file()]
    return tuple(map(str, tables or paths))


def _opened(pictures: list[Captioned], config: Config, account: Account) -> _Opened:
    """The pictures that can be opened; those that cannot become faults, one for each of their captions."""
    paths = [picture.path for picture in pictures]
    marks = digests(paths)
    kept = load_pictures(paths, marks, config.picture.fitting(), cache=cache_folder(config.picture.cache))
    for number, reason in kept.faults.items():
        for _ in pictures[number].captions:
            account.fault(reason, Place(str(pictures[number].path)))
    good = [number for number in range(len(pictures)) if number not in kept.faults]
    return _Opened([pictures[i] for i in good], [marks[i] for i in good], kept.rows)


def _divide(
    read: dict[str, _Opened], settings: CaptionSettings
) -> tuple[dict[str, _Opened], tuple[str, ...]]:
    """The parts: given, named by the data themselves, or drawn by the picture; and which of them were drawn."""
    train = read["train"]
    if "valid" not in read and "test" not in read and not settings.fold:
        named = {name: [i for i, one in enumerate(train.pictures) if one.part == name] for name in PARTS}
        if named["train"] and (named["valid"] or named["test"]):
            lost = len(train.pictures) - sum(map(len, named.values()))
            if lost:
                raise UserError(
                    f"{lost:,} pictures are of no part, though others are of train, valid or test"
                )
            read = {name: train.only(own) for name, own in named.items() if own}
            train = read["train"]
    valid = 0.0 if "valid" in read else settings.valid_share
    test = 0.0 if "valid" in read or "test" in read else settings.test_share
    drawn = tuple(name for name, share in (("valid", valid), ("test", test)) if share)
    if not drawn:
        return {name: read[name] for name in PARTS if name in read}, ()
    keys = [_key(picture, mark, settings) for picture, mark in zip(train.pictures, train.marks, strict=True)]
    if settings.fold:
        number, count = map(int, settings.fold.split("/"))
        found = folds(keys, [""] * len(keys), count, valid=valid, seed=settings.split_seed)[number - 1]
    else:
        found = split(keys, [""] * len(keys), valid=valid, test=test, seed=settings.split_seed)
    parts = {name: train.only(rows.tolist()) for name, rows in zip(PARTS, found, strict=True) if len(rows)}
    return {name: parts.get(name) or read[name] for name in PARTS if name in parts or name in read}, drawn


def _key(picture: Captioned, mark: str, settings: CaptionSettings) -> str:
    """What is not parted: the group, or the picture by its bytes, wherever it lies."""
    if not settings.group:
        return mark
    if settings.group not in picture.fields:
        hint = (
            nearest(settings.group, picture.fields)
            or f"; its columns are {', '.join(picture.fields) or 'none'}"
        )
        raise UserError(f"--group {settings.group}: {picture.place} has no such column{hint}")
    return picture.fields[settings.group]


def _remark_shared(name: str, train: _Opened, others: _Opened, account: Account) -> None:
    """Say which pictures stand in the training too, byte by byte, or nearly so."""
    again = set(shared(train.marks, others.marks))
    places = [Place(str(picture.path)) for picture in others.pictures]
    if again:
        account.remark(f"{name} has a picture of the training data", [places[i] for i in sorted(again)])
    near = [i for i in _near(train.pixels, others.pixels) if i not in again]
    if near:
        account.remark(
            f"{name} has a picture that looks nearly like one of the training data", [places[i] for i in near]
        )


def _near(train: Pixels, others: Pixels) -> list[int]:
    """The pictures of `others` that are nearly one of the training: thumbnails closer than `NEAR`."""
    if not len(train) or not len(others):
        return []
    known = thumbnails(train)
    sizes = np.square(known).sum(axis=1)
    found: list[int] = []
    for start in range(0, len(others), ROWS):
        own = thumbnails(others[start : start + ROWS])
        squares = np.square(own).sum(axis=1)[:, None] + sizes - 2 * own @ known.T
        found += (start + np.flatnonzero(squares.min(axis=1) < NEAR**2 * known.shape[1])).tolist()
    return found


def _learn(pictures: Sequence[Captioned], settings: CaptionSettings) -> Codec:
    captions = [caption for picture in pictures for caption in picture.captions]
    vocabulary = learn_vocabulary(
        captions,
        unit=settings.tokens,
        size=settings.vocabulary,
        min_count=settings.min_count,
        lower=settings.lower,
    )
    return Codec(vocabulary, frozenset(word for caption in captions for word in words_of(caption)))


def _encoded(name: str, found: _Opened, codec: Codec, account: Account | None) -> Part:
    """The captions as numbers."""
    captions = [caption for picture in found.pictures for caption in picture.captions]
    ids = iter(codec.vocabulary.encode(captions))
    tokens = [[next(ids) for _ in picture.captions] for picture in found.pictures]
    return Part(name, found.pictures, found.marks, found.pixels, tokens, account)


def _without_long(part: Part, longest: int, account: Account) -> Part:
    """The part without its long captions; a picture without any other is left out with them."""
    if not longest:
        return part
    tokens = [[ids for ids in own if len(ids) <= longest] for own in part.tokens]
    for picture, all_of_it, own in zip(part.pictures, part.tokens, tokens, strict=True):
        for _ in range(len(all_of_it) - len(own)):
            account.set_aside(f"longer than {longest} tokens", picture.place)
    kept = [i for i, own in enumerate(tokens) if own]
    if not kept:
        raise UserError(f"--longest {longest} leaves no caption to train on")
    if len(kept) == len(tokens):
        return part._replace(tokens=tokens)
    pictures, marks = [part.pictures[i] for i in kept], [part.marks[i] for i in kept]
    return Part(part.name, pictures, marks, part.pixels[kept], [tokens[i] for i in kept], account)


def read_part(paths: Sequence[str], config: Config, codec: Codec) -> Part:
    """The pictures of other files. Raises UserError where none can be used."""
    account = Account("captions")
    found = _opened(read_captions(paths, account, config.data.listing()), config, account)
    account.judge(config.data.on_bad)
    if not found.pictures:
        raise UserError(f"{', '.join(paths)}: no picture with a caption that can be used")
    return _encoded("other", found, codec, account)
