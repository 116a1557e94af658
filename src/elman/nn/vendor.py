"""torch's own kernels for the layers of torch.nn, where they are the fastest there is: cuDNN, MIOpen, Metal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from elman.engine import EngineError
from elman.nn.layout import Sequences, without_padding

__all__ = ["VENDOR_DEVICES", "VendorCall", "run_vendor"]

VENDOR_DEVICES = ("cuda", "mps")

# (y, h) or (y, h, c) of (x or packed data, [batch sizes], state, weights, bias, layers, dropout, training, both ways).
Kernel = Callable[..., tuple[Tensor, ...]]


class VendorCall:
    """Whether the last call of a layer went to torch's kernels. With slots, so that no scan watches what is in it."""

    __slots__ = ("ran",)

    def __init__(self) -> None:
        self.ran = False


def run_vendor(
    kernel: Kernel,
    sequences: Sequences,
    state: tuple[Tensor, ...],
    weights: Sequence[Tensor],
    *,
    bias: bool,
    num_layers: int,
    dropout: float,
    bidirectional: bool,
) -> tuple[Any, tuple[Tensor, ...]]:
    """Outputs (a PackedSequence where the input was one, else `(T, B, D·H)`) and final states `(L·D, B, H)`.

    kernel: torch.lstm, torch.gru, torch.rnn_tanh or torch.rnn_relu; state: tensors `(L·D, B, H)`, rows in the engine's
    order. Lengths may be zero, which the kernels refuse: such a row runs one step, and its results are dropped.
    """
    # cuDNN refuses the backward of a call that was not in training mode, which without dropout computes the same.
    training = dropout > 0 or torch.is_grad_enabled()
    options = (list(weights), bias, num_layers, dropout, training, bidirectional)
    one = len(state) == 1
    if sequences.lengths is None:
        y, *final = kernel(sequences.x, state[0] if one else state, *options, False)
        return y, tuple(final)
    if sequences.packed is not None and sequences.taken is None:
        packed = sequences.packed
        data, *final = kernel(packed.data, packed.batch_sizes, state[0] if one else state, *options)
        return PackedSequence(
            data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
        ), tuple(final)

    lengths, T = sequences.lengths.cpu(), sequences.x.shape[0]
    if ((lengths < 0) | (lengths > T)).any():
        raise EngineError(f"lengths is {lengths.tolist()}; expected 0 to {T}, the steps of the input")
    x = without_padding(sequences.x, sequences.lengths) if bool((lengths == 0).any()) else sequences.x
    packed = pack_padded_sequence(x, lengths.clamp(min=1), enforce_sorted=False)
    assert packed.sorted_indices is not None
    assert packed.unsorted_indices is not None
    by_length = tuple(s.index_select(1, packed.sorted_indices) for s in state)
    data, *final = kernel(packed.data, packed.batch_sizes, by_length[0] if one else by_length, *options)
    y, _ = pad_packed_sequence(packed._replace(data=data), total_length=T)
    going = (sequences.lengths.to(y.device) > 0).unsqueeze(-1)
    final = [new.index_select(1, packed.unsorted_indices) for new in final]
    ended = (torch.where(going, new, old) for new, old in zip(final, state, strict=True))
    return torch.where(going, y, 0.0), tuple(ended)
