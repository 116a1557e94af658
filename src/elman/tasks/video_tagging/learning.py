"""Model, Loss: the network over frames, batches of clips, the loss, and what the network says of clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.bucketing import Buckets, cuts
from elman.tasks.network import pretrained_encoder
from elman.tasks.video_tagging.footage import Codec, Part
from elman.tasks.video_tagging.settings import Config

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "ClipBatch",
    "Training",
    "batch_of",
    "build_model",
    "loss_of",
    "over_time",
    "probabilities",
    "probabilities_of",
]

Rows = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
# Padded frames in a batch without gradients, and the most clips in it.
BUDGET, MOST = 1 << 11, 64


class ClipBatch(NamedTuple):
    """B clips: `frames` `(T, B, F)`, features or the bytes of pictures, with zeros behind each end; `lengths` `(B,)`.

    truth: a class each `(B,)`, zeros and ones `(B, K)`, or of each step `(T, B, K)`.
    """

    frames: Rows
    lengths: Ints
    truth: Ints

    @property
    def rows(self) -> int:
        """B."""
        return len(self.lengths)

    def pick(self, rows: Ints) -> ClipBatch:
        """Some of the clips."""
        lengths = self.lengths[rows]
        T = int(lengths.max())
        truth = self.truth[:T, rows] if self.truth.ndim == 3 else self.truth[rows]
        return ClipBatch(self.frames[:T, rows], lengths, truth)


def batch_of(frames: Sequence[Rows], truth: Ints) -> ClipBatch:
    """Clips side by side."""
    lengths = np.array([len(rows) for rows in frames], dtype=np.int64)
    return ClipBatch(_padded(frames), lengths, truth)


def _padded(rows: Sequence[Rows]) -> Rows:
    longest = max(len(one) for one in rows)
    found = np.zeros((longest, len(rows), rows[0].shape[1]), dtype=rows[0].dtype)
    for place, one in enumerate(rows):
        found[: len(one), place] = one
    return found


class Training:
    """The training batches: clips of like lengths, varied anew in each epoch."""

    def __init__(self, config: Config, train: Part) -> None:
        self.config, self.train = config, train
        data = config.data
        self.buckets = Buckets(
            train.lengths, budget=data.budget, most=data.batch, seed=config.training.seed, alike=data.alike
        )

    def __call__(self, epoch: int, index: int) -> ClipBatch:
        """A batch, by (seed, epoch, index) alone."""
        generator = np.random.default_rng([self.config.training.seed, epoch, index, 11])
        own = self.buckets(epoch, index)
        drawn = [self.train.frames.drawn(int(i), generator) for i in own]
        if not self.train.of_steps:
            return batch_of([one.rows for one in drawn], self.train.truth[own])
        steps = [self.train.of_steps[i] for i in own]
        picked = [
            rows if one.picks is None else rows[one.picks] for rows, one in zip(steps, drawn, strict=True)
        ]
        return batch_of([one.rows for one in drawn], _padded(picked))


def build_model(config: Config, codec: Codec) -> nn.Module:
    """The network: a `SequenceClassifier` of clips, or a `Tagger` of steps.

    It holds `thresholds` `(K,)`, at which a tag is given where there may be several; they are tuned on validation data.
    """
    import torch

    from elman.nn import FrameEncoder, Tagger

    settings, count = config.model, len(codec.labels.names)
    inputs: nn.Module
    if codec.width:
        inputs = settings.features(codec.width * (1 + len(config.frames.differences)))
    else:
        inputs = FrameEncoder(
            config.frames.size,
            settings.encoded,
            channels=settings.channels,
            depth=settings.depth,
            pictures=1 + len(config.frames.differences),
            dropout=settings.dropout,
            encoder=pretrained_encoder(settings.encoder_groups) if settings.encoder == "pretrained" else None,
            frozen=settings.frozen,
        )
    size: Any = inputs
    model: nn.Module
    if codec.steps:
        model = Tagger(
            inputs,
            settings.recurrent(size.output_size),
            count,
            norm=settings.output_norm,
            dense=settings.dense,
            dropout=settings.dropout,
            sequence_dropout=settings.sequence_dropout,
        )
    else:
        model = settings.classifier(inputs, count)
    if codec.labels.several:
        model.register_buffer("thresholds", torch.full((count,), 0.5))
    return model


def logits_of(model: Any, frames: Rows, lengths: Ints) -> Tensor:
    """`(B, K)` of clips, `(T, B, K)` of steps."""
    import torch

    x = torch.from_numpy(frames).to(model.head.weight.device)
    even = bool((lengths == len(frames)).all())
    found = model(x, lengths=None if even else torch.from_numpy(lengths))
    logits: Tensor = found if isinstance(found, torch.Tensor) else found.logits
    return logits


def loss_of(model: Any, batch: ClipBatch) -> Tensor:
    """The loss of each clip in nats, `(B,)`.

    One tag: −log softmax(o)[truth]. Several: the sum over tags of the binary cross entropy of sigmoid(o_k); of steps
    its mean over the clip's steps.
    """
    import torch
    import torch.nn.functional as F

    logits = logits_of(model, batch.frames, batch.lengths)
    truth = torch.from_numpy(batch.truth).to(logits.device)
    if truth.dim() == 1:
        return F.cross_entropy(logits, truth, reduction="none")
    each = F.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), reduction="none").sum(dim=-1)
    if each.dim() == 1:
        return each
    lengths = torch.from_numpy(batch.lengths).to(each.device)
    real = torch.arange(len(each), device=each.device).unsqueeze(1) < lengths
    return torch.where(real, each, 0.0).sum(dim=0) / lengths.clamp(min=1)


def _in_order(lengths: Sequence[int]) -> Iterator[Ints]:
    """Batches of like lengths for reading without training, as indices."""
    sizes = np.array(lengths, dtype=np.int64)
    order = np.argsort(sizes, kind="stable")
    for a, b in pairwise(cuts(sizes[order], BUDGET, MOST)):
        yield order[a:b]


def probabilities(model: Any, codec: Codec, part: Part) -> list[Floats]:
    """p of each clip of a part, `(K,)`, or of its steps, `(T, K)`."""
    found: list[Any] = [None] * len(part.clips)
    for indices in _in_order(part.lengths):
        rows = [part.frames.whole(int(i)) for i in indices]
        for i, p in zip(indices, probabilities_of(model, codec, rows), strict=True):
            found[i] = p
    return found


def probabilities_of(model: Any, codec: Codec, rows: Sequence[Rows]) -> list[Floats]:
    """The same of clips whose frames `(T, F)` are at hand."""
    import torch

    model.eval()
    batch = batch_of(rows, np.zeros(0, dtype=np.int64))
    with torch.no_grad():
        logits = logits_of(model, batch.frames, batch.lengths).double().cpu()
    p = (logits.sigmoid() if codec.labels.several else logits.softmax(dim=-1)).numpy()
    if codec.steps:
        return [p[: len(one), place] for place, one in enumerate(rows)]
    return list(p)


def over_time(model: Any, codec: Codec, rows: Rows) -> Floats:
    """p `(T, K)` while a clip runs: of each step, or of the clip up to it."""
    import torch

    if codec.steps:
        return probabilities_of(model, codec, [rows])[0]
    model.eval()
    logits = model.prefixes(torch.from_numpy(rows).unsqueeze(1).to(model.head.weight.device)).double().cpu()
    found: Floats = (logits.sigmoid() if codec.labels.several else logits.softmax(dim=-1)).numpy()
    return found
