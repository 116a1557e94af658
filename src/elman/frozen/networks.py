"""Whole networks as stages: what stands before the recurrent layers, these, and what reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from elman.frozen.draft import Draft
from elman.frozen.stacks import freeze_function, freeze_stack
from elman.nn import GRU, LSTM, RNN, Embedding, Features, SequenceClassifier, Tagger
from elman.nn.networks.network import Network
from elman.nn.pooling import AttentionPooling, Pooling
from elman.nn.stack import Stack

__all__ = ["NETWORKS", "freeze_network"]

NETWORKS = (Tagger, SequenceClassifier)
_OWN: dict[type[nn.RNNBase], Callable[..., Stack]] = {nn.LSTM: LSTM, nn.GRU: GRU, nn.RNN: RNN}


def freeze_network(network: Network) -> Draft:
    """A `Tagger` (a `LanguageModel` is one) or a `SequenceClassifier`; its output is `logits`, before the softmax.

    Raises TypeError for another network, and for an embedding or recurrent layers that are not of elman.nn or torch.nn.
    """
    if not isinstance(network, NETWORKS):
        raise TypeError(
            f"{type(network).__name__} cannot be frozen yet; expected a Tagger, a LanguageModel, a SequenceClassifier, "
            f"or a layer of elman.nn"
        )
    draft = Draft(network.head.weight.dtype)
    vectors = _input(draft, network.embedding)
    y = freeze_stack(draft, _stack(network.recurrent), vectors, name="recurrent")[0]
    if isinstance(network, SequenceClassifier):
        draft.outputs = [_of_sequences(draft, network, y)]
    else:
        draft.outputs = [freeze_function(draft, "logits", lambda s: network._read_out(s, None), y)]
    draft.texts["task"] = "classifier" if isinstance(network, SequenceClassifier) else "tagger"
    return draft


def _input(draft: Draft, embedding: nn.Module) -> int:
    """The input, and the vectors that are made of it."""
    if isinstance(embedding, Embedding):
        draft.inputs = [draft.array("tokens", (), torch.int64)]
        # A row of the table goes through the norm by itself: it is there already.
        table = embedding(torch.arange(embedding.count, device=embedding.weight.device).unsqueeze(0))[0]
        return draft.look_up(draft.inputs[0], "embedding", table)
    if not isinstance(embedding, Features):
        raise TypeError(
            f"an embedding of the kind {type(embedding).__name__} cannot be frozen; expected elman.nn.Embedding or "
            f"elman.nn.Features"
        )
    width = _features(embedding)
    draft.inputs = [draft.array("features", (width,))]
    if isinstance(embedding.norm, nn.Identity) and isinstance(embedding.dense, nn.Identity):
        return draft.inputs[0]
    return freeze_function(draft, "features.dense", embedding, draft.inputs[0])


def _features(embedding: Features) -> int:
    if isinstance(embedding.dense, nn.Linear):
        return embedding.dense.in_features
    return embedding.output_size


def _stack(recurrent: nn.Module) -> Stack:
    """The layers as those of elman.nn; of torch.nn's the same with their weights."""
    if isinstance(recurrent, Stack):
        return recurrent
    if not isinstance(recurrent, nn.RNNBase) or type(recurrent) not in _OWN:
        raise TypeError(
            f"recurrent layers of the kind {type(recurrent).__name__} cannot be frozen; expected layers of elman.nn or "
            f"torch.nn"
        )
    options: dict[str, Any] = (
        {"nonlinearity": recurrent.nonlinearity} if isinstance(recurrent, nn.RNN) else {}
    )
    if isinstance(recurrent, nn.LSTM):
        options["proj_size"] = recurrent.proj_size
    like = next(recurrent.parameters())
    own = _OWN[type(recurrent)](
        recurrent.input_size, recurrent.hidden_size, recurrent.num_layers, bias=recurrent.bias,
        bidirectional=recurrent.bidirectional, **options,
    ).to(like)  # fmt: skip
    own.load_state_dict(recurrent.state_dict())
    return own.eval()


def _of_sequences(draft: Draft, network: SequenceClassifier, y: int) -> int:
    """Pooled over the steps, and read out."""
    pooling = network.pooling
    pooled: dict[str, int] = {}
    for over in sorted(_wanted(pooling)):
        scores = None
        if over == "attention" and isinstance(pooling.attention, AttentionPooling):
            scores = freeze_function(draft, "scores", _scores(pooling.attention), y)
        pooled[over] = draft.pool(over, y, f"pooled.{over}", scores)
    names = list(pooled)

    def read(*arrays: Tensor) -> Tensor:
        known = dict(zip(names, arrays, strict=True))
        parts = [part for kind in pooling.kinds for part in _parts(kind, pooling, known)]
        return network._read_out(torch.cat(parts, dim=-1), None)

    return freeze_function(draft, "logits", read, *pooled.values(), whole=True)


def _wanted(pooling: Pooling) -> set[str]:
    """Which poolings of all features its kinds are made of."""
    ends = {"last": {"last"}, "first": {"first"}}.get(pooling.ends, {"last", "first"})
    return set().union(*(ends if kind == "last" else {kind} for kind in pooling.kinds))


def _parts(kind: str, pooling: Pooling, known: dict[str, Tensor]) -> list[Tensor]:
    if kind != "last":
        return [known[kind]]
    if pooling.ends in ("last", "first"):
        return [known[pooling.ends]]
    if pooling.ends == "both":
        return [known["last"], known["first"]]
    order = ("last", "first") if pooling.ends == "halves" else ("first", "last")
    half = pooling.input_size // 2
    return [known[order[0]][:, :half], known[order[1]][:, half:]]


def _scores(attention: AttentionPooling) -> Callable[[Tensor], Tensor]:
    return lambda y: attention.query(torch.tanh(attention.project(y)))
