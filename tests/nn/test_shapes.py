"""The shapes of a recurrent network: what each computes, and that each learns its example in seconds."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import elman.nn as en
from elman.decoding import sample
from nn.by_hand import assert_same
from nn.networks import CELLS, DOUBLE, H, I, K, V, spread, stack, tokens
from tolerances import assert_near

SOURCE, TARGET = [4, 1, 6, 0], [2, 5, 0, 3]


def encoder_decoder(cell: str, *, both: bool = False, bridge: Any = "dense", other: str = "") -> Any:
    encoder = stack(cell, layers=2, **({"bidirectional": True} if both else {}))
    decoder = en.Tagger(en.Embedding(V, I), stack(other or cell, hidden=H + (bridge != "copy"), layers=2), K)
    return spread(en.EncoderDecoder(en.Embedding(V, I), encoder, decoder, bridge=bridge))


@pytest.mark.parametrize(
    ("cell", "both", "other"),
    [("lstm", True, "gru"), ("own", False, "lstm"), ("gru", True, "own"), ("rnn", False, "rnn")],
)
def test_an_encoder_and_a_decoder_read_each_row_alone(cell: str, both: bool, other: str) -> None:
    model = encoder_decoder(cell, both=both, other=other)
    source, target = tokens(SOURCE, 7), tokens(TARGET, 6, wrong=0)
    logits, _ = model(source, target, torch.tensor(SOURCE), torch.tensor(TARGET))
    ours, alone = [], []
    for b, (s, t) in enumerate(zip(SOURCE, TARGET, strict=True)):
        if t:
            ours.append(logits[:t, b])
            row = source[: max(s, 1), b : b + 1]
            state = model.encode(row, torch.tensor([s]))
            alone.append(model.decoder(target[:t, b : b + 1], state).logits[:, 0])
    assert_same(torch.cat(ours), torch.cat(alone), dict(model.named_parameters()))


@pytest.mark.parametrize("cell", CELLS)
def test_the_bridge_is_a_dense_layer_of_all_numbers_of_the_state(cell: str) -> None:
    """By hand where the structure is known: the numbers of each row, layer by layer, then tanh(W h + b)."""
    model = encoder_decoder(cell)
    source = tokens([5, 5, 5], 5)
    final = model.encoder(model.source(source)).state
    leaves = torch.utils._pytree.tree_leaves(final)
    first = leaves[0].shape[0] != 3
    rows = torch.cat([(leaf.movedim(1, 0) if first else leaf).reshape(3, -1) for leaf in leaves], 1)
    expected = torch.tanh(rows @ model.bridge.dense.weight.T + model.bridge.dense.bias)
    start = torch.utils._pytree.tree_leaves(model.encode(source))
    ours = torch.cat([(leaf.movedim(1, 0) if first else leaf).reshape(3, -1) for leaf in start], 1)
    assert_same(ours, expected, dict(model.named_parameters()))


def test_a_copied_state_is_the_state() -> None:
    model = encoder_decoder("lstm", bridge="copy")
    source = tokens([3, 5], 5)
    lengths = torch.tensor([3, 5])
    final = model.encoder(model.source(source, lengths), lengths=lengths).state
    assert_same(model.encode(source, lengths), final, dict(model.encoder.named_parameters()))


class Mixed(NamedTuple):
    """A state with a matrix, a vector and a number that is no floating point."""

    matrix: Tensor
    count: Tensor
    vector: Tensor


class MixedCell(nn.Module):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.mix = nn.Linear(input_size + hidden_size, hidden_size)

    def initial_state(self, batch: int, device: Any = None, dtype: Any = None) -> Mixed:
        zeros = torch.zeros(batch, self.hidden_size, device=device, dtype=dtype)
        return Mixed(zeros.unsqueeze(-1).expand(-1, -1, 2), torch.full((batch,), 7), zeros)

    def forward(self, x: Tensor, state: Mixed) -> tuple[Tensor, Mixed]:
        h = torch.tanh(self.mix(torch.cat((x, state.vector), -1)))
        matrix = state.matrix * 0.5 + h.unsqueeze(-1)
        return h + matrix.sum(-1), Mixed(matrix, state.count + 1, h)


def test_a_bridge_fits_a_state_of_any_structure() -> None:
    layers = en.Recurrent(MixedCell, I, H, bidirectional=True, num_layers=2)
    bridge = en.Bridge(3, layers).to(DOUBLE)
    layers.to(DOUBLE)
    assert bridge.rows.size == 4 * (3 * H)
    start = layers.start(5, dtype=DOUBLE)
    vector = torch.randn(5, 3, dtype=DOUBLE)
    state = bridge(vector, start)
    assert [type(s) for s in state] == [Mixed] * 4
    assert all((s.count == 7).all() and s.matrix.shape == (5, H, 2) for s in state)
    assert_near(bridge.rows.flat(state), torch.tanh(bridge.dense(vector)).detach())
    layers(torch.randn(4, 5, I, dtype=DOUBLE), state).y.sum().backward()
    assert (bridge.dense.weight.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize("cell", ["lstm", "own"])
def test_what_is_fed_in_step_by_step_is_what_was_trained(cell: str) -> None:
    model = spread(en.SequenceGenerator(en.Embedding(V, I), stack(cell, layers=2), V, features=3))
    vector, x = torch.randn(2, 3, dtype=DOUBLE), tokens([6, 6], 6)
    logits = model(x, vector=vector).logits.detach()
    state = model.start(vector)
    for t in range(6):
        stepped, state = model.step(x[t], state)
        assert_near(stepped, logits[t])
    drawn = list(sample(model.step, x[0], model.start(vector), length=5, temperature=0))
    again = model(torch.stack([x[0], *drawn[:-1]]), vector=vector).logits.argmax(-1)
    assert torch.equal(torch.stack(drawn), again), "fed with its own output"


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a generator of two directions": (
        lambda: en.SequenceGenerator(en.Embedding(V, I), stack("gru", bidirectional=True), V),
        "one direction",
    ),
    "a decoder of two directions": (
        lambda: en.EncoderDecoder(
            en.Embedding(V, I),
            stack("gru"),
            en.Tagger(en.Embedding(V, I), stack("gru", bidirectional=True), V),
        ),
        "one direction",
    ),
    "a copy between two structures": (
        lambda: encoder_decoder("lstm", bridge="copy", other="gru"),
        r"equal shapes; .* take bridge='dense'",
    ),
    "another bridge": (lambda: encoder_decoder("gru", bridge="wide"), "'dense' or 'copy'"),
    "a vector of another size": (
        lambda: en.SequenceGenerator(en.Embedding(V, I), stack("gru"), V, features=3).start(
            torch.randn(2, 4)
        ),
        r"\(2, 4\); expected \(B, F\) with F = 3",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence(case: str) -> None:
    make, sentence = REFUSED[case]
    with pytest.raises(ValueError, match=sentence):
        make()


# Each shape learns its example; docs/shapes.md names these tests.


def train(model: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float = 0.02) -> None:
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def test_one_to_one_learns_what_no_line_divides() -> None:
    """Whether the signs of two numbers agree."""
    model = en.SequenceClassifier(en.Features(2), en.RNN(2, 16), 2)

    def drawn() -> tuple[Tensor, Tensor]:
        x = torch.randn(1, 64, 2)
        return x, (x[0].prod(-1) > 0).long()

    def loss() -> Tensor:
        x, y = drawn()
        return F.cross_entropy(model(x), y)

    train(model, loss, 300)
    x, y = drawn()
    assert (model(x).argmax(-1) == y).double().mean() > 0.9


def test_one_to_many_learns_to_spell_from_a_vector() -> None:
    """A scale up or down from a note, told by a vector of two numbers."""
    V, T = 9, 6
    model = en.SequenceGenerator(en.Embedding(V, 8), en.GRU(8, 24), V, features=2)
    start = torch.tensor([0, 2, 8, 6])
    way = torch.tensor([1, 1, -1, -1])
    notes = start + way * torch.arange(T + 1).unsqueeze(1).clamp(max=6)
    vector = torch.stack((way, start / 8), 1).float()

    def loss() -> Tensor:
        logits = model(notes[:-1].clamp(0, V - 1), vector=vector).logits
        return F.cross_entropy(logits.flatten(0, 1), notes[1:].clamp(0, V - 1).flatten())

    train(model, loss, 150)
    drawn = torch.stack(list(sample(model.step, notes[0], model.start(vector), length=T, temperature=0)))
    assert torch.equal(drawn, notes[1:].clamp(0, V - 1))


def test_many_to_one_learns_which_of_two_symbols_came_first() -> None:
    model = en.SequenceClassifier(
        en.Embedding(4, 8), en.LSTM(8, 16, bidirectional=True), 2, pooling="last+max"
    )

    def drawn() -> tuple[Tensor, Tensor, Tensor]:
        x, lengths = torch.randint(2, 4, (12, 32)), torch.randint(4, 13, (32,))
        for b in range(32):
            places = torch.randperm(int(lengths[b]))[:2]
            x[places, b] = torch.tensor([0, 1])
        return x, lengths, (x == 1).float().argmax(0).lt((x == 0).float().argmax(0)).long()

    def loss() -> Tensor:
        x, lengths, y = drawn()
        return F.cross_entropy(model(x, lengths), y)

    train(model, loss, 120)
    x, lengths, y = drawn()
    assert (model(x, lengths).argmax(-1) == y).double().mean() > 0.9


def test_many_to_many_learns_what_stands_on_both_sides() -> None:
    """Whether a step's symbol occurs before it and behind it: no single direction knows."""
    model = en.Tagger(en.Embedding(3, 8), en.GRU(8, 24, bidirectional=True), 2)
    lengths = torch.randint(3, 9, (64,))

    def drawn() -> tuple[Tensor, Tensor, Tensor]:
        x = torch.randint(3, (8, 64))
        valid = torch.arange(8).unsqueeze(1) < lengths
        same = (x.unsqueeze(0) == x.unsqueeze(1)) & valid.unsqueeze(0)
        order = torch.arange(8)
        before = (same & (order.view(1, -1, 1) < order.view(-1, 1, 1))).any(1)
        behind = (same & (order.view(1, -1, 1) > order.view(-1, 1, 1))).any(1)
        return x, (before & behind).long(), valid

    def loss() -> Tensor:
        x, y, valid = drawn()
        return F.cross_entropy(model(x, lengths=lengths).logits[valid], y[valid])

    train(model, loss, 150)
    x, y, valid = drawn()
    assert (model(x, lengths=lengths).logits.argmax(-1) == y)[valid].double().mean() > 0.9


def test_an_encoder_and_a_decoder_learn_to_turn_a_string_round() -> None:
    V, T, START = 5, 4, 5
    decoder = en.Tagger(en.Embedding(V + 1, 12), en.GRU(12, 48), V)
    model = en.EncoderDecoder(en.Embedding(V, 12), en.GRU(12, 32, bidirectional=True), decoder)

    def loss() -> Tensor:
        x = torch.randint(V, (T, 64))
        y = x.flip(0)
        fed = torch.cat((torch.full((1, 64), START), y[:-1]))
        return F.cross_entropy(model(x, fed).logits.flatten(0, 1), y.flatten())

    train(model, loss, 250, rate=0.01)
    x = torch.randint(V, (T, 40))
    drawn = list(sample(model.step, torch.full((40,), START), model.encode(x), length=T, temperature=0))
    assert (torch.stack(drawn) == x.flip(0)).double().mean() > 0.9
