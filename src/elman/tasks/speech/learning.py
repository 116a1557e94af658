"""Model, Loss: batches of recordings, the network, its loss, and what it says of recordings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.audio.augmenting import augment
from elman.data.audio.normalizing import Level, Statistics
from elman.data.audio.stacking import stacked, steps_of
from elman.data.audio.symbols import BLANK
from elman.data.bucketing import Buckets, cuts
from elman.tasks.speech import spelling
from elman.tasks.speech.recordings import Codec, Part, needed
from elman.tasks.speech.settings import Config, FeatureSettings, ModelSettings
from elman.training.parallel import each

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "SpeechBatch",
    "Training",
    "aligner_of",
    "batch_of",
    "build_model",
    "ctc_loss",
    "in_order",
    "loss_of",
    "normalized",
    "outputs",
    "probabilities",
    "stacked",
]

Floats = npt.NDArray[np.float32]
# Padded frames in a batch without gradients, and the most recordings in it.
BUDGET, MOST = 1 << 15, 64


class SpeechBatch(NamedTuple):
    """B recordings: `steps` `(T, B, F)` with zeros behind each end, `lengths` `(B,)`.

    truth: the numbers of all transcripts, one behind the other, with their `sizes` `(B,)`; or a class each.
    """

    steps: Floats
    lengths: npt.NDArray[np.int64]
    truth: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]

    @property
    def rows(self) -> int:
        """B."""
        return len(self.lengths)

    def pick(self, rows: npt.NDArray[np.int64]) -> SpeechBatch:
        """Some of the recordings."""
        longest = int(self.lengths[rows].max(initial=1))
        cut = np.split(self.truth, np.cumsum(self.sizes)[:-1])
        truth = np.concatenate([cut[row] for row in rows])
        return SpeechBatch(self.steps[:longest, rows], self.lengths[rows], truth, self.sizes[rows])


def batch_of(steps: Sequence[Floats], truth: Sequence[npt.NDArray[np.int64]]) -> SpeechBatch:
    """Recordings side by side."""
    lengths = np.array([len(row) for row in steps], dtype=np.int64)
    padded = np.zeros((max(1, int(lengths.max(initial=1))), len(steps), steps[0].shape[1]), dtype=np.float32)
    for place, row in enumerate(steps):
        padded[: len(row), place] = row
    sizes = np.array([len(row) for row in truth], dtype=np.int64)
    return SpeechBatch(padded, lengths, np.concatenate([*truth, np.zeros(0, dtype=np.int64)]), sizes)


class Training:
    """The training batches: recordings of like lengths, each at a drawn speed and augmented anew in each epoch."""

    def __init__(self, config: Config, train: Part, codec: Codec) -> None:
        self.config, self.train, self.codec = config, train, codec
        hop = codec.mel.hop / codec.mel.rate
        lengths = [train.length(i) for i in range(len(train.recordings))]
        budget, data = round(config.data.budget / hop), config.data
        self.buckets = Buckets(
            lengths, budget=budget, most=data.batch, seed=config.training.seed, alike=data.alike
        )
        self.speeds = [speed for speed in config.augment.speeds if speed in train.features]
        self.levels = speaker_levels(train, codec.statistics) if config.normalization == "speaker" else {}

    def __call__(self, epoch: int, index: int) -> SpeechBatch:
        """A batch, by (seed, epoch, index) alone."""
        generator = np.random.default_rng([self.config.training.seed, epoch, index, 7])
        own = self.buckets(epoch, index)
        return batch_of([self._steps(int(i), generator) for i in own], [self.train.truth[i] for i in own])

    def _steps(self, i: int, generator: np.random.Generator) -> Floats:
        features, codec = self.config.features, self.codec
        x = self.train.frames(i, self._speed(i, generator))
        x = augment(x, self.config.augment.augmentation(), codec.statistics.mean, generator)
        level = self.levels.get(self.train.recordings[i].speaker)
        z = codec.statistics.normalize(x, self.config.normalization, level)
        return stacked(z, features.stride, features.ahead)

    def _speed(self, i: int, generator: np.random.Generator) -> float:
        """A drawn speed, but never one at which the transcript has too few steps."""
        speed = self.speeds[int(generator.integers(len(self.speeds)))] if self.speeds else 1.0
        enough = not self.config.by_ctc or (
            needed(self.train.truth[i].tolist())
            <= steps_of(self.train.length(i, speed), self.config.features.stride)
        )
        return speed if enough else 1.0


def speaker_levels(part: Part, statistics: Statistics) -> dict[str, Level]:
    """The level of each speaker, over all of the speaker's recordings in the part."""
    own: dict[str, list[Floats]] = {}
    for i, recording in enumerate(part.recordings):
        if recording.speaker:
            own.setdefault(recording.speaker, []).append(part.frames(i))
    return {name: statistics.level(recordings) for name, recordings in own.items()}


def normalized(part: Part, codec: Codec, config: Config) -> list[Floats]:
    """The steps of all recordings of a part, as they are used, without augmentation."""
    kind, features = config.normalization, config.features
    levels = speaker_levels(part, codec.statistics) if kind == "speaker" else {}
    return [
        steps_for(part.frames(i), codec, config, features, levels.get(recording.speaker))
        for i, recording in enumerate(part.recordings)
    ]


def steps_for(
    x: Floats, codec: Codec, config: Config, features: FeatureSettings, level: Level | None = None
) -> Floats:
    """The steps of the features `(T, F)` of a recording."""
    z = codec.statistics.normalize(x, config.normalization, level)
    return stacked(z, features.stride, features.ahead)


def build_model(config: Config, codec: Codec) -> nn.Module:
    """The network: a `Tagger` or a `Transcriber` over symbols and the blank, or a `SequenceClassifier` over classes."""
    from elman.nn import Tagger

    size = (config.features.stride + config.features.ahead) * codec.mel.bands
    inputs = config.model.features(size)
    if codec.classes:
        return config.model.classifier(inputs, len(codec.classes))
    model = config.model
    if model.decoder != "ctc":
        return spelling.build_model(model, inputs, len(codec.symbols.names) + 1)
    return Tagger(
        inputs,
        model.recurrent(inputs.output_size),
        len(codec.symbols.names) + 1,
        norm=model.output_norm,
        dense=model.dense,
        dropout=model.dropout,
        sequence_dropout=model.sequence_dropout,
    )


def loss_of(model: Any, batch: SpeechBatch, settings: ModelSettings | None = None) -> Tensor:
    """The loss of each recording in nats, `(B,)`: of a class −log p(class), of a transcript CTC's −log p(y | x).

    CTC: Graves et al. 2006, eq. 8: the sum over all paths whose merged symbols are the transcript. With a decoder its
    own −log p(y | x), by the `smoothing` of the settings; with both λ CTC + (1 − λ) decoder (Watanabe et al. 2017).
    """
    import torch
    import torch.nn.functional as F

    from elman.nn import Transcriber

    if isinstance(model, Transcriber):
        settings = settings or ModelSettings()
        aligned, written = spelling.losses(
            model, batch.steps, batch.lengths, batch.truth, batch.sizes, settings.smoothing
        )
        if aligned is None:
            return written
        share = settings.ctc_share
        return share * ctc_loss(aligned, batch) + (1 - share) * written
    logits = logits_of(model, batch)
    if logits.dim() == 2:
        return F.cross_entropy(logits, torch.from_numpy(batch.truth).to(logits.device), reduction="none")
    return ctc_loss(logits, batch)


def ctc_loss(logits: Tensor, batch: SpeechBatch) -> Tensor:
    """CTC's −log p(y | x) in nats, `(B,)`, of logits `(T, B, V)`."""
    import torch
    import torch.nn.functional as F

    logs, truth = logits.log_softmax(dim=-1), torch.from_numpy(batch.truth).to(logits.device)
    lengths, sizes = torch.from_numpy(batch.lengths), torch.from_numpy(batch.sizes)
    return F.ctc_loss(logs, truth, lengths, sizes, blank=BLANK, reduction="none")


def logits_of(model: Any, batch: SpeechBatch) -> Tensor:
    """`(T, B, V)` of a recognizer by CTC, `(B, K)` of a classifier."""
    import torch

    steps = torch.from_numpy(batch.steps).to(model.head.weight.device)
    found = aligner_of(model)(steps, lengths=torch.from_numpy(batch.lengths))
    logits: Tensor = found if isinstance(found, torch.Tensor) else found.logits
    return logits


def aligner_of(model: Any) -> Any:
    """What says a symbol or the blank at each step: f(steps, state, lengths=) -> (logits, state)."""
    from elman.nn import Transcriber

    return model.align_steps if isinstance(model, Transcriber) else model


def in_order(steps: Sequence[Floats], rows: int = 1) -> Iterator[npt.NDArray[np.int64]]:
    """Batches of like lengths for reading without training, as indices; rows: of each recording, as a beam has."""
    lengths = np.array([len(row) for row in steps], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    for a, b in pairwise(cuts(lengths[order], max(1, BUDGET // rows), MOST)):
        yield order[a:b]


def outputs(model: Any, steps: Sequence[Floats]) -> list[Tensor]:
    """log p of the symbols at each step of each recording, `(T, V)` each, on the CPU."""
    import torch

    model.eval()
    found: list[Any] = [None] * len(steps)

    def of(indices: npt.NDArray[np.int64]) -> Floats:
        batch = batch_of([steps[i] for i in indices], [])
        return np.asarray(logits_of(model, batch).float().log_softmax(dim=-1).cpu().numpy())

    pieces = list(in_order(steps))
    with torch.no_grad():
        for indices, logs in zip(pieces, each(pieces, of), strict=True):
            whole = torch.from_numpy(np.array(logs) if not logs.flags.writeable else logs)
            for place, i in enumerate(indices):
                found[i] = whole[: len(steps[i]), place]
    return found


def probabilities(model: Any, steps: Sequence[Floats]) -> npt.NDArray[np.float64]:
    """p of the classes of each recording, `(N, K)`."""
    import torch

    model.eval()
    found = np.zeros((len(steps), model.head.out_features))

    def of(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        batch = batch_of([steps[i] for i in indices], [])
        return np.asarray(logits_of(model, batch).double().softmax(dim=1).cpu().numpy())

    pieces = list(in_order(steps))
    with torch.no_grad():
        for indices, p in zip(pieces, each(pieces, of), strict=True):
            found[indices] = p
    return found
