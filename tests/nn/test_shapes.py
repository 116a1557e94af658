"""The shapes of a recurrent network: what each computes, and that each learns its example in seconds."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import elman.nn as en
from elman.decoding import sample
from examples import shapes
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


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_each_shape_learns_its_example(name: str) -> None:
    """What docs/shapes.md says that a command does in seconds."""
    right, _ = shapes.SHAPES[name]()
    assert right > 0.9
