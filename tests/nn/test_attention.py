"""Attention: each form by hand, row by row and step by step; masks; and inside a cell of the engine."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import elman.nn as en
from nn.by_hand import assert_same
from nn.networks import DOUBLE
from tolerances import assert_near

Q, M, A, N = 4, 6, 8, 2


def dot(_: Any, q: Tensor, m: Tensor) -> Tensor:
    return q @ m


def scaled(_: Any, q: Tensor, m: Tensor) -> Tensor:
    return q @ m / M**0.5


def general(a: Any, q: Tensor, m: Tensor) -> Tensor:
    return q @ (a.key.weight @ m)


def additive(a: Any, q: Tensor, m: Tensor) -> Tensor:
    return a.score.weight[0] @ torch.tanh(a.query.weight @ q + a.query.bias + a.key.weight @ m)


def concat(a: Any, q: Tensor, m: Tensor) -> Tensor:
    return a.score.weight[0] @ torch.tanh(a.mix.weight @ torch.cat((q, m)))


# Name -> the module, the width of its query, and the score of one step.
FORMS: dict[str, tuple[Callable[[], Any], int, Callable[[Any, Tensor, Tensor], Tensor]]] = {
    "dot": (en.DotAttention, M, dot),
    "scaled dot": (lambda: en.DotAttention(scaled=True), M, scaled),
    "general": (lambda: en.GeneralAttention(Q, M), Q, general),
    "additive": (lambda: en.AdditiveAttention(Q, M, A), Q, additive),
    "concat": (lambda: en.ConcatAttention(Q, M, A), Q, concat),
}


def softmax(scores: list[Tensor]) -> list[Tensor]:
    exponents = [score.exp() for score in scores]
    return [e / sum(exponents) for e in exponents]


def drawn(query: int, lengths: list[int]) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """A query, a memory with NaN where the mask is false, the mask, and what has a gradient."""
    B, S = len(lengths), max(1, *lengths) + 1
    q = torch.randn(B, query, dtype=DOUBLE, requires_grad=True)
    mask = torch.zeros(B, S, dtype=torch.bool)
    for b, n in enumerate(lengths):
        mask[b, torch.randperm(S)[:n]] = True
    seen = torch.randn(B, S, M, dtype=DOUBLE, requires_grad=True)
    memory = torch.where(mask.unsqueeze(-1), seen, 0.0)
    return q, memory, mask, {"query": q, "memory": seen}


LENGTHS = st.lists(st.integers(0, 5), min_size=1, max_size=4)


@pytest.mark.parametrize("form", FORMS)
@given(lengths=LENGTHS)
def test_each_form_is_its_equation(form: str, lengths: list[int]) -> None:
    make, size, score = FORMS[form]
    attention = make().to(DOUBLE)
    q, memory, mask, inputs = drawn(size, lengths)
    vectors, weights = [], []
    for b in range(len(lengths)):
        steps = mask[b].nonzero().flatten().tolist()
        shares = softmax([score(attention, q[b], memory[b, s]) for s in steps])
        row = torch.zeros(mask.shape[1], dtype=DOUBLE)
        for s, share in zip(steps, shares, strict=True):
            row = row + torch.nn.functional.one_hot(torch.tensor(s), len(row)) * share
        weights.append(row)
        vectors.append((row.unsqueeze(1) * memory[b]).sum(0))
    expected = (torch.stack(vectors), torch.stack(weights))
    assert_same(attention(q, memory, mask), expected, {**inputs, **dict(attention.named_parameters())})


@given(lengths=LENGTHS)
def test_several_heads_are_those_of_torch(lengths: list[int]) -> None:
    lengths = [max(1, n) for n in lengths]  # torch's gives NaN for a row that sees nothing
    ours, theirs = (
        en.MultiHeadAttention(Q, M, A, N).to(DOUBLE),
        nn.MultiheadAttention(A, N, kdim=M, vdim=M, batch_first=True).to(DOUBLE),
    )
    q, memory, mask, inputs = drawn(Q, lengths)
    with torch.no_grad():
        theirs.q_proj_weight.copy_(torch.eye(A))
        theirs.k_proj_weight.copy_(ours.key.weight)
        theirs.v_proj_weight.copy_(ours.value.weight)
        theirs.in_proj_bias.copy_(torch.cat((torch.zeros(A), ours.key.bias, ours.value.bias)))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    expected, weights = theirs(
        ours.query(q).unsqueeze(1), memory, memory, key_padding_mask=~mask, average_attn_weights=False
    )
    assert_same(ours(q, memory, mask), (expected[:, 0], weights[:, :, 0]), inputs)


@given(lengths=LENGTHS, width=st.sampled_from([1, 3, 5, 9]))
def test_location_is_felt_through_kernels(lengths: list[int], width: int) -> None:
    attention = en.LocationAttention(Q, M, A, filters=3, width=width).to(DOUBLE)
    q, memory, mask, inputs = drawn(Q, lengths)
    B, S = mask.shape
    before = torch.rand(B, S, dtype=DOUBLE, requires_grad=True)
    side = width // 2
    vectors, weights = [], []
    for b in range(B):
        steps = mask[b].nonzero().flatten().tolist()
        scores = []
        for s in steps:
            f = torch.zeros(3, dtype=DOUBLE)
            for j in range(-side, side + 1):
                if 0 <= s + j < S:
                    f = f + attention.kernels[:, j + side] * before[b, s + j]
            a = attention.query.weight @ q[b] + attention.query.bias
            a = a + attention.key.weight @ memory[b, s] + attention.location.weight @ f
            scores.append(attention.score.weight[0] @ torch.tanh(a))
        row = torch.zeros(S, dtype=DOUBLE)
        for s, share in zip(steps, softmax(scores), strict=True):
            row = row + torch.nn.functional.one_hot(torch.tensor(s), S) * share
        weights.append(row)
        vectors.append((row.unsqueeze(1) * memory[b]).sum(0))
    expected = (torch.stack(vectors), torch.stack(weights))
    parameters = dict(attention.named_parameters())
    assert_same(attention(q, memory, before, mask), expected, {**inputs, "before": before, **parameters})


@pytest.mark.parametrize("form", [*FORMS, "several heads"])
def test_what_the_mask_hides_reaches_nothing(form: str) -> None:
    if form == "several heads":
        attention, size = en.MultiHeadAttention(Q, M, A, N).to(DOUBLE), Q
    else:
        attention, size = FORMS[form][0]().to(DOUBLE), FORMS[form][1]
    q, memory, mask, inputs = drawn(size, [3, 0, 1])
    spoilt = torch.where(mask.unsqueeze(-1), inputs["memory"], torch.nan)
    for one, other in zip(attention(q, spoilt, mask), attention(q, memory, mask), strict=True):
        assert_near(one, other)
    whole = torch.ones_like(mask)
    for one, other in zip(attention(q, memory, whole), attention(q, memory), strict=True):
        assert_near(one, other)
    attention(q, spoilt, mask).vector.sum().backward()
    reached = [*inputs.values(), *attention.parameters()]
    assert all(v.grad is not None and v.grad.isfinite().all() for v in reached)


class Reader(nn.Module):
    """A decoder's step: a GRU cell that reads a memory, handed over as the context with its mask."""

    def __init__(self, attention: nn.Module, width: int) -> None:
        super().__init__()
        self.input_size, self.hidden_size = 3, Q if width != M else M
        self.attention = attention
        self.cell = nn.GRUCell(3 + width, self.hidden_size)

    def forward(self, x: Tensor, h: Tensor, context: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        read = self.attention(h, *context).vector
        h = self.cell(torch.cat((x, read), -1), h)
        return h, h


@pytest.mark.parametrize("form", [*FORMS, "several heads"])
def test_inside_a_cell_it_is_the_loop_over_it(form: str) -> None:
    attention = en.MultiHeadAttention(Q, M, A, N) if form == "several heads" else FORMS[form][0]()
    cell = Reader(attention, A if form == "several heads" else M).to(DOUBLE)
    if form in {"dot", "scaled dot"}:
        cell.hidden_size, cell.cell = M, nn.GRUCell(3 + M, M).to(DOUBLE)
    elif form != "several heads":
        cell.hidden_size, cell.cell = Q, nn.GRUCell(3 + M, Q).to(DOUBLE)
    layer = en.Recurrent(cell)
    _, memory, mask, inputs = drawn(Q, [4, 2, 1])
    x = torch.randn(5, 3, 3, dtype=DOUBLE, requires_grad=True)
    h = torch.zeros(3, cell.hidden_size, dtype=DOUBLE)
    steps, start = [], h
    for x_t in x:
        y, h = cell(x_t, h, (memory, mask))
        steps.append(y)
    result = layer(x, start, context=(memory, mask))
    parameters = {**dict(cell.named_parameters()), "x": x, "memory": inputs["memory"]}
    assert_same((result.y, result.state), (torch.stack(steps), h), parameters)
    assert layer.path == "native", layer.explain()


def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    q, memory, mask, _ = drawn(Q, [3])
    with pytest.raises(ValueError, match=r"the query has 4 features, the memory 6"):
        en.DotAttention()(q, memory, mask)
    with pytest.raises(ValueError, match="multiple"):
        en.MultiHeadAttention(Q, M, 7, 2)
    with pytest.raises(ValueError, match="odd"):
        en.LocationAttention(Q, M, A, width=4)
