"""Model, Loss: batches of texts, the network's loss, its probabilities, and how much each word weighs in them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.bucketing import cuts
from elman.tasks.classification.settings import Config
from elman.tasks.classification.texts import Codec, Part
from elman.training.parallel import each

if TYPE_CHECKING:
    from torch import Tensor

    from elman.nn import SequenceClassifier

__all__ = [
    "TextBatch",
    "batch_of",
    "build_model",
    "label_weights",
    "loss_of",
    "probabilities",
    "word_weights",
]

Ids = npt.NDArray[np.int32]
# Padded size of a batch without gradients, and the most texts in it.
BUDGET, MOST = 1 << 15, 256


class TextBatch(NamedTuple):
    """B texts: `tokens` `(T, B)` with anything behind each text's end, `lengths` `(B,)`; truth: see `Labels.encode`."""

    tokens: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    truth: npt.NDArray[np.int64]

    @property
    def rows(self) -> int:
        """B."""
        return len(self.lengths)

    def pick(self, rows: npt.NDArray[np.int64]) -> TextBatch:
        """Some of the texts."""
        longest = int(self.lengths[rows].max(initial=1))
        return TextBatch(self.tokens[:longest, rows], self.lengths[rows], self.truth[rows])


def batch_of(tokens: Sequence[Ids], truth: npt.NDArray[np.int64]) -> TextBatch:
    """Texts side by side."""
    lengths = np.array([len(row) for row in tokens], dtype=np.int64)
    padded = np.zeros((int(lengths.max(initial=1)), len(tokens)), dtype=np.int64)
    for place, row in enumerate(tokens):
        padded[: len(row), place] = row
    return TextBatch(padded, lengths, truth)


def build_model(config: Config, codec: Codec) -> SequenceClassifier:
    """The network; its buffer `thresholds` `(K,)` holds from which probability on a label counts."""
    import torch

    lexicon = codec.lexicon
    table = config.model.table(lexicon.size, unknown=0, frozen=config.data.frozen, subwords=lexicon.subwords)
    torch.nn.init.normal_(table.weight, std=config.model.init)
    if table.subwords is not None:
        torch.nn.init.normal_(table.subwords, std=config.model.init)
        table.spell(*lexicon.pieces())
    if codec.vectors is not None:
        table.load_vectors(codec.vectors.numbers, codec.vectors.rows)
    model = config.model.classifier(table, len(codec.labels.names))
    model.register_buffer("thresholds", torch.full((len(codec.labels.names),), 0.5))
    return model


def label_weights(config: Config, train: Part, codec: Codec) -> npt.NDArray[np.float32] | None:
    """The weight of each label in the loss `(K,)`; None where all are 1. Raises UserError for an unknown name.

    balanced: N / (K n_k), so that every label has the same sum of weights.
    """
    from elman.config import UserError, nearest

    asked, names = config.data.weights(), codec.labels.names
    if not asked:
        return None
    if "balanced" in asked:
        counts = (
            train.truth.sum(axis=0)
            if train.truth.ndim == 2
            else np.bincount(train.truth, minlength=len(names))
        )
        return np.asarray(counts.sum() / (len(names) * np.maximum(counts, 1)), dtype=np.float32)
    for name in asked:
        if name not in names:
            raise UserError(f"--class-weights {name}=...: no such label{nearest(name, names)}")
    return np.array([asked.get(name, 1.0) for name in names], dtype=np.float32)


def loss_of(
    model: SequenceClassifier, batch: TextBatch, smoothing: float, weights: npt.NDArray[np.float32] | None
) -> Tensor:
    """The loss of each text in nats, `(B,)`.

    One label: -log softmax(o)[truth]. Several: the sum over labels of the binary cross entropy of sigmoid(o_k).
    smoothing: so much of the truth is spread evenly over the labels (of several: lies half-way).
    """
    import torch
    import torch.nn.functional as F

    logits = logits_of(model, batch)
    truth = torch.from_numpy(batch.truth).to(logits.device)
    weight = None if weights is None else torch.from_numpy(weights).to(logits.device)
    if truth.dim() == 1:
        return F.cross_entropy(logits, truth, weight=weight, reduction="none", label_smoothing=smoothing)
    aim = truth.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    each = F.binary_cross_entropy_with_logits(logits, aim, weight=weight, reduction="none")
    return each.sum(dim=1)


def logits_of(model: SequenceClassifier, batch: TextBatch) -> Tensor:
    """o `(B, K)`."""
    import torch

    device = model.head.weight.device
    tokens = torch.from_numpy(batch.tokens).to(device)
    # Texts of one length have no padding to look past.
    even = bool((batch.lengths == len(batch.tokens)).all())
    logits: Tensor = model(tokens, None if even else torch.from_numpy(batch.lengths))
    return logits


def _in_order(tokens: Sequence[Ids]) -> list[npt.NDArray[np.int64]]:
    """Batches of like lengths for reading without training, as indices."""
    lengths = np.array([len(row) for row in tokens], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    starts = cuts(lengths[order], BUDGET, MOST)
    return [order[a:b] for a, b in pairwise(starts)]


def probabilities(
    model: SequenceClassifier, tokens: Sequence[Ids], *, several: bool
) -> npt.NDArray[np.float64]:
    """p `(N, K)`: the softmax of the logits, or with several labels the sigmoid of each."""
    import torch

    model.eval()
    found, pieces = np.zeros((len(tokens), model.head.out_features)), _in_order(tokens)

    def of(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        batch = batch_of([tokens[i] for i in indices], np.zeros(len(indices), dtype=np.int64))
        logits = logits_of(model, batch).double().cpu()
        return np.asarray((logits.sigmoid() if several else logits.softmax(dim=1)).numpy())

    with torch.no_grad():
        for indices, p in zip(pieces, each(pieces, of), strict=True):
            found[indices] = p
    return found


def word_weights(
    model: SequenceClassifier, tokens: Sequence[Ids], answers: Sequence[Sequence[int]], *, several: bool
) -> list[npt.NDArray[np.float64]]:
    """How much each word of each text speaks for its answer, `(T,)` each, in nats.

        w_t = sum over i of e_ti d S / d e_ti,    S = log p(answer); of several labels the sum of their log p

    Gradient times input: the change of S, to first order, if the vector e_t of a word were faded out (Shrikumar et al.
    2016, arXiv 1605.01713). answers: the numbers of the labels that are explained.
    """
    found: list[npt.NDArray[np.float64]] = [np.zeros(len(row)) for row in tokens]
    for indices in _in_order(tokens):
        rows = [tokens[i] for i in indices]
        weights = _gradient_times_input(model, rows, [answers[i] for i in indices], several=several)
        for place, i in enumerate(indices):
            found[i] = weights[: len(tokens[i]), place]
    return found


def _gradient_times_input(
    model: SequenceClassifier, tokens: Sequence[Ids], answers: Sequence[Sequence[int]], *, several: bool
) -> npt.NDArray[np.float64]:
    import torch
    import torch.nn.functional as F

    model.eval()
    vectors: list[Any] = []

    def keep(module: Any, given: Any, out: Tensor) -> Tensor:
        own: Tensor = out.detach().requires_grad_()
        vectors.append(own)
        return own

    handle = model.embedding.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = logits_of(model, batch_of(tokens, np.zeros(len(tokens), dtype=np.int64)))
            logs = F.logsigmoid(logits) if several else logits.log_softmax(dim=1)
            total = torch.stack([logs[row, list(own)].sum() for row, own in enumerate(answers)]).sum()
            gradient = torch.autograd.grad(total, vectors[0])[0]
    finally:
        handle.remove()
    return np.asarray((gradient * vectors[0].detach()).sum(dim=-1).double().cpu().numpy())
