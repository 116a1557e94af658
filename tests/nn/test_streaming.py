"""One step at a time gives what the whole sequence gives, for every layer that can."""

import pytest
import torch
from torch import nn

import elman
from elman.engine import EngineError
from elman.nn import GRU, LSTM, RNN, GRUCell, LayerNormLSTMCell, Recurrent
from tests.tolerances import assert_near

LAYERS = {
    "rnn": lambda: RNN(5, 7, nonlinearity="relu"),
    "gru": lambda: GRU(5, 7),
    "lstm": lambda: LSTM(5, 7),
    "projected": lambda: LSTM(5, 7, proj_size=3),
    "peephole": lambda: LSTM(5, 7, peephole=True),
    "layer norm": lambda: LSTM(5, 7, layer_norm="separate"),
    "three layers": lambda: GRU(5, 7, num_layers=3, dropout=0.5).eval(),
    "residual": lambda: LSTM(7, 7, num_layers=2, residual=True),
    "zoneout": lambda: LSTM(5, 7, zoneout=0.3).eval(),
    "learned start": lambda: LSTM(5, 7, learn_initial_state=True),
    "batch first": lambda: GRU(5, 7, batch_first=True),
    "cell": lambda: Recurrent(LayerNormLSTMCell(5, 7)),
    "torch's cell": lambda: Recurrent(nn.LSTMCell(5, 7)),
    "stack of cells": lambda: Recurrent(GRUCell, 5, 7, num_layers=2),
    "double": lambda: LSTM(5, 7).double(),
}


def made(name):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    dtype = next(layer.parameters()).dtype
    return layer, torch.randn(6, 3, 7 if name == "residual" else 5, dtype=dtype)


def leaves(state):
    return torch.utils._pytree.tree_leaves(state)


@torch.no_grad()
def whole(layer, x, state=None):
    y, final = layer(x.transpose(0, 1) if layer.batch_first else x, state)
    return (y.transpose(0, 1) if layer.batch_first else y), final


@pytest.mark.parametrize("name", LAYERS)
def test_steps_are_the_sequence(name):
    layer, x = made(name)
    y, final = whole(layer, x)
    stream = layer.stream()
    got = torch.stack([stream(x_t) for x_t in x])
    assert stream.path == layer.path == "native"
    assert torch.equal(got, y)
    for a, b in zip(leaves(stream.state), leaves(final), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", [n for n in LAYERS if n != "torch's cell"])
def test_without_a_batch_axis(name):
    layer, x = made(name)
    layer.batch_first = False  # there is none
    want = whole(layer, x[:, 1])[0]
    stream = layer.stream()
    got = torch.stack([stream(x_t) for x_t in x[:, 1]])
    assert got.shape == want.shape
    assert_near(got, want, what=name)


@pytest.mark.parametrize("name", ["lstm", "stack of cells", "three layers"])
def test_a_given_state_and_the_way_back(name):
    layer, x = made(name)
    _, middle = whole(layer, x[:3])
    y, final = whole(layer, x[3:], middle)
    stream = layer.stream(middle)
    assert torch.equal(torch.stack([stream(x_t) for x_t in x[3:]]), y)
    stream.reset()
    assert torch.equal(stream(x[3]), y[0])
    stream.state = final
    again, _ = whole(layer, x[:1], final)
    assert torch.equal(stream(x[0]), again[0])


def test_the_state_and_the_outputs_are_copies():
    layer, x = made("lstm")
    stream, twin = layer.stream(), layer.stream()
    first = stream(x[0])
    kept, state = first.clone(), stream.state
    state[0].fill_(99)
    first.fill_(99)
    twin(x[0])
    assert torch.equal(stream(x[1]), twin(x[1]))
    assert not torch.equal(kept, first)


class Many(nn.Module):
    """Two inputs, a context, a dict for an output."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 6)

    def forward(self, x, h, context):
        left, right = x
        h = torch.tanh(self.a(left) + self.b(h) * right + context)
        return {"h": h, "twice": 2 * h}, h

    def initial_state(self, batch, device, dtype):
        return torch.zeros(batch, 6, device=device, dtype=dtype)


def test_a_cell_of_several_inputs_with_a_context():
    torch.manual_seed(0)
    layer = Recurrent(Many())
    left, right, context = torch.randn(5, 3, 4), torch.randn(5, 3, 6), torch.randn(3, 6)
    with torch.no_grad():
        y, _ = layer((left, right), context=context)
    stream = layer.stream(context=context)
    for t in range(5):
        got = stream((left[t], right[t]))
        assert torch.equal(got["h"], y["h"][t])
        assert torch.equal(got["twice"], y["twice"][t])
    assert stream.path == "native"


class Branch(nn.Module):
    hidden_size = 4

    def forward(self, x, h):
        return h + x if bool(h.detach().sum() < 1) else h - x


def test_a_step_outside_the_rules_streams_on_the_loop():
    layer = Recurrent(Branch(), fallback="warn")
    x = torch.rand(6, 2, 4)
    with pytest.warns(elman.engine.EngineWarning):
        y, _ = layer(x)
    stream = layer.stream()
    got = torch.stack([stream(x_t) for x_t in x])
    assert stream.path == "loop"
    assert_near(got, y, what="a branch")


def test_rows_that_are_not_contiguous():
    layer, x = made("lstm")
    y, _ = whole(layer, x)
    stream = layer.stream()
    wide = torch.randn(6, 3, 10)
    wide[..., ::2] = x
    assert torch.equal(torch.stack([stream(x_t) for x_t in wide[..., ::2]]), y)


def test_what_a_stream_refuses():
    layer, x = made("lstm")
    with pytest.raises(ValueError, match="needs the whole sequence"):
        LSTM(5, 7, bidirectional=True).stream()
    with pytest.raises(ValueError, match="needs the whole sequence"):
        Recurrent(GRUCell(5, 7), reverse=True).stream()
    with pytest.raises(ValueError, match=r"call eval\(\)"):
        LSTM(5, 7, recurrent_dropout=0.5).stream()
    with pytest.raises(RuntimeError, match="input_size"):
        layer.stream()(x[0, :, :4])
    stream = layer.stream()
    stream(x[0])
    with pytest.raises(EngineError, match=r"expected torch\.float32 \(3, 5\)"):
        stream(x[0, :2])
    with pytest.raises(EngineError, match="float64"):
        stream(x[0].double())
    with pytest.raises(RuntimeError, match="expected shape"):
        stream.state = (torch.zeros(1, 2, 7), torch.zeros(1, 2, 7))
    with pytest.raises(TypeError, match="expected tensors"):
        layer.stream()([1.0, 2.0])
