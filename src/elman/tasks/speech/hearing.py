"""Predict: what has been written, with times and confidence; of whole recordings, and while one speaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from elman.config import UserError
from elman.data.audio.mel import LARGEST, LogMelStream
from elman.data.audio.sound import Resampler
from elman.data.audio.symbols import BLANK
from elman.runtime.hearing import BestPath, Heard, HeardWord, Path, words_of
from elman.runtime.listening import Listening, SoundSteps, Update, Utterances
from elman.tasks.speech.learning import aligner_of
from elman.tasks.speech.recordings import Codec, needed
from elman.tasks.speech.searching import Search
from elman.tasks.speech.settings import Config, FeatureSettings
from elman.tasks.speech.spelling import Spelled

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Heard", "HeardWord", "Listener", "Update", "heard", "heard_by_beam", "heard_by_decoder"]

Floats = npt.NDArray[np.float32]


def step_seconds(codec: Codec, features: FeatureSettings) -> float:
    """From one step to the next."""
    return features.stride * codec.mel.hop / codec.mel.rate


def heard(logs: Tensor, codec: Codec, features: FeatureSettings) -> Heard:
    """What the best path of log p `(T, V)` writes."""
    path = _Greedy()
    path(logs)
    return words_of(path.symbols, codec.symbols, step_seconds(codec, features))


def heard_by_beam(logs: Tensor, codec: Codec, features: FeatureSettings, search: Search) -> Heard:
    """What the best labelling found by prefix beam search writes; times from its likeliest path."""
    from elman.decoding import ctc_beam_search

    if not len(logs):
        return Heard("", [])
    fused: dict[str, Any] = {}
    if search.fusion is not None:
        step, state, pick, weight, bonus = search.fusion
        fused = {"language_model": step, "state": state, "pick": pick, "weight": weight, "bonus": bonus}
    found = ctc_beam_search(
        logs.unsqueeze(1), [len(logs)], blank=BLANK, beam=search.beam, cutoff=1e-4, first=BLANK, **fused
    )[0][0]
    aligned = _aligned(logs.double().numpy(), found.symbols)
    return words_of(aligned, codec.symbols, step_seconds(codec, features))


def heard_by_decoder(
    spelled: Spelled, codec: Codec, features: FeatureSettings, logs: Tensor | None = None
) -> Heard:
    """What a decoder wrote; its times are those of CTC's likeliest path where `logs` `(S, V)` of it are given and have
    room for it, else those at which it looked.
    """
    numbers, chances = spelled.symbols, spelled.logs
    if logs is not None and needed(numbers) <= len(logs):
        path = _aligned(logs.double().numpy(), numbers)
    else:
        # It may look back; words do not go back in time.
        places: list[int] = np.maximum.accumulate(spelled.weights.argmax(axis=1)).tolist() if numbers else []
        path = [Path(number, t, t, 0.0) for number, t in zip(numbers, places, strict=True)]
    path = [
        entry._replace(total=log * (entry.last - entry.first + 1))
        for entry, log in zip(path, chances, strict=True)
    ]
    return words_of(path, codec.symbols, step_seconds(codec, features))


class _Greedy(BestPath):
    """The best path of log p."""

    def __call__(self, logs: Tensor) -> None:
        """Read the next steps `(T, V)`."""
        values, numbers = logs.max(dim=-1)
        self.read(values.tolist(), numbers.tolist())


def _aligned(logs: npt.NDArray[np.float64], numbers: Sequence[int]) -> list[Path]:
    """The likeliest path of a labelling: symbols and optional blanks between them, by Viterbi."""
    if not numbers:
        return []
    states = [BLANK]
    for number in numbers:
        states += [number, BLANK]
    T, S = len(logs), len(states)
    # From two states before, where the symbol between is a blank and the symbols differ.
    jumps = np.array([s > 1 and states[s] != BLANK and states[s] != states[s - 2] for s in range(S)])
    score = np.full(S, -np.inf)
    score[:2] = logs[0, states[:2]]
    back = np.zeros((T, S), dtype=np.int64)
    for t in range(1, T):
        ways = np.full((3, S), -np.inf)
        ways[0] = score
        ways[1, 1:] = score[:-1]
        ways[2, 2:] = np.where(jumps[2:], score[:-2], -np.inf)
        back[t] = ways.argmax(axis=0)
        score = ways.max(axis=0) + logs[t, states]
    at = S - 1 if score[-1] >= score[-2] else S - 2
    path = [at]
    for t in range(T - 1, 0, -1):
        at -= int(back[t, at])
        path.append(at)
    path.reverse()
    found = []
    for s in range(1, S, 2):
        own = [t for t in range(T) if path[t] == s]
        total = float(sum(logs[t, states[s]] for t in own))
        found.append(Path(states[s], own[0], own[-1], total))
    return found


class Listener:
    """A recognizer that writes while one speaks: sound comes in pieces of any size, and what it hears is the same.

    endpoint: seconds without a symbol after which an utterance has ended (0: only the end of the sound ends one).
    rate: of the sound that comes, in hertz. Only networks of one direction, and a level that needs no future
    (`--normalize running` or `global`), can do this; UserError for others.
    """

    def __init__(
        self, model: Any, codec: Codec, config: Config, *, rate: int = 0, endpoint: float = 0.8
    ) -> None:
        if config.model.decoder == "attention":
            raise UserError(
                "the network writes by a decoder that looks at the whole recording: write it to a file, or train one "
                "with --decoder ctc or joint"
            )
        if config.model.bidirectional or config.normalization not in {"running", "global"}:
            what = (
                "reads from both ends"
                if config.model.bidirectional
                else f"is normalized by {config.normalization}"
            )
            raise UserError(
                f"the network {what}, so it needs the whole recording: write it to a file, or train one with "
                f"--no-bidirectional --normalize running"
            )
        if codec.classes:
            raise UserError(
                "the run tells classes of whole recordings; train a recognizer with --target text"
            )
        model.eval()
        self.rate = rate or codec.mel.rate
        self._heard = 0
        self._resample = Resampler(self.rate, codec.mel.rate)
        features = config.features
        steps = SoundSteps(
            LogMelStream(codec.mel), codec.statistics, config.normalization, features.stride, features.ahead
        )
        utterances = Utterances(codec.symbols, step_seconds(codec, features), endpoint)
        self._listening = Listening(steps, _reader(model), utterances)

    def __call__(self, samples: Floats) -> list[Update]:
        """Hear the next samples `(N,)`: the utterances that have ended with them, and the one that goes on.

        Raises UserError for samples that are no numbers: nothing behind them could be heard any more.
        """
        self._check(samples)
        return self._listening(self._resample(samples))

    def _check(self, samples: Floats) -> None:
        # Beyond the largest a power would be infinite, and the running level with it.
        wrong = np.flatnonzero(~(np.abs(samples) <= LARGEST))
        if len(wrong):
            raise UserError(
                f"{(self._heard + int(wrong[0])) / self.rate:.2f} s from its start the sound has samples that are no "
                f"numbers, or beyond any scale; are they of the form that was said?"
            )
        self._heard += len(samples)

    def finish(self) -> list[Update]:
        """The sound has ended: what is left of it; the last update is final, and may be empty."""
        rest = self._listening(self._resample(np.zeros(0, dtype=np.float32), last=True))
        return [*(update for update in rest if update.final), *self._listening.finish()]

    @property
    def whole(self) -> Heard:
        """All that has been heard."""
        utterances = self._listening.utterances
        return words_of(utterances.path.symbols, utterances.symbols, utterances.seconds)

    @property
    def symbols(self) -> list[int]:
        """The numbers of all symbols heard so far; none of them changes any more."""
        return [entry.number for entry in self._listening.utterances.path.symbols]


def _reader(model: Any) -> Callable[[Floats], npt.NDArray[np.float32]]:
    """Steps `(S, F)` -> log p `(S, V)`, going on from the last call."""
    import torch

    aligner, state = aligner_of(model), None

    def logs(steps: Floats) -> npt.NDArray[np.float32]:
        nonlocal state
        with torch.no_grad():
            logits, state = aligner(torch.from_numpy(steps).unsqueeze(1), state)
            return np.asarray(logits[:, 0].log_softmax(dim=-1).numpy())

    return logs
