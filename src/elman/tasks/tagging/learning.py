"""Model, Loss: batches of sentences, the network's loss, and the best tags for what it says."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.bucketing import cuts
from elman.data.spelled import Codec
from elman.runtime import tagging
from elman.runtime.tagging import BUDGET, MOST, best_tags, shifted, side_by_side
from elman.tasks.tagging.settings import Config
from elman.training.parallel import each

if TYPE_CHECKING:
    from torch import Tensor

    from elman.decoding.chain import Chain
    from elman.nn import Tagger

__all__ = [
    "SentenceBatch",
    "batch_of",
    "best_tags",
    "build_model",
    "chain_of",
    "emissions_of",
    "loss_of",
    "shifted",
    "side_by_side",
]

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class SentenceBatch(NamedTuple):
    """B sentences: `numbers` `(T, B, 1 + C)`, `lengths` `(B,)`, `truth` `(T, B)`, -1 where nothing is to be learned."""

    numbers: Ids
    lengths: Ids
    truth: Ids

    @property
    def rows(self) -> int:
        """B."""
        return len(self.lengths)

    def pick(self, rows: npt.NDArray[np.int64]) -> SentenceBatch:
        """Some of the sentences."""
        longest = int(self.lengths[rows].max(initial=1))
        return SentenceBatch(self.numbers[:longest, rows], self.lengths[rows], self.truth[:longest, rows])


def batch_of(numbers: Sequence[Ids], truth: Sequence[Ids] | None = None) -> SentenceBatch:
    """Sentences side by side."""
    lengths = np.array([len(row) for row in numbers], dtype=np.int64)
    T, wide = int(lengths.max(initial=1)), max((row.shape[1] for row in numbers), default=2)
    padded = np.zeros((T, len(numbers), wide), dtype=np.int64)
    answers = np.full((T, len(numbers)), -1, dtype=np.int64)
    for place, row in enumerate(numbers):
        padded[: len(row), place, : row.shape[1]] = row
        if truth is not None:
            answers[: len(row), place] = truth[place]
    return SentenceBatch(padded, lengths, answers)


def build_model(config: Config, codec: Codec) -> Tagger:
    """The network; `chain`: its linear chain, None where each tag is by itself; `outside`: what is added to o of O."""
    import torch

    from elman.nn import LinearChain

    model = config.model.network(len(codec.words) + 1, len(codec.letters) + 2, len(codec.tags))
    own: Any = model
    own.chain = LinearChain(len(codec.tags), codec.allowed) if config.model.output == "crf" else None
    own.register_buffer("outside", torch.zeros(()))
    return model


def loss_of(model: Any, batch: SentenceBatch, smoothing: float) -> Tensor:
    """The loss of the batch in nats, summed over its words.

    softmax: -log p(tag) of each word. crf: -log p(all tags) of each sentence.
    smoothing: so much of the truth is spread evenly over the tags.
    """
    import torch
    import torch.nn.functional as F

    logits = logits_of(model, batch)
    truth = torch.from_numpy(batch.truth).to(logits.device)
    if model.chain is not None:
        loss: Tensor = model.chain(logits, truth, torch.from_numpy(batch.lengths)).sum()
        return loss
    K = logits.shape[2]
    flat, answers = logits.reshape(-1, K), truth.reshape(-1)
    return F.cross_entropy(flat, answers, ignore_index=-1, reduction="sum", label_smoothing=smoothing)


def logits_of(model: Any, batch: SentenceBatch) -> Tensor:
    """o `(T, B, K)`."""
    import torch

    numbers = torch.from_numpy(batch.numbers).to(model.head.weight.device)
    logits: Tensor = model(numbers, lengths=torch.from_numpy(batch.lengths)).logits
    return logits


def emissions_of(model: Any, numbers: Sequence[Ids]) -> list[Floats]:
    """What the network says of each word of each sentence, `(T, K)`: log p(tag), or under a chain its scores.

    Without `outside`, see `shifted`.
    """
    import torch

    model.eval()
    lengths = np.array([len(row) for row in numbers], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    pieces = [order[a:b] for a, b in pairwise(cuts(lengths[order], BUDGET, MOST))]
    found: list[Floats] = [np.zeros((0, model.head.out_features)) for _ in numbers]

    def of(own: Ids) -> Floats:
        logits = logits_of(model, batch_of([numbers[i] for i in own])).double()
        said = logits if model.chain is not None else logits.log_softmax(dim=2)
        return np.asarray(said.cpu().numpy())

    with torch.no_grad():
        for own, values in zip(pieces, each(pieces, of), strict=True):
            for place, i in enumerate(own):
                found[i] = values[: lengths[i], place]
    return found


def chain_of(model: Any, codec: Codec) -> Chain:
    """What follows what: learned, or nothing but what the scheme of the tags forbids."""
    if model.chain is None:
        return tagging.chain_of(codec, None, np.zeros(0), np.zeros(0))
    learned = (model.chain.cell.transitions, model.chain.start, model.chain.end)
    return tagging.chain_of(codec, *(part.detach().double().cpu().numpy() for part in learned))
