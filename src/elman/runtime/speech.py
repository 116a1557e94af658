"""Speech without torch: samples to texts with their words, or to classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.audio.mel import LARGEST, LogMel, LogMelStream, Mel, mel_bank
from elman.data.audio.normalizing import Statistics
from elman.data.audio.stacking import stacked
from elman.data.audio.symbols import Symbols
from elman.runtime.hearing import BestPath, Heard, words_of
from elman.runtime.listening import Listening, SoundSteps, Update, Utterances
from elman.runtime.model import Frozen, FrozenError
from elman.runtime.model import text_of as _text

__all__ = ["Listener", "SoundReader", "WholeLogMel", "check_samples"]

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
# Frames that are computed at once.
BLOCK = 1 << 14


class _Constants(NamedTuple):
    """The window; and of all bands in a row the points of the transform that each has, their weights, and where each
    begins."""

    window: Singles
    bins: npt.NDArray[np.int64]
    weights: Singles
    begins: npt.NDArray[np.int64]


class WholeLogMel(LogMel):
    """`LogMel` by numpy: the same to float error. A frame is computed alike whatever stands beside it: its bands are
    summed by themselves, where a product of matrices takes another order for other numbers of rows."""

    @cached_property
    def _constants(self) -> _Constants:
        n = np.arange(self.mel.window)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * n / self.mel.window)
        bank = mel_bank(self.mel)
        bands, bins = np.nonzero(bank)
        begins = np.searchsorted(bands, np.arange(self.mel.bands))
        return _Constants(window.astype(np.float32), bins, bank[bands, bins].astype(np.float32), begins)

    def of_emphasized(self, samples: Singles) -> Singles:
        """X of all whole windows in y."""
        mel = self.mel
        if len(samples) < mel.window:
            return np.zeros((0, mel.bands), dtype=np.float32)
        window, bins, weights, begins = self._constants
        frames = np.lib.stride_tricks.sliding_window_view(samples, mel.window)[:: mel.hop]
        found = []
        for first in range(0, len(frames), BLOCK):
            spectrum = np.fft.rfft(frames[first : first + BLOCK] * window, n=mel.size).astype(np.complex64)
            power = np.square(spectrum.real) + np.square(spectrum.imag)
            bands = np.add.reduceat(power[:, bins] * weights, begins, axis=1)
            found.append(np.log(np.maximum(bands, np.float32(mel.floor))))
        return np.concatenate(found)


class SoundReader(Frozen):
    """A recognizer by CTC, or a classifier of recordings."""

    def __init__(self, source: str | bytes | Frozen) -> None:
        super().__init__(source)
        codec, reading = json.loads(_text(self, "codec")), json.loads(_text(self, "reading"))
        self.log_mel = WholeLogMel(Mel(**codec["mel"]))
        self.statistics = Statistics.from_json(codec["statistics"])
        self.symbols = Symbols(tuple(codec["symbols"]), codec["words"])
        self.classes = tuple(codec["classes"])
        self.normalization = reading["normalization"]
        self.stride, self.ahead = int(reading["stride"]), int(reading["ahead"])

    @property
    def rate(self) -> int:
        """Of the samples that are read, in hertz."""
        return self.log_mel.mel.rate

    @property
    def seconds(self) -> float:
        """From one step of the network to the next."""
        return self.stride * self.log_mel.mel.hop / self.rate

    def predict(self, sounds: Sequence[npt.ArrayLike]) -> list[dict[str, Any]]:
        """What is heard in each sound: samples `(N,)` from -1 to 1 at `rate`, of one channel.

        As `elman predict --json` has it: a text by CTC's best path with its words, or a class; each recording by itself
        (its level too, where the run takes a speaker's), silence too. FrozenError for samples that are no numbers.
        """
        heard = [_samples(sound, number) for number, sound in enumerate(sounds)]
        logs = self.logs([self.steps(sound) for sound in heard])
        return [
            {
                "seconds": round(len(sound) / self.rate, 3),
                **(self._class(one) if self.classes else self._heard(one)),
            }
            for sound, one in zip(heard, logs, strict=True)
        ]

    def steps(self, samples: Singles) -> Singles:
        """What the network reads of a sound, `(S, F)`."""
        z = self.statistics.normalize(self.log_mel(samples), self.normalization)
        return stacked(z, self.stride, self.ahead)

    def logs(self, steps: Sequence[Singles]) -> list[Floats]:
        """log p of the symbols at each step `(S, V)`, or of the classes `(1, K)`."""
        found = []
        for one in steps:
            x = one if len(one) or not self.classes else np.zeros((1, *self.inputs[0].shape), np.float32)
            if not len(x):
                found.append(np.zeros((0, self.outputs[0].shape[0])))
                continue
            found.append(log_softmax(self.run(x[:, None], lengths=[len(one)]).y))
        return found

    @property
    def live(self) -> str:
        """Why sound cannot be heard as it comes; empty where it can."""
        if self.classes:
            return "it tells classes of whole recordings"
        if not self.can_step:
            return "it reads from both ends"
        if self.normalization not in {"running", "global"}:
            return f"it is normalized by {self.normalization}, for which it needs the whole recording"
        return ""

    def listen(self, *, endpoint: float = 0.8) -> Listener:
        """A recognizer for sound that comes in pieces: `listener(samples)`, `listener.finish()`.

        endpoint: seconds without a symbol after which an utterance has ended (0: only the end of the sound ends one).
        What is heard does not depend on the pieces, bit for bit. FrozenError for a network that cannot, which says why.
        """
        if self.live:
            raise FrozenError(
                f"the network cannot hear sound as it comes: {self.live}; train one with --no-bidirectional "
                f"--normalize running, or give whole recordings"
            )
        return Listener(self, endpoint)

    def sound_steps(self) -> SoundSteps:
        """What the network reads of a new sound."""
        stream = LogMelStream(self.log_mel)
        return SoundSteps(stream, self.statistics, self.normalization, self.stride, self.ahead)

    def _heard(self, logs: Floats) -> dict[str, Any]:
        path = BestPath()
        path.read(
            logs.max(axis=1, initial=-np.inf).tolist(), logs.argmax(axis=1).tolist() if len(logs) else []
        )
        found: Heard = words_of(path.symbols, self.symbols, self.seconds)
        words = [word.to_json() for word in found.words]
        return {"text": found.text, "confidence": round(found.confidence, 4), "words": words}

    def _class(self, logs: Floats) -> dict[str, Any]:
        chances = {name: round(float(p), 6) for name, p in zip(self.classes, np.exp(logs[0]), strict=True)}
        return {"label": max(chances, key=lambda name: chances[name]), "probabilities": chances}


class Listener(Listening):
    """What `SoundReader.listen` gives: sound `(N,)` at the model's rate in, `Update`s out."""

    def __init__(self, model: SoundReader, endpoint: float) -> None:
        stream = model.stream(1)
        self._heard, self._rate = 0, model.rate

        def logs(steps: Singles) -> Floats:
            return log_softmax(np.concatenate([stream(one[None]) for one in steps]))

        super().__init__(model.sound_steps(), logs, Utterances(model.symbols, model.seconds, endpoint))

    def __call__(self, samples: npt.ArrayLike) -> list[Update]:
        """Hear the next samples: the utterances that have ended with them, and the one that goes on. FrozenError for
        samples that are no numbers, and nothing is heard."""
        sound = _one_channel(samples, "the sound")
        check_samples(sound, self._heard / self._rate, self._rate)
        self._heard += len(sound)
        return super().__call__(sound)


def log_softmax(logits: npt.NDArray[Any]) -> Floats:
    """log p of logits `(S, ..., V)`, `(S, V)`."""
    y = logits.astype(np.float64).reshape(-1, logits.shape[-1])
    top = y - y.max(axis=-1, keepdims=True)
    return np.asarray(top - np.log(np.exp(top).sum(axis=-1, keepdims=True)))


def check_samples(samples: Singles, begins: float, rate: int) -> None:
    """FrozenError for samples that are no numbers or of no scale; begins: seconds of sound in front of them."""
    wrong = np.flatnonzero(~(np.abs(samples) <= LARGEST))
    if len(wrong):
        raise FrozenError(
            f"{begins + int(wrong[0]) / rate:.2f} s from its start the sound has samples that are no numbers, or "
            f"beyond any scale; are they of the form that was said?"
        )


def _samples(sound: npt.ArrayLike, number: int) -> Singles:
    samples = _one_channel(sound, f"sound {number}")
    if not np.isfinite(samples).all():
        raise FrozenError(f"sound {number} has samples that are no numbers")
    return samples


def _one_channel(sound: npt.ArrayLike, called: str) -> Singles:
    samples = np.asarray(sound, dtype=np.float32)
    if samples.ndim != 1:
        raise FrozenError(f"{called} has the shape {samples.shape}; expected samples (N,) of one channel")
    return samples
