"""Networks in modules that torch's exporter sees through: the same numbers, sizes open, nothing looked up by value."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.nn import GRU, LSTM, RNN, Affixes, Embedding, FrameEncoder, MaskedBatchNorm, Speller
from elman.nn.embedding import SequenceInput
from elman.nn.layout import without_padding
from elman.nn.networks.network import Network
from elman.nn.networks.stacks import run_stack
from elman.nn.stack import Stack

__all__ = ["portable"]

_OWN: dict[type[nn.Module], Callable[..., Stack]] = {nn.LSTM: LSTM, nn.GRU: GRU, nn.RNN: RNN}


def portable(network: Network) -> Network:
    """A copy in evaluation mode. Layers of torch.nn become those of elman.nn with their weights, an embedding with
    subwords its table, and words are spelled one by one."""
    copied = copy.deepcopy(network).eval()
    for name, part in list(copied.named_modules()):
        made = _in_its_place(part)
        if made is not None:
            holder, _, own = name.rpartition(".")
            setattr(copied.get_submodule(holder), own, made)
    return copied


def _in_its_place(part: nn.Module) -> nn.Module | None:
    if type(part) in _OWN:
        return _own_layer(part)
    if isinstance(part, Speller):
        return _EachWord(part).eval()
    if isinstance(part, Affixes):
        return _EachAffix(part).eval()
    if isinstance(part, FrameEncoder):
        return _EveryFrame(part).eval()
    if isinstance(part, MaskedBatchNorm):
        made = _EveryRow(part.num_features, eps=part.eps, affine=part.affine)
        made.load_state_dict(part.state_dict())
        return made.eval()
    if isinstance(part, Embedding) and part.subwords is not None:
        _spell_out(part)
    return None


def _own_layer(layer: Any) -> Stack:
    options: dict[str, Any] = {"nonlinearity": layer.nonlinearity} if isinstance(layer, nn.RNN) else {}
    if isinstance(layer, nn.LSTM):
        options["proj_size"] = layer.proj_size
    own = _OWN[type(layer)](
        layer.input_size, layer.hidden_size, layer.num_layers, bias=layer.bias, bidirectional=layer.bidirectional,
        batch_first=layer.batch_first, **options,
    ).to(next(layer.parameters()))  # fmt: skip
    own.load_state_dict(layer.state_dict())
    return own.eval()


def _spell_out(embedding: Embedding) -> None:
    """Each token's own vector and the mean of its pieces, as one table."""
    with torch.no_grad():
        table = embedding._vectors(torch.arange(embedding.count))
    embedding.weight, embedding.subwords = nn.Parameter(table), None


class _EachWord(nn.Module):
    """A `Speller` that spells every word, whether it stood there before or not."""

    def __init__(self, speller: Speller) -> None:
        super().__init__()
        self.letters, self.pooling = speller.letters, speller.pooling
        layers = speller.recurrent
        self.recurrent = _own_layer(layers) if type(layers) in _OWN else layers
        self.output_size = speller.output_size

    def forward(self, letters: Tensor) -> Tensor:
        """`(U, C)` -> `(U, S)`."""
        sizes = (letters > 0).sum(1).clamp(min=1)
        spelled, _ = run_stack(self.recurrent, self.letters(letters.t(), sizes), None, sizes)
        pooled: Tensor = self.pooling(spelled, sizes)
        return pooled


class _EveryFrame(SequenceInput):
    """A `FrameEncoder` that looks at the padding too, and gives zeros there."""

    def __init__(self, frames: FrameEncoder) -> None:
        super().__init__()
        self.frames, self.output_size = frames, frames.output_size

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`(T, B, N 3 S²)` -> `(T, B, output_size)`."""
        return without_padding(self.frames(x), lengths)


class _EveryRow(MaskedBatchNorm):
    """One that normalizes the padding too, by the running statistics, and gives zeros there."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`(T, B, H)` or `(B, H)`, as it came."""
        y = super().forward(x)
        return without_padding(y, lengths) if x.dim() == 3 else y


class _EachAffix(nn.Module):
    """`Affixes`, summed without torch's bags."""

    def __init__(self, affixes: Affixes) -> None:
        super().__init__()
        self.affixes, self.output_size = affixes, affixes.output_size

    def forward(self, letters: Tensor) -> Tensor:
        """`(U, C)` -> `(U, A)`."""
        return F.embedding(self.affixes.numbers(letters), self.affixes.weight).sum(1)
