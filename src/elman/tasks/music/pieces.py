"""Data: pieces of music, read, divided, checked and put on the steps of a roll."""

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
from elman.data.music import FaultError, Keys, Piece, key_of, read_collection, roll_of
from elman.data.music.collection import Located, parts_of_folder
from elman.data.splits import Split, folds, shared, split
from elman.tasks.music.settings import Config, MusicSettings
from elman.training.run import Run

__all__ = ["Codec", "Music", "Part", "prepare", "read_codec", "read_part", "sequence_of"]

PARTS = ("train", "valid", "test")
# Fewer than these, and a model can learn them by heart.
FEW_PIECES, FEW_STEPS = 20, 4000
SLOWEST, FASTEST = 15.0, 500.0
Roll = npt.NDArray[np.uint8]


class Codec(NamedTuple):
    """Between pieces and steps. resolution: steps a quarter note. tempo: quarter notes a minute, the pieces' usual one.

    shares: at which part of all training steps each key sounds, `(K,)`, between 0 and 1.
    """

    keys: Keys
    resolution: int
    tempo: float = 100.0
    shares: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "keys": list(self.keys),
            "resolution": self.resolution,
            "tempo": self.tempo,
            "shares": list(self.shares),
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Codec:
        """What `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        keys, shares = Keys(*saved["keys"]), tuple(map(float, saved["shares"]))
        if len(shares) != keys.size:
            raise ValueError(f"{len(shares)} shares of {keys.size} keys")
        return cls(keys, int(saved["resolution"]), float(saved["tempo"]), shares)


class Part(NamedTuple):
    """The pieces of a part. rolls: `(T + 1, K)` each, a silent step in front; account: of its files."""

    name: str
    pieces: list[Located]
    rolls: list[Roll]
    account: Account | None = None

    @property
    def steps(self) -> int:
        """All steps that are predicted."""
        return sum(len(roll) - 1 for roll in self.rolls)


@dataclass(frozen=True)
class Music:
    """The data of a training; accounts: of each group of files that was read; drawn: the parts that were drawn here."""

    codec: Codec
    parts: dict[str, Part]
    accounts: dict[str, Account]
    drawn: tuple[str, ...] = ()

    def part(self, name: str) -> Part | None:
        """The pieces of "train", "valid" or "test"."""
        return self.parts.get(name)

    def facts(self) -> dict[str, Any]:
        """Sizes, and a fingerprint of all rolls in their parts."""
        digest = hashlib.sha256()
        for name, part in self.parts.items():
            for roll in part.rolls:
                digest.update(name.encode() + str(roll.shape).encode() + np.packbits(roll).tobytes())
        return {
            "read": {name: account.read for name, account in self.accounts.items()},
            "pieces": {name: len(part.pieces) for name, part in self.parts.items()},
            "steps": {name: part.steps for name, part in self.parts.items()},
            "sha256": digest.hexdigest(),
        }

    def files(self) -> dict[str, Any]:
        """The codec, the accounts, and where each piece of a drawn part comes from."""
        return {
            "codec.json": self.codec.to_json(),
            "account.json": {name: account.to_json() for name, account in self.accounts.items()},
            "split.json": {
                name: [str(located.place) for located in self.parts[name].pieces] for name in self.drawn
            },
        }

    def lines(self) -> list[str]:
        """The accounts, the sizes, what is worth a warning."""
        several = len(self.accounts) > 1
        lines = [
            f"{name}: {line}" if several and line.startswith("read") else line
            for name, account in self.accounts.items()
            for line in account.lines()
        ]
        sizes = " / ".join(f"{len(part.pieces):,}" for part in self.parts.values())
        drawn = f"; drawn from the data: {' and '.join(self.drawn)}" if self.drawn else ""
        lines.append(f"{sizes} pieces to {' / '.join(self.parts)}{drawn}")
        return lines + list(self._told())

    def _told(self) -> Iterator[str]:
        train = self.parts["train"]
        sounding = np.concatenate([roll[1:] for roll in train.rolls]).sum(axis=1)
        steps = " / ".join(f"{part.steps:,}" for part in self.parts.values())
        resolution = self.codec.resolution
        a_quarter = f"{resolution} a quarter note" if resolution > 1 else "each a quarter note"
        yield (
            f"{steps} steps, {a_quarter}; {self.codec.keys.size} keys, "
            f"{float(sounding.mean()):.2f} sound at a step, at most {int(sounding.max())}"
        )
        if len(train.pieces) < FEW_PIECES or train.steps < FEW_STEPS:
            yield (
                f"warning: {len(train.pieces):,} pieces of {train.steps:,} steps are few to learn from: what the model "
                f"writes may be taken from them; --transpose 6 makes more of them"
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
    keys = Keys(settings.drums != "only", settings.drums != "drop")
    known = codec or Codec(keys, settings.resolution)
    read: dict[str, list[tuple[Located, Roll]]] = {}
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
    divided, drawn = _divide(read, settings)
    _remark(divided, accounts)
    parts = {
        name: Part(
            name,
            [located for located, _ in found],
            [roll for _, roll in found],
            accounts.get(name, accounts["train"]),
        )
        for name, found in divided.items()
        if found
    }
    return Music(codec or _learnt(known, parts["train"]), parts, accounts, drawn)


def _learnt(codec: Codec, train: Part) -> Codec:
    """The codec with the tempo and the frequencies of the training pieces."""
    steps = np.concatenate([roll[1:] for roll in train.rolls])
    shares = (steps.sum(axis=0, dtype=np.float64) + 0.5) / (len(steps) + 1)
    # As the file will have them, so that a run that goes on begins with the same numbers.
    rounded = tuple(round(float(share), 7) for share in shares)
    return codec._replace(tempo=_usual_tempo([located.piece for located in train.pieces]), shares=rounded)


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
) -> dict[str, list[tuple[Located, Roll]]]:
    """The pieces with their rolls, by the part that their file says."""
    collection = read_collection(paths, settings.reading)
    account.merge(collection.account)
    found: dict[str, list[tuple[Located, Roll]]] = {}
    for located in collection.pieces:
        try:
            roll, outside = roll_of(located.piece, codec.keys, codec.resolution)
        except FaultError as fault:
            account.fault(str(fault), located.place)
            continue
        if not roll.any():
            account.fault("no note within the keys", located.place)
            continue
        if outside:
            account.remark("pieces with notes outside of the keys, which are left out", located.place)
        _check(located, account)
        found.setdefault(located.part, []).append((located, sequence_of(roll)))
    return found


def sequence_of(roll: Roll) -> Roll:
    """A roll with the silent step in front from which its first step is predicted."""
    return np.concatenate([np.zeros((1, roll.shape[1]), dtype=np.uint8), roll])


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


TONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def _tonic(key: str) -> int:
    """The tone, from C up, of a key's name with # and b."""
    word = key.split(maxsplit=1)[0]
    return (TONES[word[0]] + word.count("#") - word[1:].count("b")) % 12


def _scale(key: str) -> int:
    """The tonic of the major key with the same tones."""
    return (_tonic(key) + (3 if key.endswith("minor") else 0)) % 12


def _divide(
    read: dict[str, list[tuple[Located, Roll]]], settings: MusicSettings
) -> tuple[dict[str, list[tuple[Located, Roll]]], tuple[str, ...]]:
    """The parts, drawn from the training pieces where they are not given; and which were drawn."""
    valid = 0.0 if read.get("valid") else settings.valid_share
    test = 0.0 if read.get("valid") or read.get("test") else settings.test_share
    drawn = tuple(name for name, share in (("valid", valid), ("test", test)) if share)
    if not drawn:
        return {name: read[name] for name in PARTS if name in read}, ()
    pieces = read["train"]
    keys = [fingerprint(roll) for _, roll in pieces]
    strata = [""] * len(pieces)
    found: Split
    if settings.fold:
        number, count = map(int, settings.fold.split("/"))
        found = folds(keys, strata, count, valid=valid, seed=settings.split_seed)[number - 1]
    else:
        found = split(keys, strata, valid=valid, test=test, seed=settings.split_seed)
    parts = {name: [pieces[i] for i in indices] for name, indices in zip(PARTS, found, strict=True)}
    return {name: parts[name] or read.get(name, []) for name in PARTS if parts[name] or name in read}, drawn


def fingerprint(roll: Roll) -> str:
    """The same for pieces that differ by a transposition only."""
    first = int(np.flatnonzero(roll.any(axis=0))[0])
    return hashlib.blake2b(np.roll(roll, -first, axis=1).tobytes(), digest_size=12).hexdigest()


def _remark(parts: dict[str, list[tuple[Located, Roll]]], accounts: dict[str, Account]) -> None:
    """Report pieces that stand in training and in another part too."""
    train = [fingerprint(roll) for _, roll in parts["train"]]
    for name in PARTS[1:]:
        others = parts.get(name, [])
        again = shared(train, [fingerprint(roll) for _, roll in others])
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
    return Part("other", [located for located, _ in found], [roll for _, roll in found], account)
