"""A layer that is dropped leaves nothing alive, and one that lives keeps nothing of its calls."""

import copy
import gc
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from elman.engine import EngineWarning
from elman.nn import GRU, LSTM, RNN, GRUCell, LayerNormLSTMCell, Recurrent

T, B, I, H = 6, 3, 4, 5


class Blend(nn.Module):
    """A cell of the user's own, with parts and a tied weight."""

    def __init__(self, input_size=I, hidden_size=H):
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.inward, self.around = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.tied = self.around.weight

    def forward(self, x, h):
        h = 0.9 * h + torch.tanh(self.inward(x) + self.around(h) + h @ self.tied)
        return h, h


class Branching(Blend):
    """One for the plain loop."""

    def forward(self, x, h):
        return super().forward(x, h if h.sum() < 1e9 else 0 * h)


class Recording(Blend):
    """Changes an attribute of its own."""

    def forward(self, x, h):
        self.last = h.detach()
        return super().forward(x, h)


LAYERS = {
    "rnn": lambda: RNN(I, H),
    "gru": lambda: GRU(I, H),
    "lstm": lambda: LSTM(I, H),
    "both directions": lambda: LSTM(I, H, num_layers=2, bidirectional=True),
    "projected": lambda: LSTM(I, H, proj_size=2),
    "checkpointed": lambda: GRU(I, H, checkpoint_every=2),
    "drops": lambda: LSTM(I, H, layer_norm="separate", recurrent_dropout=0.2, weight_dropout=0.1),
    "learned start": lambda: GRU(I, H, learn_initial_state=True, zoneout=0.1),
    "cell": lambda: Recurrent(Blend()),
    "cells": lambda: Recurrent(Blend, I, [H, H], residual=True, bidirectional=True, merge="sum"),
    "our cell": lambda: Recurrent(LayerNormLSTMCell(I, H)),
    "torch's cell": lambda: Recurrent(nn.GRUCell(I, H)),
    "the reference": lambda: Recurrent(GRUCell(I, H), backend="reference"),
    "the loop": lambda: Recurrent(Branching()),
    "its own record": lambda: Recurrent(Recording(), checkpoint_every=4),
}


def backward(result):
    result[0].sum().backward()


def stream(layer, x):
    if layer.eval().num_directions == 1:
        steps = layer.stream()
        for x_t in x:
            steps(x_t)
        steps.reset()


def double_backward(layer, x):
    grads = torch.autograd.grad(layer.eval()(x)[0].sum(), list(layer.parameters()), create_graph=True)
    sum(g.square().sum() for g in grads).backward()


def interrupted(layer, x):
    with pytest.raises((RuntimeError, ValueError)):
        layer(torch.randn(T, B, I + 1))


def saved_elsewhere(layer, x):
    with saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
        backward(layer(x))


CALLS = {
    "forward and back": lambda layer, x: backward(layer(x)),
    "forward alone": lambda layer, x: layer(x),
    "no gradients": lambda layer, x: torch.no_grad()(layer)(x),
    "inference mode": lambda layer, x: torch.inference_mode()(layer)(x),
    "the second call": lambda layer, x: [backward(layer(x)) for _ in range(2)],
    "lengths": lambda layer, x: backward(layer(x, lengths=torch.tensor([T, 2, 0]))),
    "resets": lambda layer, x: backward(layer(x, reset=torch.rand(T, B) < 0.3)),
    "all states": lambda layer, x: backward(layer(x, return_states=True)),
    "stream": stream,
    "double backward": double_backward,
    "a copy": lambda layer, x: backward(copy.deepcopy(layer)(x)),
    "explained": lambda layer, x: str((layer(x), layer.explain())),
    "an error": interrupted,
    "hooks on saved tensors": saved_elsewhere,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.filterwarnings("ignore::elman.engine.EngineWarning")
def test_a_dropped_layer_leaves_no_parameter(call):
    for name, make in LAYERS.items():
        layer = make()
        parameters = [weakref.ref(p) for p in layer.parameters()]
        CALLS[call](layer, torch.randn(T, B, I))
        del layer
        gc.collect()
        assert not [p for p in parameters if p() is not None], name


def test_two_hundred_layers():
    assert len(LAYERS) * len(CALLS) >= 200


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_keeps_nothing_of_its_calls(name):
    """Neither inputs nor results, of the first call or of a later one, on whatever path."""
    layer, kept = LAYERS[name](), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EngineWarning)
        for lengths in (None, None, torch.tensor([T, 2, 1])):
            x = torch.randn(T, B, I, requires_grad=True)
            y = layer(x, lengths=lengths)[0]
            y.sum().backward()
            kept += [weakref.ref(x), weakref.ref(y), weakref.ref(x.grad)]
    del x, y
    layer.zero_grad()
    gc.collect()
    assert not [ref for ref in kept if ref() is not None]
