"""Whole networks as stages: what stands before the recurrent layers, these, and what reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from elman.frozen.draft import Draft
from elman.frozen.stacks import freeze_function, freeze_stack
from elman.nn import (
    GRU,
    LSTM,
    RNN,
    Affixes,
    Embedding,
    Features,
    SequenceClassifier,
    SpelledWords,
    Speller,
    Tagger,
)
from elman.nn.networks.network import Network
from elman.nn.pooling import AttentionPooling, Pooling
from elman.nn.stack import Stack

__all__ = ["NETWORKS", "freeze_network", "own_stack"]

NETWORKS = (Tagger, SequenceClassifier)
_OWN: dict[type[nn.RNNBase], Callable[..., Stack]] = {nn.LSTM: LSTM, nn.GRU: GRU, nn.RNN: RNN}


def freeze_network(network: Network, example: Any = None) -> Draft:
    """A `Tagger` (a `LanguageModel` is one) or a `SequenceClassifier`; its output is `logits`, before the softmax.

    example: of a tagger of `SpelledWords`, numbers `(..., 1 + C)`, from which C is taken.
    Raises TypeError for another network, and for an embedding or recurrent layers that are not of elman.nn or torch.nn.
    """
    if not isinstance(network, NETWORKS):
        raise TypeError(
            f"{type(network).__name__} cannot be frozen yet; expected a Tagger, a LanguageModel, a SequenceClassifier, "
            f"or a layer of elman.nn"
        )
    draft = Draft(network.head.weight.dtype)
    vectors = _input(draft, network.embedding, example)
    y = freeze_stack(draft, own_stack(network.recurrent), vectors, name="recurrent")[0]
    if isinstance(network, SequenceClassifier):
        draft.outputs = [_of_sequences(draft, network, y)]
    else:
        draft.outputs = [freeze_function(draft, "logits", lambda s: network._read_out(s, None), y)]
    draft.texts["task"] = "classifier" if isinstance(network, SequenceClassifier) else "tagger"
    return draft


def _input(draft: Draft, embedding: nn.Module, example: Any) -> int:
    """The input, and the vectors that are made of it."""
    if isinstance(embedding, Embedding):
        draft.inputs = [draft.array("tokens", (), torch.int64)]
        return draft.look_up(draft.inputs[0], "embedding", _table(embedding))
    if isinstance(embedding, SpelledWords):
        return _words(draft, embedding, example)
    if not isinstance(embedding, Features):
        raise TypeError(
            f"an embedding of the kind {type(embedding).__name__} cannot be frozen; expected elman.nn.Embedding, "
            f"elman.nn.Features or elman.nn.SpelledWords"
        )
    width = _features(embedding)
    draft.inputs = [draft.array("features", (width,))]
    if isinstance(embedding.norm, nn.Identity) and isinstance(embedding.dense, nn.Identity):
        return draft.inputs[0]
    return freeze_function(draft, "features.dense", embedding, draft.inputs[0])


def _table(embedding: Embedding) -> Tensor:
    """Its vectors; a row of the table goes through the norm by itself: it is there already."""
    numbers = torch.arange(embedding.count, device=embedding.weight.device)
    vectors: Tensor = embedding(numbers.unsqueeze(0))[0]
    return vectors


def _words(draft: Draft, words: SpelledWords, example: Any) -> int:
    """Words and their letters as two inputs, `()` and `(C,)`; the parts side by side."""
    draft.inputs = [draft.array("words", (), torch.int64)]
    parts = [draft.look_up(draft.inputs[0], "words.vectors", _table(words.words))]
    if words.speller is None and words.affixes is None:
        return parts[0]
    if example is None:
        raise ValueError(
            "the network does not say how many letters of a word it reads; give example=, numbers (T, B, 1 + C) of "
            "words and their letters"
        )
    letters = draft.array("letters", (example.shape[-1] - 1,), torch.int64)
    draft.inputs.append(letters)
    if isinstance(words.speller, Speller):
        parts.append(draft.spell(letters, "spelling", _speller(draft.part("spelling"), words.speller)))
    if isinstance(words.affixes, Affixes):
        ends = words.affixes
        parts.append(draft.affixes(letters, "affixes", ends.weight, ends.longest))
    return freeze_function(draft, "embedding", lambda *found: torch.cat(found, dim=-1), *parts)


def _speller(draft: Draft, speller: Speller) -> Draft:
    """From the letters of a word to its vector."""
    draft.inputs = [draft.array("letters", (), torch.int64)]
    vectors = draft.look_up(draft.inputs[0], "embedding", _table(speller.letters))
    y = freeze_stack(draft, own_stack(speller.recurrent), vectors, name="recurrent")[0]
    draft.outputs = [_pooled(draft, speller.pooling, y)]
    return draft


def _features(embedding: Features) -> int:
    if isinstance(embedding.dense, nn.Linear):
        return embedding.dense.in_features
    return embedding.output_size


def own_stack(recurrent: nn.Module) -> Stack:
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
    return _pooled(draft, network.pooling, y, lambda s: network._read_out(s, None), "logits")


def _pooled(
    draft: Draft,
    pooling: Pooling,
    y: int,
    then: Callable[[Tensor], Tensor] | None = None,
    name: str = "pooled",
) -> int:
    """What a pooling gives, or a function of it."""
    pooled: dict[str, int] = {}
    for over in sorted(_wanted(pooling)):
        scores = None
        if over == "attention" and isinstance(pooling.attention, AttentionPooling):
            scores = freeze_function(draft, "scores", _scores(pooling.attention), y)
        pooled[over] = draft.pool(over, y, f"pooled.{over}", scores)
    names = list(pooled)
    if then is None and len(names) == 1:
        return pooled[names[0]]

    def read(*arrays: Tensor) -> Tensor:
        known = dict(zip(names, arrays, strict=True))
        parts = [part for kind in pooling.kinds for part in _parts(kind, pooling, known)]
        found = torch.cat(parts, dim=-1)
        return found if then is None else then(found)

    return freeze_function(draft, name, read, *pooled.values(), whole=True)


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
