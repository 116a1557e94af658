"""Data: sentences with tags, read, divided, checked and put into numbers."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import UserError
from elman.data.account import Account
from elman.data.labelled import parts_of
from elman.data.schemes import Scheme, TagSpan, recognize, spans_of, split_tag, tags_of
from elman.data.sentences import Sentence
from elman.data.spelled import Codec, encode_words, plain
from elman.data.splits import Split, folds, shared, split
from elman.data.tagged import read_sentences
from elman.data.tokens import Tokenizer
from elman.tasks.divided import Divided
from elman.tasks.tagging.settings import Config, SentenceSettings
from elman.training.run import Run

__all__ = ["Codec", "Part", "Sentences", "encode_words", "prepare", "read_codec", "read_part"]

Ids = npt.NDArray[np.int64]
PARTS = ("train", "valid", "test")


class Part(NamedTuple):
    """The sentences of a part.

    numbers: `(T, 1 + C)` of each sentence: the word, then its letters. truth: `(T,)`, -1 for a tag that the model does
    not have. spans: of each sentence, empty for plain tags. apart: `(T,)`, whether a word is measured apart.
    """

    name: str
    sentences: list[Sentence]
    numbers: list[Ids]
    truth: list[Ids]
    spans: list[list[TagSpan]]
    apart: list[npt.NDArray[np.bool_]]
    account: Account | None = None


@dataclass(frozen=True)
class Sentences(Divided[Codec, Part]):
    """The data of a training."""

    def items(self, part: Part) -> Sequence[Any]:
        """Its sentences."""
        return part.sentences

    def facts(self) -> dict[str, Any]:
        """Sizes, and a fingerprint of all words and tags in their parts."""
        digest = hashlib.sha256()
        for name, part in self.parts.items():
            for sentence in part.sentences:
                said = "\0".join((name, *sentence.words, "", *sentence.tags, ""))
                digest.update(said.encode("utf-8", "surrogatepass"))
        known = {"vocabulary": len(self.codec.words), "tags": len(self.codec.tags)}
        return {"read": self.read, "sentences": self.sizes, **known, "sha256": digest.hexdigest()}

    def lines(self) -> list[str]:
        """The accounts, the sizes, the tags."""
        lines = self.account_lines()
        drawn = f"; drawn from the data: {' and '.join(self.drawn)}" if self.drawn else ""
        for what, size in (("sentences", len), ("words", _words_in)):
            sizes = " / ".join(f"{size(part.sentences):,}" for part in self.parts.values())
            lines.append(f"{sizes} {what} to {' / '.join(self.parts)}{drawn if what == 'sentences' else ''}")
        codec = self.codec
        names = codec.kinds if codec.scheme else codec.tags
        shown = ", ".join(name or "(no kind)" for name in names[:20]) + ", ..." * (len(names) > 20)
        what = (
            f"{len(names)} kinds of spans, learned as {codec.scheme.upper()}"
            if codec.scheme
            else f"{len(names)} tags"
        )
        lines.append(f"{what}: {shown}; {len(codec.words):,} words, {len(codec.letters):,} letters")
        return lines


def _words_in(sentences: Sequence[Sentence]) -> int:
    return sum(len(sentence.words) for sentence in sentences)


def read_codec(run: Run) -> Codec:
    """The codec of a run. Raises UserError where it is damaged."""
    try:
        return Codec.from_json(run.read_json("codec.json"))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{run.path / 'codec.json'} is damaged ({error!r}); bring it back or train anew"
        ) from None


def prepare(config: Config, codec: Codec | None) -> Sentences:
    """Read, divide and check. The codec is learnt from the training sentences unless it is given.

    Raises UserError where the data cannot be used: too many faults, too few tags, nothing to divide.
    """
    settings = config.data
    accounts: dict[str, Account] = {}
    read: dict[str, list[Sentence]] = {}
    tokenizer = codec.tokenizer if codec else Tokenizer()
    for name, paths in _sources(settings).items():
        if paths:
            account = accounts[name] = Account()
            read[name] = read_sentences(paths, account, settings.reading(), tokenizer)
    scheme = codec.scheme if codec else _scheme(read["train"], settings)
    for name, sentences in read.items():
        read[name] = _normal(sentences, scheme, accounts[name])
        accounts[name].judge(settings.on_bad)
    _check_tags(read["train"], scheme)
    read, drawn = _divide(read, settings)
    if not read["train"]:
        raise UserError("no sentence is left to train on; the account above says where they went")
    whole = codec or _learn(read["train"], scheme, settings)
    _remark(read, accounts, whole)
    parts = {
        name: encode(name, sentences, whole, settings, accounts.get(name, accounts["train"]))
        for name, sentences in read.items()
        if sentences
    }
    return Sentences(whole, parts, accounts, drawn)


def _sources(settings: SentenceSettings) -> dict[str, Sequence[str]]:
    given: dict[str, Sequence[str]] = {name: getattr(settings, name) for name in PARTS}
    if not settings.train:
        raise UserError("nothing to learn from: give sentences with tags by --data (a file, or a folder)")
    folder = Path(settings.train[0])
    parts = parts_of(folder) if len(settings.train) == 1 and folder.is_dir() else {}
    if parts:
        given = {
            name: given[name] if name != "train" and given[name] else tuple(map(str, parts.get(name, ())))
            for name in given
        }
    return given


def _scheme(sentences: Sequence[Sentence], settings: SentenceSettings) -> Scheme | None:
    """In which scheme spans are learned; None for plain tags."""
    if settings.tags == "plain":
        return None
    found = recognize(sentence.tags for sentence in sentences)
    if found is None and settings.tags == "spans":
        odd = next(
            (f"{tag!r} ({s.place})" for s in sentences for tag in s.tags if split_tag(tag) is None),
            "none but O",
        )
        raise UserError(f"--tags spans: the tags mark no spans: {odd}; expected O, B-..., I-...")
    return settings.scheme if found else None


def _normal(sentences: Sequence[Sentence], scheme: Scheme | None, account: Account) -> list[Sentence]:
    """The sentences with their spans in one scheme; that of each file is recognized, and said."""
    if scheme is None:
        return list(sentences)
    files: dict[str, list[Sentence]] = {}
    for sentence in sentences:
        files.setdefault(sentence.place.file, []).append(sentence)
    kept: list[Sentence] = []
    for name, own in files.items():
        sound = [sentence for sentence in own if all(split_tag(tag) for tag in sentence.tags)]
        for sentence in own:
            if not all(split_tag(tag) for tag in sentence.tags):
                account.fault("tag that marks no span, where others do", sentence.place)
        written = recognize(sentence.tags for sentence in sound)
        if written is not None:
            account.found.append(f"{name}: spans in the scheme {written.upper()}")
        for sentence in sound:
            spans = spans_of(sentence.tags)
            again = tags_of(spans, len(sentence.tags), written or "bio")
            if list(map(split_tag, again)) != list(map(split_tag, sentence.tags)):
                account.remark("spans that break their scheme: read as conlleval does", sentence.place)
            kept.append(sentence._replace(tags=tuple(tags_of(spans, len(sentence.tags), scheme))))
    return kept


def _divide(
    read: dict[str, list[Sentence]], settings: SentenceSettings
) -> tuple[dict[str, list[Sentence]], tuple[str, ...]]:
    """The parts, drawn from the training data where they are not given; and which were drawn."""
    valid = 0.0 if "valid" in read else settings.valid_share
    test = 0.0 if "valid" in read or "test" in read else settings.test_share
    drawn = tuple(name for name, share in (("valid", valid), ("test", test)) if share)
    if not drawn or not read["train"]:
        return {name: read[name] for name in PARTS if name in read}, ()
    sentences = read["train"]
    found = _drawn(sentences, settings, valid, test)
    parts = {name: [sentences[i] for i in indices] for name, indices in zip(PARTS, found, strict=True)}
    return {name: parts[name] or read.get(name, []) for name in PARTS if parts[name] or name in read}, drawn


def _drawn(sentences: Sequence[Sentence], settings: SentenceSettings, valid: float, test: float) -> Split:
    """Equal sentences, or with --documents those of a document, stay together; strata: with and without spans."""
    if settings.documents and not all(sentence.group for sentence in sentences):
        raise UserError("--documents: the files do not say where documents begin (# newdoc, -DOCSTART-)")
    keys = [sentence.group if settings.documents else " ".join(sentence.words) for sentence in sentences]
    strata = ["spans" if any(tag != "O" for tag in sentence.tags) else "none" for sentence in sentences]
    if settings.fold:
        number, count = map(int, settings.fold.split("/"))
        return folds(keys, strata, count, valid=valid, seed=settings.split_seed)[number - 1]
    return split(keys, strata, valid=valid, test=test, seed=settings.split_seed)


def _learn(train: Sequence[Sentence], scheme: Scheme | None, settings: SentenceSettings) -> Codec:
    """Tags, words and letters of the training sentences, and how text is cut into such words."""
    tags = _check_tags(train, scheme)
    counts = Counter(
        plain(word, lower=settings.lower, digits=settings.digits) for s in train for word in s.words
    )
    kept = sorted((w for w, n in counts.items() if n >= settings.min_count), key=lambda w: (-counts[w], w))
    letters = Counter(letter for s in train for word in s.words for letter in word)
    return Codec(
        tags,
        scheme,
        tuple(kept[: settings.vocabulary or None]),
        tuple(sorted(letter for letter, count in letters.items() if count > 1)),
        settings.lower,
        settings.digits,
        settings.longest_word,
        Tokenizer.learn(s.words for s in train),
    )


def _check_tags(train: Sequence[Sentence], scheme: Scheme | None) -> tuple[str, ...]:
    """The tags in order. Raises UserError for fewer than two."""
    tags = _tags(train, scheme)
    if len(tags) < 2:
        raise UserError(
            f"the training data have too few tags ({', '.join(tags) or 'none'}); two or more are needed"
        )
    return tags


def _tags(train: Sequence[Sentence], scheme: Scheme | None) -> tuple[str, ...]:
    found = sorted({tag for sentence in train for tag in sentence.tags})
    if scheme is None:
        return tuple(found)
    kinds = sorted({span.kind for sentence in train for span in spans_of(sentence.tags)})
    letters = {tag[0] for tag in tags_of([TagSpan(0, 1, ""), TagSpan(1, 4, "")], 4, scheme)}
    return ("O", *(f"{letter}-{kind}" if kind else letter for kind in kinds for letter in sorted(letters)))


def _remark(read: dict[str, list[Sentence]], accounts: dict[str, Account], codec: Codec) -> None:
    """Report sentences of training that stand in another part too, and tags that are not in the training data."""
    train = [sentence.words for sentence in read["train"] if len(sentence.words) > 1]
    for name in PARTS[1:]:
        others = read.get(name, [])
        account = accounts.get(name, accounts["train"])
        again = shared(train, [sentence.words for sentence in others])
        if again:
            account.remark(f"{name} has a sentence of the training data", [others[i].place for i in again])
        _remark_on_tags(others, codec, account)


def _remark_on_tags(sentences: Iterable[Sentence], codec: Codec, account: Account) -> None:
    for sentence in sentences:
        for tag in sorted({tag for tag in sentence.tags if tag not in codec.tag_numbers}):
            account.remark(
                f"tag {tag!r}, which the training data do not have: it counts as missed", sentence.place
            )


def encode(
    name: str, sentences: list[Sentence], codec: Codec, settings: SentenceSettings, account: Account
) -> Part:
    """The sentences as numbers."""
    known = codec.tag_numbers
    return Part(
        name,
        sentences,
        [encode_words(sentence.words, codec) for sentence in sentences],
        [np.array([known.get(tag, -1) for tag in sentence.tags], dtype=np.int64) for sentence in sentences],
        [spans_of(sentence.tags) if codec.scheme else [] for sentence in sentences],
        [marked(sentence.words, settings.apart) for sentence in sentences],
        account,
    )


def marked(words: Sequence[str], pattern: str) -> npt.NDArray[np.bool_]:
    """Which words lie in a match of the pattern in the words joined by spaces, `(T,)`."""
    found = np.zeros(len(words), dtype=bool)
    if not pattern:
        return found
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    starts = ends - [len(word) for word in words]
    for match in re.finditer(pattern, " ".join(words)):
        found |= (starts < match.end()) & (ends > match.start())
    return found


def read_part(paths: tuple[str, ...], settings: SentenceSettings, codec: Codec) -> Part:
    """The sentences of other files. Raises UserError where none can be used."""
    account = Account()
    sentences = read_sentences(paths, account, settings.reading(), codec.tokenizer)
    sentences = _normal(sentences, codec.scheme, account)
    account.judge(settings.on_bad)
    if not sentences:
        raise UserError(f"{', '.join(paths)}: no sentence that can be used")
    _remark_on_tags(sentences, codec, account)
    return encode("other", sentences, codec, settings, account)
