"""A network with two answers to one reading: each is what it would be alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from elman.nn import GRU as Layers
from elman.nn import (
    AttentionCell,
    AttentionEncoderDecoder,
    Embedding,
    Features,
    GRUCell,
    LocationAttention,
    Transcriber,
)
from tolerances import assert_near

S, B, F, H, K = 9, 3, 4, 6, 5


def make(*, joint: bool = True, bidirectional: bool = True) -> Transcriber:
    torch.manual_seed(0)
    encoder = Layers(F, H, bidirectional=bidirectional)
    width = H * (2 if bidirectional else 1)
    cell = AttentionCell(GRUCell, 7, H, LocationAttention(H, width, 8, width=3), width, look="before")
    model = Transcriber(Features(F), encoder, Embedding(K, 7), cell, joint=joint)
    return model.double().eval()


def batch() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    x = torch.randn(S, B, F, dtype=torch.float64)
    return x, torch.randint(K, (4, B)), torch.tensor([9, 4, 6]), torch.tensor([4, 2, 3])


def test_each_answer_is_what_it_is_alone() -> None:
    model, (x, target, lengths, ends) = make(), batch()
    both = model(x, target, lengths, ends)
    alone = AttentionEncoderDecoder.forward(model, x, target, lengths, ends)
    assert_near(both.written, alone)
    steps = model.align_steps(x, lengths=lengths).logits
    assert_near(both.aligned, steps)
    assert (both.aligned.shape, both.written.shape) == ((S, B, K), (4, B, K))


def test_a_row_is_the_same_beside_others_and_whatever_stands_in_the_padding() -> None:
    model, (x, target, lengths, ends) = make(), batch()
    both = model(x, target, lengths, ends)
    for b in range(B):
        n, t = int(lengths[b]), int(ends[b])
        one = model(x[:n, b : b + 1], target[:t, b : b + 1], lengths[b : b + 1], ends[b : b + 1])
        assert_near(one.aligned[:, 0], both.aligned[:n, b])
        assert_near(one.written[:, 0], both.written[:t, b])


def test_both_losses_reach_the_encoder() -> None:
    model, (x, target, lengths, ends) = make(), batch()
    both = model(x, target, lengths, ends)
    weight: Any = next(model.encoder.parameters())
    found = [torch.autograd.grad(part.square().sum(), weight, retain_graph=True)[0] for part in both]
    (sums,) = torch.autograd.grad(both.aligned.square().sum() + both.written.square().sum(), weight)
    assert all(part.abs().max() > 0 for part in found)
    assert_near(sums, found[0] + found[1])


def test_one_direction_goes_on_from_its_state() -> None:
    model, (x, *_) = make(bidirectional=False), batch()
    whole = model.align_steps(x).logits
    state, pieces = None, []
    for a, b in ((0, 1), (1, 5), (5, S)):
        logits, state = model.align_steps(x[a:b], state)
        pieces.append(logits)
    assert_near(torch.cat(pieces), whole)


def test_without_ctc_there_is_no_such_output() -> None:
    model, (x, target, lengths, ends) = make(joint=False), batch()
    assert model(x, target, lengths, ends).aligned is None
    with pytest.raises(ValueError, match="joint=True"):
        model.align_steps(x)
