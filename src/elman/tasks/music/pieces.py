"""Data: pieces of music, read, divided, checked and put into steps or events."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import UserError
from elman.data.account import Account
from elman.data.music import EventWords, FaultError, Keys, Piece, key_of, read_collection, roll_of
from elman.data.music.collection import Located, parts_of_folder
from elman.data.music.piece import tonic_of
from elman.data.splits import Split, folds, shared, split
from elman.tasks.divided import Divided
from elman.tasks.music.settings import Config, MusicSettings
from elman.training.run import Run

__all__ = ["Codec", "Music", "Part", "Sequenced", "prepare", "read_codec", "read_part"]

PARTS = ("train", "valid", "test")
# Fewer than these, and a model can learn them by heart.
FEW_PIECES, FEW_STEPS = 20, 4000
SLOWEST, FASTEST = 15.0, 500.0
# A roll `(T + 1, K)` of 0 and 1, or events `(N + 2,)`.
Sequenced = npt.NDArray[Any]
Encoded = tuple[Located, Sequenced]


class Codec(NamedTuple):
    """Between pieces and steps. resolution: steps a quarter note. tempo: quarter notes a minute, the pieces' usual one.

    shares: at which part of all training steps each key sounds, `(K,)`, or how often each event comes; between 0 and 1.
    words: the events that the model writes; None where it writes the steps of a roll.
    """

    keys: Keys
    resolution: int
    tempo: float = 100.0
    shares: tuple[float, ...] = ()
    words: EventWords | None = None

    @property
    def unit(self) -> str:
        """What is predicted, one after the other."""
        return "step" if self.words is None else "event"

    @property
    def size(self) -> int:
        """How many keys a step has, or how many events there are."""
        return self.keys.size if self.words is None else self.words.size

    def encode(self, piece: Piece) -> tuple[Sequenced, int]:
        """A piece as the model reads it, and how many of its notes have no key. Raises FaultError where it has none.

        A roll `(T + 1, K)`, a silent step in front, from which the first one is predicted; or events `(N + 2,)`,
        `start` in front.
        """
        if self.words is not None:
            found, outside = self.words.encode(piece)
        else:
            roll, outside = roll_of(piece, self.keys, self.resolution)
            found = np.concatenate([np.zeros((1, self.keys.size), dtype=np.uint8), roll])
        if len(found) <= 2 - (self.words is None) or not found.any():
            raise FaultError("no note within the keys")
        return found, outside

    def room(self, sequence: Sequenced) -> tuple[int, int]:
        """How far a piece can be moved down and up, in semitones, before a note leaves the piano."""
        if self.words is not None:
            return self.words.room(sequence)
        piano = (
            np.flatnonzero(sequence[:, :88].any(axis=0)) if self.keys.piano else np.zeros(0, dtype=np.int64)
        )
        return (int(piano[0]), 87 - int(piano[-1])) if len(piano) else (0, 0)

    def transposed(self, sequence: Sequenced, by: int) -> Sequenced:
        """The piano's keys moved by so many semitones; percussion stays. `room` tells how far."""
        if self.words is not None:
            return self.words.transposed(sequence, by)
        if not by:
            return sequence
        return np.concatenate([np.roll(sequence[:, :88], by, axis=1), sequence[:, 88:]], axis=1)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "keys": list(self.keys),
            "resolution": self.resolution,
            "tempo": self.tempo,
            "shares": list(self.shares),
            "events": None if self.words is None else self.words.to_json(),
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Codec:
        """What `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        keys, shares = Keys(*saved["keys"]), tuple(map(float, saved["shares"]))
        words = EventWords(keys, **saved["events"]) if saved.get("events") else None
        found = cls(keys, int(saved["resolution"]), float(saved["tempo"]), shares, words)
        if len(shares) != found.size:
            raise ValueError(f"{len(shares)} shares of {found.size}")
        return found


class Part(NamedTuple):
    """The pieces of a part. sequences: see `Codec.encode`; account: of its files."""

    name: str
    pieces: list[Located]
    sequences: list[Sequenced]
    account: Account | None = None

    @property
    def steps(self) -> int:
        """All steps that are predicted."""
        return sum(len(sequence) - 1 for sequence in self.sequences)


@dataclass(frozen=True)
class Music(Divided[Codec, Part]):
    """The data of a training."""

    def items(self, part: Part) -> Sequence[Any]:
        """Its pieces."""
        return part.pieces

    def facts(self) -> dict[str, Any]:
        """Sizes, and a fingerprint of all pieces in their parts."""
        digest = hashlib.sha256()
        for name, part in self.parts.items():
            for sequence in part.sequences:
                data = np.packbits(sequence) if sequence.dtype == np.uint8 else sequence
                digest.update(name.encode() + str(sequence.shape).encode() + data.tobytes())
        return {
            "read": self.read,
            "pieces": self.sizes,
            "steps": {name: part.steps for name, part in self.parts.items()},
            "sha256": digest.hexdigest(),
        }

    def lines(self) -> list[str]:
        """The accounts, the sizes, what is worth a warning."""
        lines = self.account_lines()
        lines.append(self.sizes_line("pieces"))
        return lines + list(self._told())

    def _told(self) -> Iterator[str]:
        train, codec = self.parts["train"], self.codec
        sizes = " / ".join(f"{part.steps:,}" for part in self.parts.values())
        if codec.words is None:
            sounding = np.concatenate([roll[1:] for roll in train.sequences]).sum(axis=1)
            a_quarter = (
                f"{codec.resolution} a quarter note" if codec.resolution > 1 else "each a quarter note"
            )
            yield (
                f"{sizes} steps, {a_quarter}; {codec.keys.size} keys, {float(sounding.mean()):.2f} sound at a step, at "
                f"most {int(sounding.max())}"
            )
        else:
            step = f"1/{codec.words.per} of a {'quarter note' if codec.words.clock == 'beats' else 'second'}"
            yield f"{sizes} events of {codec.size} kinds; time passes in steps of {step}"
        if len(train.pieces) < FEW_PIECES or train.steps < FEW_STEPS:
            yield (
                f"warning: {len(train.pieces):,} pieces of {train.steps:,} {codec.unit}s are few to learn from: what "
                f"the model writes may be taken from them; --transpose 6 makes more of them"
            )


def read_codec(run: Run) -> Codec:
    """The codec of a run. Raises UserError where it is damaged."""
    try:
        return Codec.from_json(run.read_json("codec.json"))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{run.path / 'codec.json'} is damaged ({error!r}); bring it back or train anew"
        ) from None


def prepare(config: Config, codec: Codec | None) -> Music:
    """Read, divide and check. Raises UserError where the data cannot be used."""
    settings = config.data
    accounts: dict[str, Account] = {}
    known = codec or Codec(settings.keys, config.resolution, words=config.words)
    read: dict[str, list[Encoded]] = {}
    for name, paths in _sources(settings).items():
        if paths:
            accounts[name] = Account("pieces")
            for part, found in _read(paths, settings, known, accounts[name]).items():
                read.setdefault(part or name, []).extend(found)
    for account in accounts.values():
        account.judge(settings.on_bad)
    if not read.get("train"):
        reasons = "; ".join(line for account in accounts.values() for line in account.lines())
        raise UserError(f"no piece to learn from: {reasons}")
    divided, drawn = _divide(read, settings, known)
    _remark(divided, accounts, known)
    parts = {
        name: Part(
            name,
            [located for located, _ in found],
            [sequence for _, sequence in found],
            accounts.get(name, accounts["train"]),
        )
        for name, found in divided.items()
        if found
    }
    return Music(codec or _learnt(known, parts["train"]), parts, accounts, drawn)


def _learnt(codec: Codec, train: Part) -> Codec:
    """The codec with the tempo and the frequencies of the training pieces."""
    every = np.concatenate([sequence[1:] for sequence in train.sequences])
    counts = (
        every.sum(axis=0, dtype=np.float64) if every.ndim == 2 else np.bincount(every, minlength=codec.size)
    )
    # As the file will have them, so that a run that goes on begins with the same numbers.
    shares = tuple(round(float(share), 7) for share in (counts + 0.5) / (len(every) + 1))
    return codec._replace(tempo=_usual_tempo([located.piece for located in train.pieces]), shares=shares)


def _sources(settings: MusicSettings) -> dict[str, Sequence[str]]:
    if not settings.train:
        raise UserError("nothing to learn from: give music by --data (files, or a folder)")
    given: dict[str, Sequence[str]] = {name: getattr(settings, name) for name in PARTS}
    folder = Path(settings.train[0])
    inside = parts_of_folder(folder) if len(settings.train) == 1 and folder.is_dir() else {}
    if inside:
        given = {
            name: given[name] if name != "train" and given[name] else inside.get(name, ()) for name in given
        }
    return given


def _read(
    paths: Sequence[str], settings: MusicSettings, codec: Codec, account: Account
) -> dict[str, list[Encoded]]:
    """The pieces as the model reads them, by the part that their file says."""
    collection = read_collection(paths, settings.reading)
    account.merge(collection.account)
    found: dict[str, list[Encoded]] = {}
    for located in collection.pieces:
        try:
            sequence, outside = codec.encode(located.piece)
        except FaultError as fault:
            account.fault(str(fault), located.place)
            continue
        if outside:
            account.remark("pieces with notes outside of the keys, which are left out", located.place)
        _check(located, account)
        found.setdefault(located.part, []).append((located, sequence))
    return found


def _check(located: Located, account: Account) -> None:
    """Remark on a tempo that nobody plays, and on a key that the notes do not have."""
    piece = located.piece
    if any(not SLOWEST <= 60 / rate <= FASTEST for _, rate in piece.tempo):
        account.remark(
            f"a tempo below {SLOWEST:g} or above {FASTEST:g} quarter notes a minute", located.place
        )
    if piece.key:
        heard, fit = key_of(piece.notes)
        # Files seldom say whether they are in major or in minor: what counts are the tones.
        if fit > 0.8 and _scale(heard) != _scale(piece.key):
            account.remark("the notes are in another key than the file says", located.place)


def _scale(key: str) -> int:
    """The tonic of the major key with the same tones."""
    return (tonic_of(key) + (3 if key.endswith("minor") else 0)) % 12


def _divide(
    read: dict[str, list[Encoded]], settings: MusicSettings, codec: Codec
) -> tuple[dict[str, list[Encoded]], tuple[str, ...]]:
    """The parts, drawn from the training pieces where they are not given; and which were drawn."""
    valid = 0.0 if read.get("valid") else settings.valid_share
    test = 0.0 if read.get("valid") or read.get("test") else settings.test_share
    drawn = tuple(name for name, share in (("valid", valid), ("test", test)) if share)
    if not drawn:
        return {name: read[name] for name in PARTS if name in read}, ()
    pieces = read["train"]
    keys = [fingerprint(codec, sequence) for _, sequence in pieces]
    strata = [""] * len(pieces)
    found: Split
    if settings.fold:
        number, count = map(int, settings.fold.split("/"))
        found = folds(keys, strata, count, valid=valid, seed=settings.split_seed)[number - 1]
    else:
        found = split(keys, strata, valid=valid, test=test, seed=settings.split_seed)
    parts = {name: [pieces[i] for i in indices] for name, indices in zip(PARTS, found, strict=True)}
    return {name: parts[name] or read.get(name, []) for name in PARTS if parts[name] or name in read}, drawn


def fingerprint(codec: Codec, sequence: Sequenced) -> str:
    """The same for pieces that differ by a transposition only."""
    down, _ = codec.room(sequence)
    return hashlib.blake2b(codec.transposed(sequence, -down).tobytes(), digest_size=12).hexdigest()


def _remark(parts: dict[str, list[Encoded]], accounts: dict[str, Account], codec: Codec) -> None:
    """Report pieces that stand in training and in another part too."""
    train = [fingerprint(codec, sequence) for _, sequence in parts["train"]]
    for name in PARTS[1:]:
        others = parts.get(name, [])
        again = shared(train, [fingerprint(codec, sequence) for _, sequence in others])
        if again:
            account = accounts.get(name, accounts["train"])
            account.remark(
                f"{name} has a piece of the training data, perhaps in another key",
                [others[i][0].place for i in again],
            )


def _usual_tempo(pieces: Sequence[Piece]) -> float:
    """Quarter notes a minute: the median over the pieces that say one, else 100."""
    said = [60 / piece.tempo[0][1] for piece in pieces if piece.steps is None]
    return round(float(np.median(said)), 1) if said else 100.0


def read_part(paths: tuple[str, ...], settings: MusicSettings, codec: Codec) -> Part:
    """The pieces of other files. Raises UserError where none can be used."""
    account = Account("pieces")
    read = _read(paths, settings, codec, account)
    # A file with parts of its own is measured on its test, else on all of it.
    found = read["test"] if "test" in read else [pair for pairs in read.values() for pair in pairs]
    account.judge(settings.on_bad)
    if not found:
        raise UserError(f"{', '.join(paths)}: no piece that can be measured on: {'; '.join(account.lines())}")
    return Part("other", [located for located, _ in found], [sequence for _, sequence in found], account)
