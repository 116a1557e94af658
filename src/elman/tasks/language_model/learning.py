"""Model, Loss: the network, and what it loses on a piece and on a whole text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from elman.data.batching import IGNORED, Streams, TextBatch
from elman.tasks.language_model.settings import ModelSettings
from elman.training.parallel import each, sharers

if TYPE_CHECKING:
    from torch import Tensor

    from elman.nn.networks import LanguageModel

__all__ = ["build_model", "mean_loss", "piece_losses", "summed_loss"]


def build_model(settings: ModelSettings, size: int, unknown: int = -1) -> LanguageModel:
    """The network over a vocabulary of `size` tokens; unknown: what a dropped token is taken for (-1: nothing)."""
    from elman.nn.networks import LanguageModel

    return LanguageModel(
        size,
        settings.width,
        settings.hidden,
        settings.layers,
        cell=settings.factory(),
        dropout=settings.dropout,
        sequence_dropout=settings.sequence_dropout,
        word_dropout=settings.word_dropout,
        unknown=unknown,
        input_norm=settings.input_norm,
        tied=settings.tied,
        norm=settings.output_norm,
        init=settings.init,
        engine=settings.engine,
        extras=settings.extras(),
    )


def summed_loss(
    model: LanguageModel, batch: TextBatch, state: Any, *, by_torch: bool = False
) -> tuple[Tensor, int, Any]:
    """-sum log p(target) in nats over a piece, over how many targets, and the state behind it.

    by_torch: of all logits at once, by torch's own calls.
    """
    import torch

    from elman.nn import head_cross_entropy

    device = model.head.weight.device
    inputs, targets = (torch.from_numpy(array).to(device) for array in (batch.inputs, batch.targets))
    reset = None if batch.reset is None else torch.from_numpy(batch.reset).to(device)
    features, state = model.features(inputs, state, reset=reset)
    loss = head_cross_entropy(
        model.head, features, targets, reduction="sum", ignore_index=IGNORED, by_torch=by_torch
    ).loss
    return loss, int((batch.targets != IGNORED).sum()), state


def mean_loss(model: LanguageModel, streams: Streams) -> tuple[float, int]:
    """The mean loss in nats over a whole text, with the state carried from start to end; over how many tokens."""
    losses, counts = piece_losses(model, streams)
    return sum(losses) / sum(counts), sum(counts)


def piece_losses(model: LanguageModel, streams: Streams) -> tuple[list[float], list[int]]:
    """The summed loss of each piece in nats, with the state carried from piece to piece; over how many tokens each."""
    import torch

    model.eval()
    B, groups = streams.batch_size, min(sharers(), streams.batch_size)

    def of(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        found, state = np.zeros((2, len(streams))), model.initial_state(len(rows))
        for index in range(len(streams)):
            piece = streams[index]
            loss, count, state = summed_loss(model, piece.pick(rows) if len(rows) < B else piece, state)
            found[:, index] = float(loss), count
        return found

    with torch.no_grad():
        found = np.sum(each([np.arange(first, B, groups) for first in range(groups)], of), axis=0)
    return found[0].tolist(), found[1].astype(int).tolist()
