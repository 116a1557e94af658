"""Data: labelled texts, read, divided, checked and put into numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import UserError
from elman.data.account import Account
from elman.data.columns import Roles
from elman.data.labelled import LABEL_FILES, Example, parts_of, read_labelled, read_names
from elman.data.labels import Labels, check_labels, learn_labels, name_labels, remark_on_labels, rename
from elman.data.splits import Split, folds, shared, split, split_by_time
from elman.data.vectors import Vectors, read_vectors
from elman.data.words import Lexicon
from elman.tasks.classification.settings import Config, TextSettings
from elman.tasks.divided import Divided
from elman.training.run import Run

__all__ = ["Codec", "Part", "Texts", "prepare", "read_codec", "read_part"]

Ids = npt.NDArray[np.int32]
PARTS = ("train", "valid", "test")


class Codec(NamedTuple):
    """Between texts and numbers, labels and numbers; columns: see `Reading.roles`."""

    labels: Labels
    lexicon: Lexicon
    columns: dict[tuple[str, ...], Roles]
    # What the embedding starts from; the trained weights stand in for it afterwards.
    vectors: Vectors | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "labels": list(self.labels.names),
            "several": self.labels.several,
            "lexicon": self.lexicon.to_json(),
            "columns": [[list(names), list(roles)] for names, roles in self.columns.items()],
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Codec:
        """What `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        columns = {
            tuple(names): Roles(text, tuple(labels), separator)
            for names, (text, labels, separator) in saved["columns"]
        }
        labels = Labels(tuple(saved["labels"]), saved["several"])
        return cls(labels, Lexicon.from_json(saved["lexicon"]), columns)


class Part(NamedTuple):
    """The examples of a part. tokens: the numbers of each text; truth: see `Labels.encode`; account: of its files."""

    name: str
    examples: list[Example]
    tokens: list[Ids]
    truth: npt.NDArray[np.int64]
    account: Account | None = None

    @property
    def texts(self) -> list[str]:
        """The texts as they were read."""
        return [example.text for example in self.examples]


@dataclass(frozen=True)
class Texts(Divided[Codec, Part]):
    """The data of a training."""

    def items(self, part: Part) -> Sequence[Any]:
        """Its texts."""
        return part.examples

    def facts(self) -> dict[str, Any]:
        """Sizes, and a fingerprint of all texts and labels in their parts."""
        digest = hashlib.sha256()
        for name, part in self.parts.items():
            for example in part.examples:
                digest.update(
                    "\0".join((name, *example.labels, example.text, "")).encode("utf-8", "surrogatepass")
                )
        return {
            "read": self.read,
            "texts": self.sizes,
            "vocabulary": self.codec.lexicon.size,
            "sha256": digest.hexdigest(),
        }

    def lines(self) -> list[str]:
        """The accounts, the sizes, the labels."""
        lines = self.account_lines()
        lines.append(self.sizes_line("texts"))
        labels = self.codec.labels
        names = ", ".join(labels.names[:12]) + ", ..." * (len(labels.names) > 12)
        kind = "any number of" if labels.several else "one of"
        lexicon = self.codec.lexicon
        shared = f", {lexicon.subwords:,} subwords" if lexicon.subwords else ""
        lines.append(f"{kind} {len(labels.names)} labels: {names}; {lexicon.size:,} words{shared}")
        if self.codec.vectors is not None:
            lines += self.codec.vectors.lines()
        return lines


def read_codec(run: Run) -> Codec:
    """The codec of a run. Raises UserError where it is damaged."""
    try:
        return Codec.from_json(run.read_json("codec.json"))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{run.path / 'codec.json'} is damaged ({error!r}); bring it back or train anew"
        ) from None


def prepare(config: Config, codec: Codec | None) -> Texts:
    """Read, name, divide and check. The codec is learnt from the training texts unless it is given.

    Raises UserError where the data cannot be used: too many faults, too few labels, nothing to divide.
    """
    settings = config.data
    accounts: dict[str, Account] = {}
    columns = dict(codec.columns) if codec else {}
    read = {
        name: _read(name, paths, settings, accounts, columns)
        for name, paths in _sources(settings).items()
        if paths
    }
    for account in accounts.values():
        account.judge(settings.on_bad)
    read, drawn = _divide(read, settings, accounts["train"])
    labels = codec.labels if codec else learn_labels(read["train"], settings.labels, known=_known(settings))
    for name, examples in read.items():
        read[name] = check_labels(examples, labels, accounts.get(name, accounts["train"]))
    if settings.unique:
        read["train"] = _once(read["train"], accounts["train"])
    _remark(read, accounts)
    for account in accounts.values():
        account.judge(settings.on_bad)
    whole = codec or _learn_codec(read["train"], labels, columns, config)
    parts = {
        name: encode(name, examples, whole, settings, accounts.get(name, accounts["train"]))
        for name, examples in read.items()
        if examples
    }
    return Texts(whole, parts, accounts, drawn)


def _sources(settings: TextSettings) -> dict[str, Sequence[str]]:
    given: dict[str, Sequence[str]] = {
        "train": settings.train,
        "valid": settings.valid,
        "test": settings.test,
    }
    if not settings.train:
        raise UserError("nothing to learn from: give labelled texts by --data (a file, or a folder)")
    folder = Path(settings.train[0])
    parts = parts_of(folder) if len(settings.train) == 1 and folder.is_dir() else {}
    if parts:
        given = {
            name: given[name] if name != "train" and given[name] else _words(parts.get(name, ()))
            for name in given
        }
    return given


def _words(paths: Sequence[Path]) -> tuple[str, ...]:
    return tuple(map(str, paths))


def _read(
    name: str,
    paths: Sequence[str],
    settings: TextSettings,
    accounts: dict[str, Account],
    columns: dict[tuple[str, ...], Roles],
) -> list[Example]:
    account = accounts[name] = Account()
    aligned = {
        "train": settings.labels_from,
        "valid": settings.valid_labels_from,
        "test": settings.test_labels_from,
    }
    examples = read_labelled(paths, account, settings.reading(name, columns), labels=aligned.get(name, ()))
    path, names = _names(settings)
    if names:
        named = name_labels(examples, names)
        if named is not None:
            account.found.append(f"{path}: names of the labels")
            examples = named
        elif settings.label_names:
            raise UserError(f"--label-names {path}: the labels are no numbers of its lines")
    if settings.rename:
        words = dict(entry.rsplit("=", 1) for entry in settings.rename)
        examples = rename(examples, words, account, all_met=name == "train")
    return examples


def _names(settings: TextSettings) -> tuple[str, list[str]]:
    """The file that names the labels and what it holds: the one that is given, or one beside the data called so."""
    if settings.label_names:
        path = Path(settings.label_names)
        if not path.is_file():
            raise UserError(f"--label-names {path}: no such file")
        return str(path), read_names(path, settings.encoding)
    first = Path(settings.train[0])
    folder = first if first.is_dir() else first.parent
    taken = {Path(path) for path in (*settings.train, *settings.labels_from)}
    for path in (folder / name for name in LABEL_FILES):
        if path.is_file() and path not in taken:
            try:
                return str(path), read_names(path, settings.encoding)
            except UserError:
                # Labels of texts, one a line, are called so too; nobody has said that these are names.
                continue
    return "", []


def _known(settings: TextSettings) -> list[str]:
    return _names(settings)[1]


def _divide(
    read: dict[str, list[Example]], settings: TextSettings, account: Account
) -> tuple[dict[str, list[Example]], tuple[str, ...]]:
    """The parts, drawn from the training data where they are not given; and which were drawn."""
    valid = 0.0 if "valid" in read else settings.valid_share
    test = 0.0 if "valid" in read or "test" in read else settings.test_share
    drawn = tuple(name for name, share in (("valid", valid), ("test", test)) if share)
    if not drawn:
        return {name: read[name] for name in PARTS if name in read}, ()
    examples = read["train"]
    # A class of one is refused by what all of the data say, not by where its only text has come to lie.
    learn_labels(examples, settings.labels)
    parts = _picked(examples, _drawn(examples, settings, valid, test))
    for name in drawn:
        for example in parts[name]:
            if example.phrase:
                account.set_aside("phrases of sentences that are not trained on", example.place)
        parts[name] = [example for example in parts[name] if not example.phrase]
    return {name: parts[name] or read.get(name, []) for name in PARTS if parts[name] or name in read}, drawn


def _drawn(examples: Sequence[Example], settings: TextSettings, valid: float, test: float) -> Split:
    if settings.time_column:
        return split_by_time([example.time for example in examples], valid=valid, test=test)
    together = _kept_together(examples)
    if settings.fold:
        number, count = map(int, settings.fold.split("/"))
        return folds(*together, count, valid=valid, seed=settings.split_seed)[number - 1]
    return split(*together, valid=valid, test=test, seed=settings.split_seed)


def _picked(examples: list[Example], found: Split) -> dict[str, list[Example]]:
    return {name: [examples[i] for i in indices] for name, indices in zip(PARTS, found, strict=True)}


def _kept_together(examples: Sequence[Example]) -> tuple[list[str], list[str]]:
    """What is not to be parted, and the strata."""
    keys = [example.group or example.text for example in examples]
    return keys, ["\0".join(sorted(example.labels)) for example in examples]


def _once(examples: Sequence[Example], account: Account) -> list[Example]:
    seen: set[tuple[str, tuple[str, ...]]] = set()
    kept = []
    for example in examples:
        key = example.text, example.labels
        if key in seen:
            account.set_aside("again the same text and label, by --unique", example.place)
        else:
            kept.append(example)
            seen.add(key)
    return kept


def _remark(read: dict[str, list[Example]], accounts: dict[str, Account]) -> None:
    """Report labels and texts at odds, and what stands in training and in another part too."""
    train = [example for example in read["train"] if not example.phrase]
    remark_on_labels(train, accounts["train"])
    for name in PARTS[1:]:
        others = read.get(name, [])
        account = accounts.get(name, accounts["train"])
        for what, value in (("text", 0), ("group", 3)):
            again = shared((e[value] for e in train), [e[value] for e in others])
            if again:
                account.remark(f"{name} has a {what} of the training data", [others[i].place for i in again])


def _learn_codec(
    examples: Sequence[Example], labels: Labels, columns: dict[tuple[str, ...], Roles], config: Config
) -> Codec:
    settings = config.data
    lexicon = Lexicon.learn(
        (example.text for example in examples),
        unit=settings.tokens,
        lower=settings.lower,
        size=settings.vocabulary,
        min_count=settings.min_count,
        subwords=settings.subwords,
    )
    vectors = None
    if settings.vectors:
        # Number 0 is no word; it has no vector in any file.
        vectors = read_vectors(settings.vectors, ("", *lexicon.words), width=config.model.width)
    return Codec(labels, lexicon, columns, vectors)


def encode(
    name: str, examples: list[Example], codec: Codec, settings: TextSettings, account: Account
) -> Part:
    """The examples as numbers; what `--longest` cuts is remarked upon."""
    encoder = codec.lexicon.encoder()
    tokens = [encoder(example.text) for example in examples]
    if settings.longest:
        cut = [i for i, row in enumerate(tokens) if len(row) > settings.longest]
        if cut:
            account.remark(f"texts cut after {settings.longest:,} tokens", [examples[i].place for i in cut])
        tokens = [row[: settings.longest] for row in tokens]
    truth = codec.labels.encode([example.labels for example in examples])
    return Part(name, examples, tokens, truth, account)


def read_part(paths: tuple[str, ...], settings: TextSettings, codec: Codec) -> Part:
    """The examples of other files. Raises UserError where none can be used."""
    accounts: dict[str, Account] = {}
    examples = check_labels(
        _read("other", paths, settings, accounts, dict(codec.columns)), codec.labels, accounts["other"]
    )
    accounts["other"].judge(settings.on_bad)
    if not examples:
        raise UserError(f"{', '.join(paths)}: no text with a label that the model knows")
    return encode("other", examples, codec, settings, accounts["other"])
