"""torch's counter of floating-point operations sees what a call does: as many as in the plain loop."""

import copy
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from elman.nn import GRU, LSTM, RNN, GRUCell, LSTMCell, Recurrent

GATES = {RNN: 1, GRU: 3, LSTM: 4}


def counted(call):
    with FlopCounterMode(display=False) as counter:
        result = call()
    return counter.get_total_flops(), result


def counts(layer, x, **arguments):
    """Of the forward, and of the backward."""
    forward, result = counted(lambda: layer(x, **arguments))
    return forward, counted(lambda: result[0].sum().backward())[0]


@given(
    kind=some.sampled_from([RNN, GRU, LSTM]),
    sizes=some.tuples(*[some.integers(1, 9)] * 4),
    layers=some.integers(1, 2),
    bidirectional=some.booleans(),
    wants_dx=some.booleans(),
    warm=some.integers(0, 2),
)
def test_a_closed_form(kind, sizes, layers, bidirectional, wants_dx, warm):
    """2 T B G H (I + H) forward; in the backward as much for the weights, and for x and h where they have gradients."""
    T, B, I, H = sizes
    layer, x = kind(I, H, layers, bidirectional=bidirectional), torch.randn(T, B, I, requires_grad=wants_dx)
    for _ in range(warm):
        layer(x)
    D, one = 1 + bidirectional, 2 * T * B * GATES[kind] * H
    inputs = [I, *[D * H] * (layers - 1)]
    forward = sum(D * one * (n + H) for n in inputs)
    back = forward + sum(D * one * (H + n * (wants_dx or k > 0)) for k, n in enumerate(inputs))
    assert counts(layer, x) == (forward, back)
    assert layer.path == "native"


class Attention(nn.Module):
    """Products within a row."""

    hidden_size = 6

    def __init__(self):
        super().__init__()
        self.inward, self.around = nn.Linear(4, 6), nn.Linear(6, 6, bias=False)

    def forward(self, x, h):
        scores = torch.bmm(h.view(-1, 2, 3), h.view(-1, 3, 2)).softmax(-1)
        mixed = torch.bmm(scores, h.view(-1, 2, 3))
        h = torch.tanh(self.inward(x) + self.around(mixed.reshape(-1, 6)))
        return h, h


CELLS = {
    "gru": lambda: GRUCell(4, 6),
    "lstm": lambda: LSTMCell(4, 6),
    "torch's": lambda: nn.GRUCell(4, 6),
    "attention": Attention,
}
CALLS = {
    "plain": {},
    "lengths": {"lengths": torch.tensor([5, 2, 0])},
    "reset": {"reset": torch.rand(7, 3) < 0.3},
    "states": {"return_states": True},
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("backend", [None, "reference"])
def test_as_the_plain_loop(cell, call, backend):
    layer = Recurrent(CELLS[cell](), backend=backend)
    loop = copy.deepcopy(layer)
    loop.backend = "loop"
    x = torch.randn(7, 3, 4, requires_grad=True)
    state = (torch.randn(3, 6, requires_grad=True),) * (2 if cell == "lstm" else 1)
    arguments = {"state": state if cell == "lstm" else state[0], **CALLS[call]}
    assert counts(layer, x, **arguments) == counts(loop, x, **arguments)
    assert layer.path in ("native", "reference")


class Sliding(nn.Module):
    """A convolution within a row."""

    hidden_size = 6

    def __init__(self):
        super().__init__()
        self.inward, self.slide = nn.Linear(4, 6), nn.Conv1d(2, 2, 3, padding=1)

    def forward(self, x, h):
        h = torch.tanh(self.inward(x) + self.slide(h.view(-1, 2, 3)).reshape(-1, 6))
        return h, h


def test_a_convolution():
    layer, x = Recurrent(Sliding()), torch.randn(7, 3, 4)
    one = 2 * 7 * 3 * 2 * 2 * 3 * 3  # for each of 2 x 3 outputs, 2 x 3 products
    forward, back = counts(layer, x)
    assert layer.path in ("native", "reference")
    assert forward == 2 * 7 * 3 * 4 * 6 + one
    # The gradient of the state is made in the loop, that of the kernel after it, each with its own call.
    assert back >= 2 * 7 * 3 * 4 * 6 + 2 * one


def test_what_is_computed_again_counts_again():
    layer, x = GRU(4, 6, checkpoint_every=3), torch.randn(7, 3, 4)
    forward, back = counts(layer, x)
    once = counts(GRU(4, 6), x)
    assert (forward, back) == (once[0], once[1] + once[0])


def test_steps_of_a_stream_count():
    layer = LSTM(4, 6)
    stream, x = layer.stream(), torch.randn(5, 2, 4)
    stream(x[0])
    flops, _ = counted(lambda: [stream(x_t) for x_t in x[1:]])
    assert stream.path == "native"
    assert flops == 4 * 2 * 2 * 4 * 6 * (4 + 6)


def test_an_exported_program_counts():
    layer, x = GRU(4, 6).eval(), torch.randn(5, 2, 4)
    program = io.BytesIO()
    torch.export.save(torch.export.export(layer, (x,)), program)
    program.seek(0)
    again = torch.export.load(program).module()
    assert counted(lambda: again(x))[0] == counted(lambda: layer(x))[0] == 2 * 5 * 2 * 3 * 6 * (4 + 6)


def test_results_and_later_calls_are_the_same():
    layer, x = LSTM(4, 6), torch.randn(5, 2, 4)
    _, (y, _) = counted(lambda: layer(x))
    assert torch.equal(y, layer(x)[0])
    assert layer.path == "native"
