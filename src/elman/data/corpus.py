"""A corpus: the user's text, divided and cut into tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from elman.config import Count, Share, UserError, Whole, option
from elman.data import documents, text, vocabulary
from elman.data.account import Account
from elman.data.feature_store import cache_folder
from elman.data.mapped import Tokens, count
from elman.data.pieces import Piece
from elman.data.token_files import NAMES, Group, Source, digest_of, map_tokens
from elman.data.vocabulary import Tokenizer

__all__ = ["Corpus", "CorpusSettings", "Part", "read_corpus", "read_part"]

# Bytes of files up to which all of the text and its tokens lie in memory.
HELD = 1 << 25


@dataclass(frozen=True)
class CorpusSettings:
    """Which text, cut into which tokens."""

    train: tuple[str, ...] = option(
        (),
        "text to learn from: UTF-8 files, folders, .jsonl (none: the source text of Python's standard library)",
        unit="PATH",
        flag="data",
    )
    valid: tuple[str, ...] = option((), "text to validate on (none: a share of the data)", unit="PATH")
    test: tuple[str, ...] = option(
        (), "text for the final test (none: a share of the data, unless --valid is given)", unit="PATH"
    )
    valid_share: Share = option(
        0.05,
        "part of the data kept for validation where --valid is not given",
        unit="SHARE",
        needs={"valid": False},
    )
    test_share: Share = option(
        0.05,
        "part of the data kept for the test where neither --test nor --valid is given",
        unit="SHARE",
        needs={"test": False, "valid": False},
    )
    glob: str = option("**/*", "which files of a folder to read, such as '**/*.py'", unit="PATTERN")
    field: str = option(
        "text",
        "name of the text in each object of a .jsonl file; with --documents column of a table",
        unit="NAME",
    )
    documents: documents.Kind = option(
        "joined",
        "what is a document: 'joined': all files are read on as one text; else each document is learnt by itself, "
        "from a state of zeros to its end, in another order each epoch: files, lines, what --separator sets apart, "
        "cells of the column --field, what --record begins",
    )
    separator: str = option(
        "\\n\\n",
        "text between two documents; \\n is a line end",
        unit="TEXT",
        needs={"documents": ("separated",)},
    )
    record: str = option(
        "",
        "regular expression with which a document begins, such as '^>' (FASTA) or '^\\[Event ' (PGN)",
        unit="PATTERN",
        needs={"documents": ("records",)},
    )
    tokens: Literal["characters", "bytes", "words", "bpe"] = option(
        "characters", "what a token is; words are split at spaces, and each line ends with a token of its own"
    )
    vocabulary: Whole = option(
        0,
        "most tokens to tell apart (0: all that occur; 4096 for bpe)",
        unit="TOKENS",
        needs={"tokens": ("characters", "words", "bpe")},
    )
    min_count: Count = option(
        1,
        "how often a token must occur to be kept; rarer ones become <unk>",
        unit="TIMES",
        needs={"tokens": ("characters", "words", "bpe")},
    )
    batch: Count = option(32, "streams of text read side by side", unit="STREAMS")
    steps: Count = option(
        64, "steps the gradient goes back (truncated backpropagation through time)", unit="STEPS"
    )
    valid_batch: Count = option(16, "streams of text in a validation during training", unit="STREAMS")
    cache: str = option(
        "",
        "folder for the tokens of texts of more than 32 MB, which are kept in files (empty: the user's own cache)",
        unit="FOLDER",
        late=True,
    )

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        if self.valid_share + self.test_share >= 1:
            raise UserError(
                f"--valid-share {self.valid_share:g} and --test-share {self.test_share:g} leave nothing to train on"
            )
        if (self.documents == "records") and not self.record:
            raise UserError(
                "--documents records needs --record: the regular expression with which a record begins"
            )
        if self.record:
            documents.compiled(self.record)
        if not self.separator:
            raise UserError("--separator is empty; give the text that stands between two documents")

    @property
    def apart(self) -> bool:
        """Whether each document is learnt by itself."""
        return self.documents != "joined"


class Part(NamedTuple):
    """A part of the data: its tokens, and how many characters they are; account: of its own files, if it has some.

    Of large data the tokens lie in a file, in numbers as small as the vocabulary allows.
    """

    tokens: Tokens
    characters: int
    account: Account | None = None

    def unknown(self, tokenizer: Tokenizer) -> float:
        """The share of tokens that the tokenizer does not know."""
        if tokenizer.unknown is None or not len(self.tokens):
            return 0.0
        return count(self.tokens, tokenizer.unknown) / len(self.tokens)


class Corpus(NamedTuple):
    """The data of a language model."""

    tokenizer: Tokenizer
    train: Part
    valid: Part
    test: Part
    account: Account
    apart: bool = False
    digest: str = ""

    @property
    def parts(self) -> tuple[Part, Part, Part]:
        """What to train, validate and test on."""
        return self.train, self.valid, self.test

    @property
    def codec(self) -> Tokenizer:
        """What the model's use needs beside its weights."""
        return self.tokenizer

    def part(self, name: str) -> Part | None:
        """The "train", "valid" or "test" text; None where there is nothing in it to predict."""
        found: Part = getattr(self, name)
        return found if len(found.tokens) > 1 else None

    def files(self) -> dict[str, Any]:
        """The tokenizer, for the run folder."""
        return {"tokenizer.json": vocabulary.to_json(self.tokenizer)}

    def lines(self) -> list[str]:
        """What was read."""
        unit = self.tokenizer.unit
        sizes = " / ".join(f"{len(part.tokens):,}" for part in (self.train, self.valid, self.test))
        read = self.account.lines() if self.account.read else []
        lines = [
            *read,
            f"{sizes} {unit}s to train / validate / test on, {self.tokenizer.size:,} different ones",
        ]
        if self.apart:
            assert self.tokenizer.mark is not None
            counts = (count(part.tokens, self.tokenizer.mark) - 1 for part in self.parts)
            lines.append(f"{' / '.join(f'{max(count, 0):,}' for count in counts)} documents")
        unknown = self.valid.unknown(self.tokenizer)
        if unknown > 0.01 and self.tokenizer.kind != "words":
            lines.append(f"warning: {unknown:.1%} of the validation text is unknown to the training text")
        return lines

    def facts(self) -> dict[str, Any]:
        """Sizes, and a fingerprint of all tokens: the same text gives the same facts."""
        digest = self.digest or digest_of(part.tokens for part in self.parts)
        sizes = {name: len(getattr(self, name).tokens) for name in ("train", "valid", "test")}
        return {"vocabulary": self.tokenizer.size, "tokens": sizes, "sha256": digest}


def read_corpus(settings: CorpusSettings, tokenizer: Tokenizer | None = None) -> Corpus:
    """Read, divide and tokenize; without a tokenizer one is learnt from the training part.

    Files of more than `HELD` bytes are read in pieces and their tokens kept in files; the numbers are the same.
    Raises UserError where a text is missing, not UTF-8, or too short for its streams.
    """
    groups = _groups(settings)
    large = bool(settings.train) and _bytes_of(groups, settings) > HELD
    corpus = (_mapped if large else _held)(groups, settings, tokenizer)
    _check_size(corpus, settings)
    return corpus


def read_part(paths: Sequence[str], settings: CorpusSettings, tokenizer: Tokenizer) -> Part:
    """Read and tokenize a text of its own."""
    group = Group(tuple(paths), part=0)
    if _bytes_of([group], settings) > HELD:
        corpus = _mapped([group], settings, tokenizer)
        return corpus.train._replace(account=corpus.account)
    account = Account("files")
    return _tokenize(tokenizer, _texts(group, settings, account), settings)._replace(account=account)


def _groups(settings: CorpusSettings) -> list[Group]:
    """What is given for validation and test, and what is divided."""
    given = [
        Group(paths, NAMES.index(name)) for name in ("valid", "test") if (paths := getattr(settings, name))
    ]
    valid = 0.0 if settings.valid else settings.valid_share
    return [*given, Group(settings.train, None, valid, 0.0 if given else settings.test_share)]


def _bytes_of(groups: Sequence[Group], settings: CorpusSettings) -> int:
    files = (path for group in groups for path in text.files_under(group.paths, settings.glob))
    return sum(path.stat().st_size for path in files)


# In memory: the plain way, to which the other is held by tests


def _held(groups: Sequence[Group], settings: CorpusSettings, tokenizer: Tokenizer | None) -> Corpus:
    account = Account("files")
    *given, divided = groups
    own = {NAMES[group.part or 0]: _texts(group, settings, account) for group in given}
    whole = _texts(divided, settings, account) if divided.paths else text.standard_library()
    parts = text.divide(whole, valid=divided.valid, test=divided.test, seed=0)._replace(**own)
    if tokenizer is None:
        tokenizer = vocabulary.learn(
            settings.tokens,
            parts.train,
            size=settings.vocabulary,
            min_count=settings.min_count,
            marked=settings.apart or len(parts.train) > 1,
            apart=settings.apart,
        )
    train, valid, test = (_tokenize(tokenizer, part, settings) for part in parts)
    return Corpus(tokenizer, train, valid, test, account, settings.apart)


def _texts(group: Group, settings: CorpusSettings, account: Account) -> list[str]:
    return text.read_texts(
        group.paths, glob=settings.glob, field=settings.field, account=account, cut=_cut(settings)
    )


def _tokenize(tokenizer: Tokenizer, texts: Sequence[str], settings: CorpusSettings) -> Part:
    tokens = tokenizer.encode_documents(texts)
    if settings.apart and len(texts):
        assert tokenizer.mark is not None
        tokens = np.concatenate([np.array([tokenizer.mark], dtype=tokens.dtype), tokens])
    return Part(tokens, sum(map(len, texts)))


# In files


def _mapped(groups: Sequence[Group], settings: CorpusSettings, tokenizer: Tokenizer | None) -> Corpus:
    def read(group: Group, account: Account) -> Iterator[Piece]:
        return text.pieces_under(
            group.paths, glob=settings.glob, field=settings.field, account=account, cut=_cut(settings)
        )

    def learn(pieces: Iterable[Piece], documents: int, length: int) -> Tokenizer:
        return vocabulary.learn_pieces(
            settings.tokens,
            pieces,
            size=settings.vocabulary,
            min_count=settings.min_count,
            marked=settings.apart or documents > 1,
            apart=settings.apart,
            length=length,
        )

    follows = [settings.glob, settings.field, settings.documents, settings.separator, settings.record]
    source = Source(tuple(groups), read, settings.glob, follows, opening=settings.apart)
    folder = Path(settings.cache) if settings.cache else cache_folder().with_name("tokens")
    limits = [settings.vocabulary, settings.min_count]
    found = map_tokens(source, folder, tokenizer, learn, settings.tokens, limits)
    train, valid, test = map(Part, found.tokens, found.characters)
    return Corpus(found.tokenizer, train, valid, test, found.account, settings.apart, found.digest)


def _cut(settings: CorpusSettings) -> Callable[[Path, Iterator[str]], Iterator[Piece]] | None:
    """What a file's documents are; None where it is one."""
    separator = settings.separator.replace("\\n", "\n").replace("\\t", "\t")

    def pieces(path: Path, chunks: Iterator[str]) -> Iterator[Piece]:
        if settings.documents == "column":
            return map(Piece, documents.columns_of(path, "".join(chunks), settings.field))
        return documents.cut(
            chunks, settings.documents, separator=separator, record=settings.record, name=str(path)
        )

    return pieces if settings.apart else None


def _check_size(corpus: Corpus, settings: CorpusSettings) -> None:
    have, need = len(corpus.train.tokens), settings.batch * (settings.steps + 1)
    unit = corpus.tokenizer.unit
    if have < need:
        raise UserError(
            f"the training text is too short: {have:,} {unit}s, but {settings.batch} streams of {settings.steps} steps "
            f"need {need:,}; give more text, or lower --batch or --steps"
        )
    if settings.valid and len(corpus.valid.tokens) < 2:
        raise UserError(f"the validation text is too short: it has fewer than 2 {unit}s")
    if settings.test and len(corpus.test.tokens) < 2:
        raise UserError(f"the test text is too short: it has fewer than 2 {unit}s")
