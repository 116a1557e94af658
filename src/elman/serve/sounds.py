"""What a session that hears sound carries beside the core's state: how its samples come, and what they have become."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from elman.config import UserError
from elman.data.audio.pcm import WIDTHS, pcm
from elman.data.audio.sound import Resampler
from elman.runtime import FrozenError
from elman.runtime.listening import Update, Utterances
from elman.runtime.speech import SoundReader, check_samples, log_softmax
from elman.serve.refusals import RefusedError

__all__ = ["Declared", "Sound", "told"]

Singles = npt.NDArray[np.float32]
# Seconds of sound whose features are computed at once: others have their turn between two of these.
PIECE = 0.5


class Declared(msgspec.Struct, forbid_unknown_fields=True):
    """What the binary messages of a session hold. endpoint: as of `elman transcribe`."""

    rate: Annotated[int, msgspec.Meta(ge=1000, le=384_000)]
    form: Literal["s16le", "f32le"] = "s16le"
    endpoint: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.8


class Sound:
    """One sound, from its first sample on. RefusedError for a rate that cannot be brought to the model's."""

    def __init__(self, model: SoundReader, declared: Declared) -> None:
        self.model, self.declared = model, declared
        try:
            self._resample = Resampler(declared.rate, model.rate)
        except UserError as error:
            raise RefusedError(
                422, f"sound at {declared.rate} Hz, where the model hears {model.rate} Hz: {error}"
            ) from None
        self.heard = 0
        self._steps = model.sound_steps()
        self.utterances = Utterances(model.symbols, model.seconds, declared.endpoint)

    @property
    def seconds(self) -> float:
        """Of it so far."""
        return self.heard / self.declared.rate

    def samples(self, data: bytes, longest: int, symbols: int) -> Singles:
        """The samples of a message. RefusedError, FrozenError for what is none, and for more than is allowed: steps of
        the network in a message, and symbols of the utterance that goes on."""
        form, width = self.declared.form, WIDTHS[self.declared.form]
        if not data or len(data) % width:
            raise RefusedError(422, f"{len(data)} bytes are no whole samples of {form}, {width} bytes each")
        steps = len(data) / width / self.declared.rate / self.model.seconds
        if steps > longest:
            raise RefusedError(
                413,
                f"{len(data) // width} samples are {steps:.0f} steps; {longest} are allowed in a message",
            )
        if self.utterances.length >= symbols:
            raise RefusedError(
                413,
                f"the utterance has {self.utterances.length} symbols; {symbols} are allowed: finish the sound",
            )
        samples = pcm(data, form)[:, 0]
        check_samples(samples, self.seconds, self.declared.rate)
        return samples

    def steps(self, samples: Singles) -> Iterator[Singles]:
        """The steps of the network that have become whole, in pieces; what they are is known once all are taken."""
        size = max(1, round(PIECE * self.declared.rate))
        for first in range(0, len(samples), size):
            piece = samples[first : first + size]
            self.heard += len(piece)
            steps = self._steps(self._resample(piece))
            if len(steps):
                yield steps

    def rest(self) -> Iterator[Singles]:
        """The steps that are left when the sound has ended."""
        last = self._resample(np.zeros(0, dtype=np.float32), last=True)
        for steps in (self._steps(last), self._steps.finish()):
            if len(steps):
                yield steps

    def read(self, logits: npt.NDArray[Any]) -> list[Update]:
        """What the network said at some steps: the utterances that end there."""
        logs = log_softmax(logits)
        ended = self.utterances.read(logs.max(axis=-1).tolist(), logs.argmax(axis=-1).tolist())
        self.utterances.forget()
        return ended

    def state(self) -> dict[str, Any]:
        """All of it. RefusedError where a part of it is in the resampler."""
        if self.heard and self.declared.rate != self.model.rate:
            raise RefusedError(
                422,
                f"the sound comes at {self.declared.rate} Hz, and the filter that brings it to {self.model.rate} Hz "
                f"cannot hand out its state: send sound at {self.model.rate} Hz",
            )
        parts = {"steps": self._steps.state(), "utterances": self.utterances.state()}
        return {"declared": msgspec.to_builtins(self.declared), "heard": self.heard, **parts}

    @classmethod
    def from_state(cls, model: SoundReader, state: Any) -> Sound:
        """What goes on from there. FrozenError for what `state` never gives."""
        try:
            sound = cls(model, msgspec.convert(state["declared"], Declared))
            sound.heard = int(state["heard"])
            steps, utterances = dict(state["steps"]), dict(state["utterances"])
        except (msgspec.ValidationError, RefusedError, KeyError, TypeError, ValueError, OverflowError):
            raise FrozenError("the state does not hold a sound") from None
        if sound.heard < 0 or (sound.heard and sound.declared.rate != model.rate):
            raise FrozenError("the state does not hold a sound")
        sound._steps.put_state(steps)
        sound.utterances.put_state(utterances)
        return sound


def told(update: Update) -> dict[str, Any]:
    """An utterance that has ended, with its words, as `elman transcribe --format json` has it."""
    words = [word.to_json() for word in update.heard.words]
    confidence = round(update.heard.confidence, 4)
    return {"final": True, "text": update.heard.text, "confidence": confidence, "words": words}
