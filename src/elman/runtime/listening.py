"""Sound that comes in pieces of any size, heard as it comes: every number is that of the whole, bit for bit.

    samples -SoundSteps-> steps of the network -the network-> log p -Utterances-> texts, partial and final

What each of the three carries from piece to piece is all of its state. Nothing here knows a network: the one of a run
(`elman.tasks.speech`), a frozen one, and one that a server steps together with others stand between the two halves.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.audio.mel import LARGEST, LogMelStream
from elman.data.audio.normalizing import Level, RunningNormalizer, Statistics
from elman.data.audio.stacking import stacked
from elman.data.audio.symbols import BLANK, Symbols
from elman.runtime.hearing import BestPath, Heard, Path, words_of
from elman.runtime.library import FrozenError

__all__ = ["Listening", "SoundSteps", "Update", "Utterances"]

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


class Update(NamedTuple):
    """What is known after a piece of sound: the words of the utterance so far; final: it has ended, and stays so."""

    heard: Heard
    final: bool


class SoundSteps:
    """What a network reads of a sound, as its samples come.

    normalization: "running" or "global", which need no future. stride, ahead: see `stacked`.
    """

    def __init__(
        self, log_mel: LogMelStream, statistics: Statistics, normalization: str, stride: int, ahead: int
    ) -> None:
        self.log_mel, self.statistics, self.stride, self.ahead = log_mel, statistics, stride, ahead
        self.running = RunningNormalizer(statistics) if normalization == "running" else None
        self._frames: Singles = np.zeros((0, len(statistics.mean)), dtype=np.float32)

    def __call__(self, samples: Singles) -> Singles:
        """The steps `(S, F)` that have become whole with the next samples `(N,)`."""
        self._add(self.log_mel(samples))
        whole = max(0, (len(self._frames) - self.ahead) // self.stride * self.stride)
        steps = stacked(self._frames[: whole + self.ahead], self.stride, self.ahead)[: whole // self.stride]
        self._frames = self._frames[whole:]
        return steps

    def finish(self) -> Singles:
        """The steps that are left when the sound has ended."""
        self._add(self.log_mel.finish())
        frames, self._frames = self._frames, self._frames[:0]
        return stacked(frames, self.stride, self.ahead)

    def _add(self, frames: Singles) -> None:
        z = self.running(frames) if self.running else Level(*self.statistics).apply(frames)
        self._frames = np.concatenate((self._frames, z)) if len(self._frames) else z

    def state(self) -> dict[str, Any]:
        """All that is carried, fit for JSON."""
        running = self.running
        return {
            "rest": _packed(self.log_mel.rest),
            "before": self.log_mel.before,
            "given": self.log_mel.given,
            "frames": _packed(self._frames),
            "total": [] if running is None else running.total.tolist(),
            "count": 0 if running is None else running.count,
        }

    def put_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave. FrozenError for what it never gives."""
        bands = len(self.statistics.mean)
        try:
            rest, frames = _unpacked(state["rest"]), _unpacked(state["frames"])
            total = np.array(state["total"], dtype=np.float64)
            before = None if state["before"] is None else float(state["before"])
            count, given = int(state["count"]), bool(state["given"])
            held: list[npt.NDArray[Any]] = [rest, frames, total, np.array([before or 0.0])]
            good = len(rest) < self.log_mel.log_mel.mel.window and count >= 0
            good &= total.shape == ((bands,) if self.running else (0,)) and len(frames) % bands == 0
            good &= len(frames) // bands < self.stride + self.ahead
            good &= all(bool((np.abs(one) <= 4 * LARGEST * max(count, 1)).all()) for one in held)
        except (KeyError, TypeError, ValueError, OverflowError):
            good = False
        if not good:
            raise FrozenError("the state does not hold the sound that this model was hearing")
        self.log_mel.rest, self.log_mel.before, self.log_mel.given = rest, before, given
        self._frames = frames.reshape(-1, bands)
        if self.running:
            self.running.total, self.running.count = total, count


class Utterances:
    """The best path, read step by step and cut where it is silent.

    endpoint: seconds without a symbol after which an utterance has ended (0: only the end of the sound ends one).
    """

    def __init__(self, symbols: Symbols, seconds: float, endpoint: float) -> None:
        self.symbols, self.seconds, self.endpoint = symbols, seconds, endpoint
        self.path = BestPath()
        # Symbols in front of this one belong to utterances that have ended.
        self._begun = 0
        self._known: tuple[Any, Heard] = None, Heard("", [])
        # A space may be written anywhere in a silence, and ends none.
        self._spaces = {number for number, name in enumerate(symbols.names, 1) if name.isspace()}

    @property
    def going_on(self) -> Update:
        """The utterance that has not ended."""
        return Update(self._utterance(len(self.path.symbols)), final=False)

    @property
    def text(self) -> str:
        """Of that utterance: as `going_on` has it, without its words, which take longer."""
        return self.symbols.decode([entry.number for entry in self.path.symbols[self._begun :]])

    @property
    def length(self) -> int:
        """Symbols of it."""
        return len(self.path.symbols) - self._begun

    def read(self, values: Iterable[float], numbers: Iterable[int]) -> list[Update]:
        """Go on by some steps, log p and number of the likeliest symbol of each; the utterances that end there."""
        before, ended = len(self.path.symbols), []
        self.path.read(values, numbers)
        if not self.endpoint:
            return []
        # The silence that ends an utterance may lie within these steps, with the next one behind it.
        for number in range(max(before, self._begun + 1), len(self.path.symbols)):
            sounds = self.path.symbols[number].number not in self._spaces
            if sounds and self._silent(self.path.symbols[number].first, number):
                ended.append(Update(self._utterance(number), final=True))
                self._begun = number
        if self._silent(self.path.steps, len(self.path.symbols)):
            ended.append(Update(self._utterance(len(self.path.symbols)), final=True))
            self._begun = len(self.path.symbols)
        return [update for update in ended if update.heard.text]

    def finish(self) -> Update:
        """The sound has ended, and with it the utterance, which may be empty."""
        found = self.going_on.heard
        self._begun = len(self.path.symbols)
        return Update(found, final=True)

    def forget(self) -> None:
        """Let go of the utterances that have ended, but for the last symbol of them, which may go on."""
        gone = max(0, self._begun - 1)
        del self.path.symbols[:gone]
        self._begun -= gone

    def state(self) -> dict[str, Any]:
        """All that is carried, fit for JSON; utterances that have ended are forgotten."""
        self.forget()
        path = self.path
        return {
            "path": [list(entry) for entry in path.symbols],
            "steps": path.steps,
            "last": path.before,
            "begun": self._begun,
        }

    def put_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave. FrozenError for what it never gives."""
        path = BestPath()
        try:
            path.symbols = [Path(int(n), int(a), int(b), float(total)) for n, a, b, total in state["path"]]
            path.steps, path.before, begun = int(state["steps"]), int(state["last"]), int(state["begun"])
            count, at = len(self.symbols.names), -1
            good = 0 <= begun <= len(path.symbols) and 0 <= path.before <= count
            for entry in path.symbols:
                good &= 1 <= entry.number <= count and at < entry.first <= entry.last < path.steps
                good &= entry.total <= 0
                at = entry.last
            good &= path.before == BLANK or (bool(path.symbols) and path.symbols[-1].number == path.before)
        except (KeyError, TypeError, ValueError, OverflowError):
            good = False
        if not good:
            raise FrozenError("the state does not hold what this model has heard")
        self.path, self._begun = path, begun

    def _silent(self, until: int, number: int) -> bool:
        """Whether the utterance in front of symbol `number` ends: long enough it has no symbol up to a step."""
        said = range(number - 1, self._begun - 1, -1)
        last = next((i for i in said if self.path.symbols[i].number not in self._spaces), None)
        if last is None:
            return False
        return (until - self.path.symbols[last].last - 1) * self.seconds >= self.endpoint

    def _utterance(self, until: int) -> Heard:
        """The symbols up to one; made anew only where something has come."""
        own = self.path.symbols[self._begun : until]
        key = (len(own), own[0] if own else None, own[-1] if own else None)
        if key != self._known[0]:
            self._known = key, words_of(own, self.symbols, self.seconds)
        return self._known[1]


class Listening:
    """A recognizer that writes while one speaks. logs: steps `(S, F)`, one or more -> log p `(S, V)`, going on from its
    last call."""

    def __init__(self, steps: SoundSteps, logs: Callable[[Singles], Any], utterances: Utterances) -> None:
        self.steps, self.logs, self.utterances = steps, logs, utterances

    def __call__(self, samples: Singles) -> list[Update]:
        """Hear the next samples `(N,)`: the utterances that have ended with them, and the one that goes on."""
        ended = self._read(self.steps(samples))
        update = self.utterances.going_on
        return [*ended, update] if update.heard.text or not ended else ended

    def finish(self) -> list[Update]:
        """The sound has ended: what is left of it; the last update is final, and may be empty."""
        ended = self._read(self.steps.finish())
        last = self.utterances.finish()
        return [*ended, last] if last.heard.text or not ended else ended

    def _read(self, steps: Singles) -> list[Update]:
        if not len(steps):
            return []
        logs = self.logs(steps)
        return self.utterances.read(logs.max(axis=-1).tolist(), logs.argmax(axis=-1).tolist())


def _packed(array: Singles) -> str:
    return base64.b64encode(array.astype("<f4").tobytes()).decode()


def _unpacked(text: str) -> Singles:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
