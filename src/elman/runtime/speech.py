"""Speech without torch: samples to texts with their words, or to classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from elman.data.audio.mel import LogMel, Mel, mel_bank
from elman.data.audio.normalizing import Statistics
from elman.data.audio.stacking import stacked
from elman.data.audio.symbols import Symbols
from elman.runtime.hearing import BestPath, Heard, words_of
from elman.runtime.model import Frozen, FrozenError
from elman.runtime.model import text_of as _text

__all__ = ["SoundReader", "WholeLogMel"]

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
# Frames that are computed at once.
BLOCK = 1 << 14


class WholeLogMel(LogMel):
    """`LogMel` by numpy: the same to float error."""

    @cached_property
    def _constants(self) -> tuple[Singles, Singles]:
        n = np.arange(self.mel.window)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * n / self.mel.window)
        return window.astype(np.float32), mel_bank(self.mel).T.astype(np.float32)

    def of_emphasized(self, samples: Singles) -> Singles:
        """X of all whole windows in y."""
        mel = self.mel
        if len(samples) < mel.window:
            return np.zeros((0, mel.bands), dtype=np.float32)
        window, bank = self._constants
        frames = np.lib.stride_tricks.sliding_window_view(samples, mel.window)[:: mel.hop]
        found = []
        for first in range(0, len(frames), BLOCK):
            spectrum = np.fft.rfft(frames[first : first + BLOCK] * window, n=mel.size).astype(np.complex64)
            power = np.square(spectrum.real) + np.square(spectrum.imag)
            found.append(np.log(np.maximum(power @ bank, np.float32(mel.floor))))
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
            y = (
                self.run(x[:, None], lengths=[len(one)])
                .y.astype(np.float64)
                .reshape(-1, self.outputs[0].shape[0])
            )
            top = y - y.max(axis=-1, keepdims=True)
            found.append(top - np.log(np.exp(top).sum(axis=-1, keepdims=True)))
        return found

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


def _samples(sound: npt.ArrayLike, number: int) -> Singles:
    samples = np.asarray(sound, dtype=np.float32)
    if samples.ndim != 1:
        raise FrozenError(
            f"sound {number} has the shape {samples.shape}; expected samples (N,) of one channel"
        )
    if not np.isfinite(samples).all():
        raise FrozenError(f"sound {number} has samples that are no numbers")
    return samples
