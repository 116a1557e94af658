"""Data: pairs of sentences, read, divided, checked and put into numbers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import UserError
from elman.data.account import Account
from elman.data.pairs import Pair, check_pairs, parts_of, read_pairs
from elman.data.splits import shared, split
from elman.data.subwords import Vocabulary, learn_vocabulary
from elman.tasks.divided import Divided
from elman.tasks.translation.settings import Config, PairSettings
from elman.training.run import Run

__all__ = ["Codec", "Pairs", "Part", "encode", "prepare", "read_codec", "read_part"]

Ids = npt.NDArray[np.int32]
PARTS = ("train", "valid", "test")
# Share of the sentences whose last sign stands alone from which on a text is taken for tokenized.
TOKENIZED = 0.9


class Codec(NamedTuple):
    """Between sentences and numbers on both sides; the same vocabulary twice where it is joint.

    tokenized: whether signs stand alone in the targets, as tokenizers leave them.
    """

    source: Vocabulary
    target: Vocabulary
    joint: bool
    tokenized: bool

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        target = None if self.joint else self.target.to_json()
        return {"source": self.source.to_json(), "target": target, "tokenized": self.tokenized}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Codec:
        """What `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        source = Vocabulary.from_json(saved["source"])
        joint = saved["target"] is None
        target = source if joint else Vocabulary.from_json(saved["target"])
        return cls(source, target, joint, saved["tokenized"])


class Part(NamedTuple):
    """The pairs of a part and their numbers, on both sides without an end; account: of its files."""

    name: str
    pairs: list[Pair]
    sources: list[Ids]
    targets: list[Ids]
    account: Account | None = None

    @property
    def references(self) -> list[str]:
        """The right translations as they were read, one blank between words."""
        return [" ".join(pair.target.split()) for pair in self.pairs]


@dataclass(frozen=True)
class Pairs(Divided[Codec, Part]):
    """The data of a training."""

    def items(self, part: Part) -> Sequence[Any]:
        """Its pairs."""
        return part.pairs

    def facts(self) -> dict[str, Any]:
        """Sizes, and a fingerprint of all pairs in their parts."""
        digest = hashlib.sha256()
        for name, part in self.parts.items():
            for pair in part.pairs:
                digest.update(
                    "\0".join((name, pair.source, pair.target, "")).encode("utf-8", "surrogatepass")
                )
        return {
            "read": self.read,
            "pairs": self.sizes,
            "vocabulary": [self.codec.source.size, self.codec.target.size],
            "sha256": digest.hexdigest(),
        }

    def lines(self) -> list[str]:
        """The accounts, the sizes, the vocabularies."""
        lines = self.account_lines()
        lines.append(self.sizes_line("pairs"))
        train, unit = self.parts["train"], self.codec.source.unit.replace("bpe", "byte pairs")
        sides = [
            f"{vocabulary.size:,} {unit} to {side}, {_mean(rows):.1f} a sentence"
            for side, vocabulary, rows in (
                ("read", self.codec.source, train.sources),
                ("write", self.codec.target, train.targets),
            )
        ]
        lines.append("; ".join(sides) + ("; one vocabulary" if self.codec.joint else ""))
        return lines


def _mean(rows: Sequence[Ids]) -> float:
    return sum(map(len, rows)) / max(len(rows), 1)


def read_codec(run: Run) -> Codec:
    """The codec of a run. Raises UserError where it is damaged."""
    try:
        return Codec.from_json(run.read_json("codec.json"))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{run.path / 'codec.json'} is damaged ({error!r}); bring it back or train anew"
        ) from None


def prepare(config: Config, codec: Codec | None) -> Pairs:
    """Read, divide, check and encode. The vocabularies are learnt from the training pairs unless they are given.

    Raises UserError where the data cannot be used: sides of different lengths, too many faults, nothing to divide.
    """
    settings = config.data
    accounts: dict[str, Account] = {}
    read = {
        name: _read(name, paths, targets, settings, accounts)
        for name, (paths, targets) in _sources(settings).items()
        if paths
    }
    for account in accounts.values():
        account.judge(settings.on_bad)
    if not read["train"]:
        raise UserError(f"{', '.join(settings.train)}: no pair of sentences that can be used")
    read, drawn = _divide(read, settings)
    for name, pairs in read.items():
        check_pairs(pairs, accounts.get(name, accounts["train"]))
        if name != "train":
            _remark_shared(name, read["train"], pairs, accounts.get(name, accounts["train"]))
    whole = codec or _learn_codec(read["train"], settings)
    parts = {
        name: encode(name, pairs, whole, accounts.get(name, accounts["train"]))
        for name, pairs in read.items()
        if pairs
    }
    parts["train"] = _without_long(parts["train"], settings.longest, accounts["train"])
    return Pairs(whole, parts, accounts, drawn)


def _sources(settings: PairSettings) -> dict[str, tuple[Sequence[str], Sequence[str]]]:
    if not settings.train:
        raise UserError("nothing to learn from: give pairs of sentences by --data (files, or a folder)")
    given: dict[str, tuple[Sequence[str], Sequence[str]]] = {
        "train": (settings.train, settings.target_from),
        "valid": (settings.valid, settings.valid_target_from),
        "test": (settings.test, settings.test_target_from),
    }
    folder = Path(settings.train[0])
    if len(settings.train) == 1 and folder.is_dir() and not settings.target_from:
        asked = tuple(name for name in ("valid", "test") if given[name][0])
        found = parts_of(folder, settings.reading(), asked)
        given |= {name: (tuple(paths), ()) for name, paths in found.items() if name not in asked}
    return given


def _read(
    name: str,
    paths: Sequence[str],
    targets: Sequence[str],
    settings: PairSettings,
    accounts: dict[str, Account],
) -> list[Pair]:
    account = accounts[name] = Account()
    return read_pairs(paths, account, settings.reading(), targets)


def _divide(
    read: dict[str, list[Pair]], settings: PairSettings
) -> tuple[dict[str, list[Pair]], tuple[str, ...]]:
    """The parts, drawn from the training data where they are not given; and which were drawn."""
    valid = 0.0 if "valid" in read else settings.valid_share
    test = 0.0 if "valid" in read or "test" in read else settings.test_share
    drawn = tuple(name for name, share in (("valid", valid), ("test", test)) if share)
    if not drawn:
        return {name: read[name] for name in PARTS if name in read}, ()
    pairs = read["train"]
    keys = [pair.source for pair in pairs]
    found = split(keys, [""] * len(keys), valid=valid, test=test, seed=settings.split_seed)
    parts = {name: [pairs[i] for i in indices] for name, indices in zip(PARTS, found, strict=True)}
    return {name: parts[name] or read.get(name, []) for name in PARTS if parts[name] or name in read}, drawn


def _remark_shared(name: str, train: Sequence[Pair], others: Sequence[Pair], account: Account) -> None:
    again = shared((pair.source for pair in train), [pair.source for pair in others])
    if again:
        account.remark(f"{name} has a source of the training data", [others[i].place for i in again])


def _learn_codec(pairs: Sequence[Pair], settings: PairSettings) -> Codec:
    sources, targets = [pair.source for pair in pairs], [pair.target for pair in pairs]
    wanted: dict[str, Any] = {
        "unit": settings.tokens,
        "min_count": settings.min_count,
        "lower": settings.lower,
    }
    if settings.joint:
        size = max(settings.source_vocabulary, settings.target_vocabulary)
        both = learn_vocabulary([*sources, *targets], size=size, **wanted)
        return Codec(both, both, True, _is_tokenized(targets))
    source = learn_vocabulary(sources, size=settings.source_vocabulary, **wanted)
    target = learn_vocabulary(targets, size=settings.target_vocabulary, **wanted)
    return Codec(source, target, False, _is_tokenized(targets))


def _is_tokenized(sentences: Sequence[str]) -> bool:
    """Whether a sign at the end of a sentence stands alone, as tokenizers leave it."""
    ended = [sentence for sentence in sentences if re.search(r"\w\s*[.!?]\s*$", sentence)]
    apart = sum(1 for sentence in ended if re.search(r"\s[.!?]\s*$", sentence))
    return bool(ended) and apart > TOKENIZED * len(ended)


def encode(name: str, pairs: list[Pair], codec: Codec, account: Account | None) -> Part:
    """The pairs as numbers."""
    sources = codec.source.encode([pair.source for pair in pairs])
    targets = codec.target.encode([pair.target for pair in pairs])
    return Part(name, pairs, sources, targets, account)


def _without_long(part: Part, longest: int, account: Account) -> Part:
    if not longest:
        return part
    lengths = [max(len(a), len(b)) for a, b in zip(part.sources, part.targets, strict=True)]
    kept = [i for i, length in enumerate(lengths) if length <= longest]
    for i, length in enumerate(lengths):
        if length > longest:
            account.set_aside(f"longer than {longest} tokens", part.pairs[i].place)
    if not kept:
        raise UserError(
            f"--longest {longest} leaves no pair to train on; the shortest has {min(lengths)} tokens"
        )
    return Part(
        part.name,
        [part.pairs[i] for i in kept],
        [part.sources[i] for i in kept],
        [part.targets[i] for i in kept],
        account,
    )


def read_part(paths: Sequence[str], targets: Sequence[str], settings: PairSettings, codec: Codec) -> Part:
    """The pairs of other files. Raises UserError where none can be used."""
    account = Account()
    pairs = read_pairs(paths, account, settings.reading(), targets)
    account.judge(settings.on_bad)
    if not pairs:
        raise UserError(f"{', '.join(paths)}: no pair of sentences")
    check_pairs(pairs, account)
    return encode("other", pairs, codec, account)
