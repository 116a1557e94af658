"""A corpus larger than memory: read in pieces, its tokens written to files, the files mapped.

    KEY.tokenizer.json      what was learnt from the training text
    KEY.train, .valid, .test    the tokens, each as small as the vocabulary allows
    KEY.json                sizes, characters, account and fingerprint: the tokens are whole when it is there

A key follows from the content of all files, from the settings that say what a document is and to which part it
belongs, and from how the tokenizer is learnt, or from the tokenizer. Processes that ask for the same tokens wait for
the one that makes them, and map the same pages.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from elman.config import UserError
from elman.data import vocabulary
from elman.data.account import Account
from elman.data.feature_store import digests
from elman.data.mapped import Tokens, blocks, opened, smallest
from elman.data.pieces import Piece, recut
from elman.data.text import MANY, bounds, drawn, files_under, places
from elman.data.vocabulary import Tokenizer
from elman.data.watching import told
from elman.files import write_bytes

__all__ = ["NAMES", "Encoded", "Group", "Source", "digest_of", "map_tokens"]

FORMAT = 1
NAMES = ("train", "valid", "test")
CHANGED = "a file of the data has changed while it was read; begin again when it is whole"

# train, valid, test of a document: from its character bounds[k] to bounds[k + 1].
Bounds = tuple[int, int, int, int]


class Group(NamedTuple):
    """Paths whose text belongs together. part: which of `NAMES` it is; None: shares are cut off for the others."""

    paths: tuple[str, ...]
    part: int | None = None
    valid: float = 0.0
    test: float = 0.0


class Source(NamedTuple):
    """Where text comes from: groups, and how one is read.

    read: the documents of a group in pieces, the same each time; it tells the account. follows: the settings, fit for
    JSON, on which the documents depend, beside the files. opening: whether a mark stands in front of a part too.
    """

    groups: tuple[Group, ...]
    read: Callable[[Group, Account], Iterator[Piece]]
    glob: str
    follows: Any
    opening: bool = False


class Encoded(NamedTuple):
    """The tokens of each part, of how many characters they are, and `digest_of` them."""

    tokenizer: Tokenizer
    tokens: tuple[Tokens, ...]
    characters: tuple[int, ...]
    account: Account
    digest: str


# Makes a tokenizer: of the training text in pieces, how many documents it is, and how many characters.
Learn = Callable[[Iterable[Piece], int, int], Tokenizer]


def digest_of(parts: Iterable[Tokens]) -> str:
    """A fingerprint of the tokens of several parts, whatever the type of their numbers."""
    digest = hashlib.sha256()
    for tokens in parts:
        digest.update(len(tokens).to_bytes(8, "little"))
        for _, block in blocks(tokens):
            digest.update(block.astype("<i4").tobytes())
    return digest.hexdigest()


def map_tokens(
    source: Source,
    folder: Path,
    tokenizer: Tokenizer | None,
    learn: Learn,
    kind: str,
    learnt_by: Any,
) -> Encoded:
    """The tokens of all parts, from `folder` or made there; without a tokenizer one is learnt from the training part.

    kind: of the tokenizer. learnt_by: the settings, fit for JSON, on which learning depends.
    Raises UserError where a text cannot be read, changes meanwhile, or the tokens find no room.
    """
    files = [path for group in source.groups for path in files_under(group.paths, source.glob)]
    before = _stamps(files)
    named = [[str(path.absolute()), mark] for path, mark in zip(files, digests(files), strict=True)]
    follows = [FORMAT, named, [list(group) for group in source.groups], source.follows]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_place(folder, error) from None
    with _alone(folder / f"{_key(follows)}.lock"):
        learnt = folder / f"{_key([follows, kind, learnt_by])}.tokenizer.json"
        tokenizer = tokenizer or _learnt(learnt)
        found = None if tokenizer is None else _opened(folder, _key_of(follows, tokenizer), tokenizer)
        if found is not None:
            return found
        plans, account = _planned(source, sum(path.stat().st_size for path in files))
        if tokenizer is None:
            cut = vocabulary.KINDS[kind].cut
            training = (own for part, own in _dealt(source, plans, "counting") if part == 0)
            documents, length = (sum(plan.of(0)[i] for plan in plans) for i in range(2))
            tokenizer = learn(recut(training, cut), documents, length)
            _write_json(learnt, vocabulary.to_json(tokenizer))
        key = _key_of(follows, tokenizer)
        facts = _encoded(source, plans, tokenizer, folder / key)
        if _stamps(files) != before:
            raise UserError(CHANGED)
        _write_json(folder / f"{key}.json", {**facts, "account": account.to_json()})
        found = _opened(folder, key, tokenizer)
        if found is None:
            raise UserError(f"{folder / key}.* were removed while they were made; begin again")
        return found


def _stamps(files: Sequence[Path]) -> list[tuple[int, int]]:
    return [(facts.st_size, facts.st_mtime_ns) for facts in map(os.stat, files)]


def _key(follows: Any) -> str:
    return hashlib.sha256(json.dumps(follows).encode()).hexdigest()[:32]


def _key_of(follows: Any, tokenizer: Tokenizer) -> str:
    return _key([follows, vocabulary.to_json(tokenizer)])


def _learnt(path: Path) -> Tokenizer | None:
    try:
        return vocabulary.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _opened(folder: Path, key: str, tokenizer: Tokenizer) -> Encoded | None:
    """What is kept under a key; None where nothing is, or not all of it."""
    try:
        facts = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        dtype, sizes = smallest(tokenizer.size), facts["tokens"]
        tokens = tuple(
            opened(folder / f"{key}.{name}", dtype, n) for name, n in zip(NAMES, sizes, strict=True)
        )
        account = Account.from_json(facts["account"])
        return Encoded(tokenizer, tokens, tuple(facts["characters"]), account, facts["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process is inside with the same path."""
    if os.name != "posix":
        yield
        return
    import fcntl

    try:
        file = path.open("w")
    except OSError as error:
        raise _no_place(path.parent, error) from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# What belongs to which part


class _Plan(NamedTuple):
    """The characters of each document of a group, and the part of each, or where its parts begin and end."""

    lengths: array[int]
    parts: bytearray | None
    cuts: Sequence[Bounds] = ()

    def bounds(self, number: int) -> Bounds:
        """Of a document."""
        if self.parts is None:
            return self.cuts[number]
        length, part = self.lengths[number], self.parts[number]
        return (0, length * (part < 1), length * (part < 2), length)

    def of(self, part: int) -> tuple[int, int]:
        """How many documents, and how many characters, a part has."""
        if self.parts is not None:
            own = np.frombuffer(self.parts, dtype=np.uint8) == part
            return int(own.sum()), int(np.frombuffer(self.lengths, dtype=np.int64)[own].sum())
        sizes = [cuts[part + 1] - cuts[part] for cuts in self.cuts]
        return sum(map(bool, sizes)), sum(sizes)


def _planned(source: Source, size: int) -> tuple[list[_Plan], Account]:
    """The first reading of all text: what there is. size: bytes of all files."""
    account = Account("files")
    lengths: list[array[int]] = [array("q") for _ in source.groups]
    pieces = (
        (own, p)
        for own, group in zip(lengths, source.groups, strict=True)
        for p in source.read(group, account)
    )
    begins = True
    for own, (text, last) in told("reading", pieces, lambda item: len(item[1].text), size):
        if begins:
            own.append(0)
        own[-1] += len(text)
        begins = last
    return [_plan(source, group, own) for group, own in zip(source.groups, lengths, strict=True)], account


def _plan(source: Source, group: Group, lengths: array[int]) -> _Plan:
    if group.part is not None:
        return _Plan(lengths, bytearray([group.part]) * len(lengths))
    if len(lengths) >= MANY:
        return _Plan(lengths, drawn(lengths, group.valid, group.test, seed=0))
    asked = [places(length, group.valid, group.test) for length in lengths]
    starts = _line_starts(source, group, asked) if group.valid + group.test else asked
    cuts = [
        bounds(length, group.valid, group.test, dict(zip(at, found, strict=True)).__getitem__)
        for length, at, found in zip(lengths, asked, starts, strict=True)
    ]
    return _Plan(lengths, None, cuts)


def _line_starts(source: Source, group: Group, asked: Sequence[tuple[int, int]]) -> list[list[int]]:
    """For places of each document the start of the line that each lies in, or the place where there is none before."""
    found = [[0, 0] for _ in asked]
    document, first = 0, 0
    for text, last in source.read(group, Account("files")):
        for i, at in enumerate(asked[document]):
            line_end = text.rfind("\n", 0, max(at - first, 0))
            if line_end >= 0:
                found[document][i] = first + line_end + 1
        document, first = (document + 1, 0) if last else (document, first + len(text))
    return [[start or at for start, at in zip(*both, strict=True)] for both in zip(found, asked, strict=True)]


def _dealt(source: Source, plans: Sequence[_Plan], what: str) -> Iterator[tuple[int, Piece]]:
    """All text again, each piece with its part."""
    pieces = (
        own
        for group, plan in zip(source.groups, plans, strict=True)
        for own in _parted(source.read(group, Account("files")), plan)
    )
    return told(what, pieces, lambda item: len(item[1].text), sum(sum(plan.lengths) for plan in plans))


def _parted(pieces: Iterable[Piece], plan: _Plan) -> Iterator[tuple[int, Piece]]:
    document, first = 0, 0
    for text, last in pieces:
        if document == len(plan.lengths):
            raise UserError(CHANGED)
        cuts, end = plan.bounds(document), first + len(text)
        for part in range(3):
            a, b = max(first, cuts[part]), min(end, cuts[part + 1])
            if a < b:
                yield part, Piece(text[a - first : b - first], b == cuts[part + 1])
        document, first = (document + 1, 0) if last else (document, end)


# Writing


def _encoded(source: Source, plans: Sequence[_Plan], tokenizer: Tokenizer, path: Path) -> dict[str, Any]:
    """Write the tokens of all parts; what is to be known of them."""
    dtype = smallest(tokenizer.size)
    sinks = [_Sink(path.with_name(f"{path.name}.{name}"), dtype) for name in NAMES]
    characters = [sum(plan.of(part)[1] for plan in plans) for part in range(3)]
    try:
        if tokenizer.kind in {"characters", "bytes"}:
            _check_room(sinks[0].path, sum(characters) * dtype.itemsize)
        for part, sink in enumerate(sinks):
            if source.opening and characters[part]:
                sink.add(np.array([tokenizer.mark]))
        for part, pieces in _by_part(_dealt(source, plans, "encoding"), tokenizer):
            sinks[part].add(pieces)
        for sink in sinks:
            sink.finish()
    finally:
        for sink in sinks:
            sink.close()
    sizes = [sink.count for sink in sinks]
    tokens = [opened(sink.path, dtype, count) for sink, count in zip(sinks, sizes, strict=True)]
    return {"tokens": sizes, "characters": characters, "sha256": digest_of(tokens)}


def _by_part(dealt: Iterable[tuple[int, Piece]], tokenizer: Tokenizer) -> Iterator[tuple[int, Any]]:
    """The tokens of each piece, cut anew where the tokenizer allows, with its part."""
    held = ["", "", ""]
    for part, (text, last) in dealt:
        text = held[part] + text
        at = len(text) if last else tokenizer.cut(text)
        held[part] = text[at:]
        if at:
            yield part, tokenizer.encode_piece(Piece(text[:at], last))


class _Sink:
    """A file of tokens, which has its name when it is whole."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path, self.dtype, self.count = path, dtype, 0
        # One process at a time makes it, so what an earlier one has left is written over.
        self._draft = path.with_name(f"{path.name}.part")
        try:
            self._file = self._draft.open("wb")
        except OSError as error:
            raise _no_place(path.parent, error) from None

    def add(self, tokens: Any) -> None:
        """Take the next ones."""
        self.count += len(tokens)
        try:
            self._file.write(tokens.astype(self.dtype).tobytes())
        except OSError as error:
            raise _no_room(self.path, self.count * self.dtype.itemsize, error.strerror) from None

    def finish(self) -> None:
        """Put the file in its place."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._draft.replace(self.path)
        except OSError as error:
            raise _no_room(self.path, self.count * self.dtype.itemsize, error.strerror) from None

    def close(self) -> None:
        """Leave nothing half made behind."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._draft.unlink(missing_ok=True)


def _check_room(path: Path, need: int) -> None:
    if shutil.disk_usage(path.parent).free < need:
        raise _no_room(path, need, "No space left on device")


def _no_room(path: Path, size: int, reason: str | None) -> UserError:
    return UserError(
        f"no room for {path} ({size / 1e6:,.1f} MB): {reason}; make room there, or give another folder by --cache"
    )


def _no_place(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot keep tokens in {folder}: {error.strerror}; give a folder that can be written to by --cache"
    )


def _write_json(path: Path, value: Any) -> None:
    try:
        write_bytes(path, json.dumps(value).encode())
    except OSError as error:
        raise _no_place(path.parent, error) from None
