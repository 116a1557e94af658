"""Model, Loss: the network, and what it loses on a piece and on a whole text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elman.data.batching import IGNORED, Streams, TextBatch
from elman.tasks.language_model.settings import ModelSettings

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


def summed_loss(model: LanguageModel, batch: TextBatch, state: Any) -> tuple[Tensor, int, Any]:
    """-sum log p(target) in nats over a piece, over how many targets, and the state behind it."""
    import torch

    device = model.head.weight.device
    inputs, targets = (torch.from_numpy(array).to(device) for array in batch)
    logits, state = model(inputs, state)
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=IGNORED
    )
    return loss, int((batch.targets != IGNORED).sum()), state


def mean_loss(model: LanguageModel, streams: Streams) -> tuple[float, int]:
    """The mean loss in nats over a whole text, with the state carried from start to end; over how many tokens."""
    losses, counts = piece_losses(model, streams)
    return sum(losses) / sum(counts), sum(counts)


def piece_losses(model: LanguageModel, streams: Streams) -> tuple[list[float], list[int]]:
    """The summed loss of each piece in nats, with the state carried from piece to piece; over how many tokens each."""
    import torch

    model.eval()
    losses, counts, state = [], [], model.initial_state(streams.batch_size)
    with torch.no_grad():
        for index in range(len(streams)):
            loss, count, state = summed_loss(model, streams[index], state)
            losses.append(float(loss))
            counts.append(count)
    return losses, counts
