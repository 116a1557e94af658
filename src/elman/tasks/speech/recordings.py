"""Data: recordings with transcripts, read, checked, divided, and put into numbers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import UserError, require
from elman.data.account import Account, Place
from elman.data.audio.mel import LogMel, Mel
from elman.data.audio.normalizing import Statistics
from elman.data.audio.sound import rate_of
from elman.data.audio.stacking import steps_of
from elman.data.audio.store import Features, Piece, cache_folder, digests, extract
from elman.data.audio.symbols import Symbols, cleaned
from elman.data.audio.transcripts import Recording, read_recordings
from elman.data.labelled import parts_of
from elman.tasks.divided import Divided
from elman.tasks.dividing import PARTS, divide, field_value
from elman.tasks.speech.settings import Config, FeatureSettings, SpeechSettings
from elman.training.run import Run

__all__ = ["Codec", "Part", "Speech", "needed", "prepare", "read_codec", "read_part", "steps_of"]

Floats = npt.NDArray[np.float32]
# The highest rate that is chosen by itself: speech has little above half of it.
USUAL_RATE = 16000


class Codec(NamedTuple):
    """Between sound and features, transcripts and numbers; classes: of whole recordings, empty for a recognizer."""

    mel: Mel
    statistics: Statistics
    symbols: Symbols
    classes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "mel": self.mel._asdict(),
            "statistics": self.statistics.to_json(),
            "symbols": list(self.symbols.names),
            "words": self.symbols.words,
            "classes": list(self.classes),
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Codec:
        """What `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        symbols = Symbols(tuple(saved["symbols"]), saved["words"])
        statistics = Statistics.from_json(saved["statistics"])
        return cls(Mel(**saved["mel"]), statistics, symbols, tuple(saved["classes"]))


@dataclass(frozen=True)
class Part:
    """The recordings of a part with their features. marks: see `digests`; faster: features at other speeds.

    texts: transcripts as they are learnt. truth: the numbers of each, or its class alone.
    """

    name: str
    recordings: list[Recording]
    marks: list[str]
    texts: list[str]
    truth: list[npt.NDArray[np.int64]]
    rows: npt.NDArray[np.int64]
    features: dict[float, Features]
    account: Account | None = None

    def frames(self, number: int, speed: float = 1.0) -> Floats:
        """The features `(T, F)` of a recording."""
        found, row = self.features[speed], int(self.rows[number])
        start = int(found.starts[row])
        return np.asarray(found.frames[start : start + int(found.lengths[row])])

    def length(self, number: int, speed: float = 1.0) -> int:
        """T of a recording."""
        return int(self.features[speed].lengths[self.rows[number]])

    @property
    def seconds(self) -> float:
        """Of sound, altogether."""
        return float(sum(self.features[1.0].seconds[row] for row in self.rows.tolist()))


@dataclass(frozen=True)
class Speech(Divided[Codec, Part]):
    """The data of a training. by_ctc: whether it is written by CTC."""

    by_ctc: bool = True

    def items(self, part: Part) -> Sequence[Any]:
        """Its recordings."""
        return part.recordings

    def facts(self) -> dict[str, Any]:
        """Sizes, and a fingerprint of all sounds and transcripts in their parts."""
        digest = hashlib.sha256()
        for name, part in self.parts.items():
            for mark, text in zip(part.marks, part.texts, strict=True):
                digest.update("\0".join((name, mark, text, "")).encode("utf-8", "surrogatepass"))
        return {"read": self.read, "recordings": self.sizes, "sha256": digest.hexdigest()}

    def lines(self) -> list[str]:
        """The accounts, the sizes, the features, what is written."""
        lines = self.account_lines()
        sizes = " / ".join(f"{len(part.recordings):,}" for part in self.parts.values())
        minutes = " / ".join(f"{part.seconds / 60:,.1f}" for part in self.parts.values())
        drawn = f"; drawn from the data: {' and '.join(self.drawn)}" if self.drawn else ""
        lines.append(f"{sizes} recordings, {minutes} minutes, to {' / '.join(self.parts)}{drawn}")
        mel, codec = self.codec.mel, self.codec
        window, hop = (1000 * size / mel.rate for size in (mel.window, mel.hop))
        lines.append(
            f"features: {mel.bands} log-mel bands from {mel.low:g} to {mel.high:g} Hz of {mel.rate:,} Hz sound, a "
            f"window of {window:g} ms every {hop:g} ms"
        )
        if codec.classes:
            more = ", ..." * (len(codec.classes) > 20)
            lines.append(f"one of {len(codec.classes)} classes: {', '.join(codec.classes[:20])}{more}")
        else:
            lines.append(_written(codec.symbols))
            if self.by_ctc:
                lines.append(
                    "CTC writes nothing but blanks in its first few hundred steps, a WER of 1: that is normal"
                )
        return lines


def _written(symbols: Symbols) -> str:
    if symbols.words:
        more = ", ..." * (len(symbols.names) > 12)
        return f"{len(symbols.names):,} words to write: {', '.join(symbols.names[:12])}{more}"
    shown = "".join(symbols.names[:80]).replace(" ", "␣")
    return f"{len(symbols.names):,} characters to write: {shown}"


def read_codec(run: Run) -> Codec:
    """The codec of a run. Raises UserError where it is damaged."""
    try:
        return Codec.from_json(run.read_json("codec.json"))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{run.path / 'codec.json'} is damaged ({error!r}); bring it back or train anew"
        ) from None


def needed(numbers: Sequence[int]) -> int:
    """Steps that CTC needs for a transcript: one a symbol, and a blank between equal neighbours."""
    return len(numbers) + sum(a == b for a, b in pairwise(numbers))


# Reading


def prepare(config: Config, codec: Codec | None) -> Speech:
    """Read, check, divide. The codec is learnt from the training recordings unless it is given."""
    require("soundfile", extra="audio", what="speech")
    require("soxr", extra="audio", what="speech")
    require("jiwer", extra="audio", what="speech")
    settings = config.data
    accounts: dict[str, Account] = {}
    read = {
        name: _read(name, paths, settings, accounts) for name, paths in _sources(settings).items() if paths
    }
    read, drawn = divide(read, settings, "recording", field_of, partial(_marked, settings=settings))
    mel = codec.mel if codec else config.features.mel(_rate(config.features, read["train"]))
    _check_bands(mel)
    parts = {}
    for name, recordings in read.items():
        speeds = _speeds(config) if name == "train" else (1.0,)
        account = accounts.get(name, accounts["train"])
        parts[name] = _with_features(name, recordings, config, mel, speeds, account)
    for account in accounts.values():
        account.judge(settings.on_bad)
    known = codec or _learn(parts["train"], mel, settings)
    parts = {
        name: _encoded(part, known, config, accounts.get(name, accounts["train"]))
        for name, part in parts.items()
    }
    for account in accounts.values():
        account.judge(settings.on_bad)
    _check_parts(parts)
    _remark(parts, accounts)
    return Speech(
        known,
        {name: part for name, part in parts.items() if part.recordings},
        accounts,
        drawn,
        by_ctc=config.by_ctc,
    )


def _sources(settings: SpeechSettings) -> dict[str, Sequence[str]]:
    if not settings.train:
        raise UserError(
            "nothing to learn from: give recordings with transcripts by --data (a table, or a folder)"
        )
    given: dict[str, Sequence[str]] = {
        "train": settings.train,
        "valid": settings.valid,
        "test": settings.test,
    }
    folder = Path(settings.train[0])
    divided = settings.fold or settings.valid_where or settings.test_where
    if len(settings.train) == 1 and folder.is_dir() and not divided:
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


def _read(
    name: str, paths: Sequence[str], settings: SpeechSettings, accounts: dict[str, Account]
) -> list[Recording]:
    account = accounts[name] = Account("recordings")
    found = []
    for recording in read_recordings(paths, account, settings.listing()):
        text = _said(recording, settings)
        if text:
            found.append(recording._replace(text=text))
        else:
            what = f"recording without a {settings.label}" if settings.label else "transcript without letters"
            account.fault(what, recording.place)
    return found


def _said(recording: Recording, settings: SpeechSettings) -> str:
    if settings.target == "class":
        if not settings.label:
            return recording.text
        return recording.speaker if settings.label == "speaker" else recording.fields.get(settings.label, "")
    return cleaned(recording.text, lower=settings.lower, punctuation=settings.punctuation == "keep")


def field_of(recording: Recording, name: str) -> str:
    """What is known of a recording under a name. Raises UserError where it has no such field."""
    known = {**recording.fields, "text": recording.text}
    if recording.speaker:
        known["speaker"] = recording.speaker
    return field_value(known, name, recording.place)


def _marked(recordings: list[Recording], settings: SpeechSettings) -> tuple[list[str], list[str]]:
    # By its bytes a recording is the same one wherever it lies, and one that comes twice is not parted.
    marks = digests([_piece(recording) for recording in recordings])
    keys = [
        field_of(recording, settings.group) if settings.group else mark or str(recording.place.line)
        for recording, mark in zip(recordings, marks, strict=True)
    ]
    return keys, [recording.text if settings.target == "class" else "" for recording in recordings]


def _piece(recording: Recording) -> Piece:
    return Piece(recording.path, recording.start, recording.end)


def _rate(settings: FeatureSettings, recordings: Sequence[Recording]) -> int:
    """The rate that is asked for, or the commonest of some recordings, at most `USUAL_RATE`."""
    if settings.sample_rate:
        return settings.sample_rate
    some = recordings[:: max(1, len(recordings) // 50)]
    rates = Counter(rate for recording in some if (rate := rate_of(recording.path)))
    return min(rates.most_common(1)[0][0] if rates else USUAL_RATE, USUAL_RATE)


def _check_bands(mel: Mel) -> None:
    try:
        LogMel(mel)
    except ValueError as error:
        raise UserError(f"--bands: {error}") from None


def _speeds(config: Config) -> tuple[float, ...]:
    return tuple(dict.fromkeys((1.0, *config.augment.speeds)))


def _with_features(
    name: str,
    recordings: list[Recording],
    config: Config,
    mel: Mel,
    speeds: Iterable[float],
    account: Account,
) -> Part:
    """The part with the features of its recordings; those that cannot be used become faults."""
    pieces = [_piece(recording) for recording in recordings]
    marks = digests(pieces)
    cache = cache_folder(config.features.cache)
    features = {speed: extract(pieces, marks, mel, speed=speed, cache=cache) for speed in speeds}
    faults = features[1.0].faults
    for number, reason in faults.items():
        account.fault(reason, recordings[number].place)
    kept = [number for number in range(len(recordings)) if number not in faults]
    texts = [recording.text for recording in recordings]
    part = Part(name, recordings, marks, texts, [], np.arange(len(recordings)), features, account)
    return _only(part, kept)


def _only(part: Part, numbers: Sequence[int]) -> Part:
    """Some of the recordings of a part."""
    lists: dict[str, Any] = {
        name: [getattr(part, name)[i] for i in numbers] for name in ("recordings", "marks", "texts")
    }
    truth = [part.truth[i] for i in numbers] if part.truth else []
    return replace(part, **lists, truth=truth, rows=part.rows[np.array(numbers, dtype=np.int64)])


def _learn(train: Part, mel: Mel, settings: SpeechSettings) -> Codec:
    if not train.recordings:
        raise UserError("no recording can be used to train on")
    statistics = Statistics.learn([train.frames(i) for i in range(len(train.recordings))])
    if settings.target == "text":
        return Codec(mel, statistics, Symbols.learn(train.texts, words=settings.units == "words"))
    counts = Counter(train.texts)
    if len(counts) < 2:
        raise UserError(
            f"the training data have one class only ({next(iter(counts))!r}); two or more are needed"
        )
    if len(counts) == len(train.texts) and len(counts) > 10:
        raise UserError(
            "each training recording has a class of its own, so they are no classes: name the field by --label, or "
            "take --target text"
        )
    return Codec(mel, statistics, Symbols(()), tuple(sorted(counts)))


def _encoded(part: Part, codec: Codec, config: Config, account: Account) -> Part:
    """The transcripts as numbers. What a network cannot write is left out of training, and remarked on elsewhere."""
    if codec.classes:
        numbers = {name: number for number, name in enumerate(codec.classes)}
        kept = [i for i, text in enumerate(part.texts) if text in numbers]
        _faults(part, account, "class that training lacks", lambda i: part.texts[i] not in numbers)
        part = _only(part, kept)
        return replace(part, truth=[np.array([numbers[text]], dtype=np.int64) for text in part.texts])
    truth = [np.array(codec.symbols.encode(text), dtype=np.int64) for text in part.texts]
    part = replace(part, truth=truth)
    missing: dict[str, list[Place]] = {}
    for recording, text in zip(part.recordings, part.texts, strict=True):
        for symbol in codec.symbols.unknown(text):
            missing.setdefault(symbol, []).append(recording.place)
    for symbol, places in missing.items():
        account.remark(
            f"{part.name} has {symbol!r}, which training lacks and the network cannot write", places
        )
    if part.name != "train" or not config.by_ctc:
        return part

    def too_long(i: int) -> bool:
        return needed(truth[i].tolist()) > steps_of(part.length(i), config.features.stride)

    _faults(part, account, "transcript longer than its recording has steps", too_long)
    return _only(part, [i for i in range(len(truth)) if not too_long(i)])


def _faults(part: Part, account: Account, reason: str, wrong: Callable[[int], bool]) -> None:
    for i, recording in enumerate(part.recordings):
        if wrong(i):
            account.fault(reason, recording.place)


def _check_parts(parts: dict[str, Part]) -> None:
    for name, part in parts.items():
        if not part.recordings:
            raise UserError(f"no recording of the {name} data can be used")


def _remark(parts: dict[str, Part], accounts: dict[str, Account]) -> None:
    """What stands in training and in another part too: the same sound, the same speaker."""
    train = parts["train"]
    known = set(train.marks)
    speakers = {recording.speaker for recording in train.recordings} - {""}
    for name in PARTS[1:]:
        part = parts.get(name)
        if part is None:
            continue
        account = accounts.get(name, accounts["train"])
        again = [r.place for r, mark in zip(part.recordings, part.marks, strict=True) if mark in known]
        if again:
            account.remark(f"{name} has a recording of the training data", again)
        if not speakers:
            continue
        own = {recording.speaker for recording in part.recordings} - {""}
        both = own & speakers
        line = f"{name}: {len(own)} speakers, {len(both)} of them in the training data too"
        account.found.append(line)


def read_part(paths: tuple[str, ...], config: Config, codec: Codec) -> Part:
    """The recordings of other files. Raises UserError where none can be used."""
    accounts: dict[str, Account] = {}
    recordings = _read("other", paths, config.data, accounts)
    account = accounts["other"]
    part = _with_features("other", recordings, config, codec.mel, (1.0,), account)
    part = _encoded(part, codec, config, account)
    account.judge(config.data.on_bad)
    if not part.recordings:
        raise UserError(f"{', '.join(paths)}: no recording that can be used")
    return part
