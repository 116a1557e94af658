"""The decoder with attention: its step by hand, the engine beside the loop over it, rows of a beam, whole networks."""

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._pytree import tree_map

import elman.nn as en
from elman.decoding import beam_search, score_targets
from nn.by_hand import FAST, assert_same
from nn.networks import DOUBLE, OwnCell, V, spread, tokens
from tolerances import assert_near

E, H, M, A = 3, 4, 6, 5

ATTENTIONS: dict[str, Any] = {
    "additive": lambda: en.AdditiveAttention(H, M, A),
    "general": lambda: en.GeneralAttention(H, M),
    "concat": lambda: en.ConcatAttention(H, M, A),
    "several heads": lambda: en.MultiHeadAttention(H, M, 8, 2),
    "location": lambda: en.LocationAttention(H, M, A, filters=2, width=3),
    "coverage": lambda: en.CoverageAttention(H, M, A),
    "summed": lambda: en.SummedAttention(en.AdditiveAttention(H, M, A)),
    "monotonic": lambda: en.MonotonicAttention(H, M, A, noise=0.0),
}
CELLS: dict[str, Any] = {
    "gru": en.GRUCell,
    "lstm": en.LSTMCell,
    "own": OwnCell,
    "torch": nn.GRUCell,
    "torch lstm": nn.LSTMCell,
}
LOOKS = [("before", 0), ("between", 0), ("after", 0), ("after", 7)]


def make(attention: str, look: str, feeding: int = 0, cell: str = "gru") -> en.AttentionCell:
    size = 8 if attention == "several heads" else M
    if cell == "own" and look != "before":  # its output, which asks, is one wider than its state
        made = {"additive": lambda: en.AdditiveAttention(H + 1, M, A)}[attention]()
    else:
        made = ATTENTIONS[attention]()
    return spread(en.AttentionCell(CELLS[cell], E, H, made, size, look=look, feeding=feeding))  # type: ignore[no-any-return]


def given_to(cell: en.AttentionCell, T: int, lengths: list[int]) -> tuple[Tensor, Any, Tensor, Tensor]:
    """x, the cell's own start, a memory and its mask; what is hidden in the memory is NaN."""
    B, S = len(lengths), max(lengths) + 1
    x = torch.randn(T, B, E, dtype=DOUBLE, requires_grad=True)
    mask = torch.arange(S) < torch.tensor(lengths).unsqueeze(1)
    memory = torch.randn(B, S, M, dtype=DOUBLE).masked_fill(~mask.unsqueeze(-1), torch.nan).requires_grad_()
    width = 1 if isinstance(cell.cell, en.GRUCell | nn.GRUCell) else 2
    start = tuple(torch.randn(B, H, dtype=DOUBLE) for _ in range(width))
    return x, start[0] if width == 1 else start, memory, mask


def looped(cell: en.AttentionCell, x: Tensor, state: Any, memory: en.Memory) -> tuple[Tensor, Any]:
    found = []
    for x_t in x:
        y, state = cell(x_t, state, memory)
        found.append(y)
    return torch.stack(found), state


def test_coverage_is_felt_and_summed_up() -> None:
    cell: Any = make("coverage", "after")
    x, h, memory, mask = given_to(cell, 3, [3, 2])
    attention = cell.attention
    state = cell.start(h, attention.prepare(memory, mask))
    total = torch.zeros(2, 4, dtype=DOUBLE)
    for x_t in x:
        _, weights, state = cell.look_at(x_t, state, attention.prepare(memory, mask))
        for b, n in enumerate([3, 2]):
            q, m = attention.query(state[0][b]), attention.key(memory[b, :n])
            added = torch.outer(total[b, :n], attention.coverage)
            scores = torch.tanh(q + m + added) @ attention.score.weight[0]
            assert_near(weights[b, :n], scores.softmax(0))
        total = total + weights
        assert_near(state[-1], total)


def test_monotonic_attention_is_its_recursion() -> None:
    """Equation 10, step by step of the memory; what never stops reads nothing; noise in training only."""
    attention: Any = spread(en.MonotonicAttention(H, M, A))
    q, memory = torch.randn(1, H, dtype=DOUBLE), torch.randn(1, 5, M, dtype=DOUBLE)
    mask = torch.tensor([[True, True, True, True, False]])
    before = torch.tensor([[0.1, 0.5, 0.3, 0.0, 0.0]], dtype=DOUBLE)
    attention.eval()
    found = attention(q, memory, before, mask)
    energies = torch.tanh(attention.query(q) + attention.key(memory[0])) @ attention.score.weight[0]
    p, expected = torch.sigmoid(energies + attention.score.bias), []
    for s in range(4):
        behind = (1 - p[s - 1]) * expected[-1] / p[s - 1] if s else 0.0
        expected.append(p[s] * (behind + before[0, s]))
    assert_near(found.weights[0, :4], torch.stack(expected))
    assert found.weights[0, 4].item() == 0 and found.weights.sum().item() < 1
    assert_near(found.vector[0], found.weights[0] @ memory[0])
    attention.train()
    assert not torch.equal(attention(q, memory, before, mask).weights, found.weights)


def test_the_step_is_its_equations() -> None:
    """Each look in turn, a step of one row, with modules of torch alone."""
    for look, feeding in LOOKS:
        cell: Any = make("additive", look, feeding, "torch")
        _, h, memory, mask = given_to(cell, 1, [3])
        x, fed = torch.randn(1, E, dtype=DOUBLE), torch.randn(1, feeding, dtype=DOUBLE)
        attention = cell.attention

        def read(q: Tensor, attention: Any = attention, memory: Tensor = memory) -> tuple[Tensor, Tensor]:
            m = memory[0, :3]
            scores = torch.tanh(attention.query(q) + attention.key(m)) @ attention.score.weight[0]
            return (scores.softmax(0) @ m).unsqueeze(0), scores.softmax(0)

        if look == "before":
            c, a = read(h)
            s = cell.cell(torch.cat((x, c), 1), h)
        elif look == "between":
            middle = cell.cell(x, h)
            c, a = read(middle)
            s = cell.second(c, middle)
        else:
            s = cell.cell(torch.cat((x, fed), 1), h)
            c, a = read(s)
        y = torch.cat((s, c), 1)
        y = torch.tanh(cell.mix(y)) if feeding else y
        state = (h, fed) if feeding else (h,)
        found, weights, after = cell.look_at(x, state, attention.prepare(memory, mask))
        assert_near(found, y)
        assert_near(weights[0, :3], a)
        assert weights[0, 3].item() == 0
        assert_near(after[0], s)
        assert len(after) == 1 + bool(feeding)
        assert after[-1] is (found if feeding else after[0])


@pytest.mark.parametrize(
    ("attention", "look", "feeding", "cell"),
    [
        *((a, "between", 0, "gru") for a in ATTENTIONS),
        *(("additive", look, feeding, cell) for (look, feeding), cell in product(LOOKS, ("lstm", "torch"))),
        ("location", "after", 7, "lstm"),
        ("additive", "between", 0, "torch lstm"),
        ("additive", "before", 0, "own"),
        ("additive", "after", 7, "own"),
    ],
)
def test_the_engine_runs_it_as_the_loop_does(attention: str, look: str, feeding: int, cell: str) -> None:
    step = make(attention, look, feeding, cell)
    x, start, memory, mask = given_to(step, 4, [3, 1, 2])
    prepared = step.attention.prepare(memory, mask)  # type: ignore[operator]
    state = step.start(start, prepared)
    layer = en.Recurrent(step)
    expected = looped(step, x, state, prepared)
    result = layer(x, state, context=prepared)
    inputs = {"x": x, "memory": memory, **dict(step.named_parameters())}
    assert_same((result.y, result.state), expected, inputs)
    assert layer.path == FAST, layer.explain()


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize(("look", "feeding"), LOOKS)
def test_rows_of_a_beam_are_rows_like_others(attention: str, look: str, feeding: int) -> None:
    step, K = make(attention, look, feeding, "lstm"), 3
    _, start, memory, mask = given_to(step, 2, [3, 1])
    prepared = step.attention.prepare(memory.detach(), mask)  # type: ignore[operator]
    state = step.start(start, prepared)
    many = tree_map(lambda leaf: leaf.unsqueeze(1) + 0.3 * torch.randn(K, 1, dtype=DOUBLE), state)
    x_t = torch.randn(2, K, E, dtype=DOUBLE)
    y, weights, after = step.look_at(x_t, many, prepared)
    for k in range(K):
        own = step.look_at(x_t[:, k], tree_map(lambda leaf, k=k: leaf[:, k], many), prepared)
        assert_near(y[:, k], own[0])
        assert_near(weights[:, k], own[1])
        tree_map(lambda a, b, k=k: assert_near(a[:, k], b), after, own[2])


def network(
    *, attention: str = "additive", look: str = "between", feeding: int = 0, cell: str = "gru", **options: Any
) -> Any:
    size = 8 if attention == "several heads" else M
    step = en.AttentionCell(CELLS[cell], E, H, ATTENTIONS[attention](), size, look=look, feeding=feeding)  # type: ignore[arg-type]
    encoder = en.GRU(E, M // 2, bidirectional=True)
    model = en.AttentionEncoderDecoder(en.Embedding(V, E), encoder, en.Embedding(V, E), step, **options)
    return spread(model).eval()


LENGTHS = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@given(
    lengths=LENGTHS,
    choice=st.sampled_from([*product(ATTENTIONS, LOOKS)]),
    cell=st.sampled_from(["gru", "lstm"]),
)
def test_right_tokens_fed_in_are_steps_one_by_one(lengths: list[int], choice: Any, cell: str) -> None:
    attention, (look, feeding) = choice
    model = network(attention=attention, look=look, feeding=feeding, cell=cell)
    ends = torch.tensor(lengths)
    source, target = tokens(lengths, 5), torch.randint(V, (3, len(lengths)))
    whole = model(source, target, ends)
    state, found, looked = model.encode(source, ends), [], []
    for t in target:
        logits, state = model.step(t, state)
        found.append(logits)
        looked.append(state.weights)
    assert_near(whole, torch.stack(found))
    assert_near(model.align(source, target, ends), torch.stack(looked))
    if attention != "monotonic":
        assert_near(torch.stack(looked).sum(-1), torch.ones(3, len(lengths), dtype=DOUBLE))


@pytest.mark.parametrize("look", ["before", "between", "after"])
def test_each_row_is_what_it_is_alone(look: str) -> None:
    """Values and gradients; what stands behind a row's end, of the source and of the target, reaches nothing."""
    model = network(look=look)
    lengths, T = [4, 2, 3], [3, 1, 2]
    source, target = tokens(lengths, 6), tokens(T, 4)
    logits = model(source, target, torch.tensor(lengths), torch.tensor(T))
    together = sum(logits[: T[b], b].square().sum() for b in range(3))
    gradients = torch.autograd.grad(together, list(model.parameters()))
    alone, rows = 0.0, []
    for b in range(3):
        own = model(source[: lengths[b], b : b + 1], target[: T[b], b : b + 1])
        rows.append(own)
        assert_near(logits[: T[b], b : b + 1], own)
        alone = alone + own.square().sum()
    for one, other in zip(gradients, torch.autograd.grad(alone, list(model.parameters())), strict=True):
        assert_near(one, other, gradient=True)


def test_a_loop_in_python_is_the_same_network() -> None:
    model = network()
    source, target, ends = tokens([4, 2], 4), torch.randint(V, (3, 2)), torch.tensor([4, 2])
    whole = model(source, target, ends)
    model.loop = True
    assert_near(model(source, target, ends), whole)
    assert model.decoder.path == FAST


def test_a_network_is_fed_its_own_tokens_as_often_as_asked() -> None:
    model, T, B = network(), 5, 40
    source, target, ends = tokens([3] * B, 3), torch.randint(V, (T, B)), torch.full((B,), 3)
    right = model.features(source, target, ends)
    assert_near(model.features(source, target, ends, sampling=en.Sampling(0.0)), right)
    state, words, found = model.encode(source, ends), target[0], []
    for _ in range(T):
        logits, state = model.step(words, state)
        words = logits.argmax(-1)
        found.append(logits)
    own = model.head(model.features(source, target, ends, sampling=en.Sampling(1 - 1e-12)))
    assert_near(own, torch.stack(found))
    seen: list[Tensor] = []
    handle = model.target.register_forward_pre_hook(lambda _, given: seen.append(given[0][0]))
    model.features(source, target.fill_(0), ends, sampling=en.Sampling(0.5, drawn=True))
    handle.remove()
    share = float((torch.stack(seen[1:]) != 0).double().mean())
    assert 0.2 < share < 0.6


def test_nothing_is_learnt_through_the_choice_of_a_token() -> None:
    model = network()
    source, target = tokens([3, 2], 3), torch.randint(V, (3, 2))
    last = model.features(source, target, torch.tensor([3, 2]), sampling=en.Sampling(1 - 1e-12))[-1].sum()
    (grad,) = torch.autograd.grad(last, [model.head.bias], allow_unused=True)
    assert grad is None


@pytest.mark.parametrize("attention", ["additive", "several heads", "location"])
def test_a_batch_is_searched_as_each_sentence_alone(attention: str) -> None:
    model = network(attention=attention)
    lengths = [4, 1, 3]
    source, options = (
        tokens(lengths, 4),
        {"end": 0, "beam": 4, "n_best": 3, "max_length": 6, "pick": en.DecoderState.pick},
    )
    first = torch.zeros(3, dtype=torch.int64)
    found = beam_search(model.step, first, model.encode(source, torch.tensor(lengths)), **options)
    for b, n in enumerate(lengths):
        alone = beam_search(model.step, first[:1], model.encode(source[:n, b : b + 1]), **options)[0]
        assert [h.tokens for h in found[b]] == [h.tokens for h in alone]
        for one, other in zip(found[b], alone, strict=True):
            assert one.log_probability == pytest.approx(other.log_probability, abs=1e-9)
    scored = score_targets(
        model.step,
        first,
        model.encode(source, torch.tensor(lengths)),
        [own[0].tokens for own in found],
        end=0,
    )
    for own, score in zip(found, scored, strict=True):
        if own[0].ended:
            assert own[0].log_probability == pytest.approx(score, abs=1e-9)


def test_picked_rows_keep_their_own_memory() -> None:
    model = network()
    source, ends = tokens([4, 2, 3], 4), torch.tensor([4, 2, 3])
    state = model.encode(source, ends)
    rows = torch.tensor([0, 0, 2])  # as many as sentences, and not one of each
    picked = state.pick(rows)
    assert picked.memory.keys.shape[0] == 2
    words = torch.tensor([1, 2, 3])
    whole = model.step(torch.tensor([1, 5, 3]), state).logits
    assert_near(model.step(words, picked).logits[[0, 2]], whole[[0, 2]])
    again = picked.pick(torch.tensor([2, 2]))
    assert again.memory.keys.shape[0] == 1 and again.owners.tolist() == [0, 0]


def test_tables_are_shared_as_asked() -> None:
    model = network(shared=True)
    assert model.source.weight is model.target.weight is model.head.weight
    apart = network(tied=False)
    assert apart.head.weight is not apart.target.weight is not apart.source.weight
    assert network(bridge=False).bridge is None


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothed_cross_entropy_is_that_of_torch(smoothing: float) -> None:
    logits = torch.randn(5, 7, dtype=DOUBLE, requires_grad=True)
    truth, weights = torch.randint(7, (5,)), torch.rand(5, dtype=DOUBLE)
    losses, total = en.smoothed_cross_entropy(logits, truth, smoothing)
    expected = F.cross_entropy(logits, truth, reduction="none", label_smoothing=smoothing)
    assert_same((losses * weights,), (expected * weights,), {"logits": logits})
    assert total == pytest.approx(F.cross_entropy(logits, truth, reduction="sum").item())


def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="'before', 'between', 'after'"):
        make("additive", "never")
    with pytest.raises(ValueError, match="look='after'"):
        make("additive", "between", 3)
    with pytest.raises(ValueError, match="depends on the memory"):
        make("location", "after").initial_state(2)
    step = make("additive", "after")
    with pytest.raises(ValueError, match="one vocabulary"):
        en.AttentionEncoderDecoder(en.Embedding(4, E), en.GRU(E, M), en.Embedding(5, E), step, shared=True)
