"""Layers and stacks with every option, frozen: the numbers of `layer(x)`, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import elman
from elman import nn as en
from elman.frozen import frozen_bytes
from elman.runtime import Frozen, load
from tests.frozen.running import B, T, assert_runs_alike, assert_same, drawn, spread

LAYERS = {
    "rnn": lambda: en.RNN(5, 7, nonlinearity="relu"),
    "gru": lambda: en.GRU(5, 7),
    "lstm": lambda: en.LSTM(5, 7),
    "lstm without bias": lambda: en.LSTM(5, 7, bias=False),
    "projected": lambda: en.LSTM(5, 7, proj_size=3, num_layers=2),
    "peephole": lambda: en.LSTM(5, 7, peephole=True),
    "coupled": lambda: en.LSTM(5, 7, coupled=True),
    "layer norm": lambda: en.LSTM(5, 7, layer_norm="separate", num_layers=2),
    "layer norm of the sum": lambda: en.LSTM(5, 7, layer_norm="sum"),
    "three layers": lambda: en.GRU(5, 7, num_layers=3, dropout=0.5),
    "widths": lambda: en.LSTM(5, [7, 4, 6]),
    "residual": lambda: en.LSTM(5, 7, num_layers=3, residual=True),
    "residual from the first": lambda: en.GRU(5, 5, num_layers=2, residual=True),
    "two directions": lambda: en.LSTM(5, 7, bidirectional=True),
    "two directions, three layers": lambda: en.GRU(5, 7, num_layers=3, bidirectional=True),
    "sum of directions": lambda: en.LSTM(5, 5, num_layers=2, bidirectional=True, merge="sum", residual=True),
    "mean of directions": lambda: en.RNN(5, 7, bidirectional=True, merge="mean"),
    "product of directions": lambda: en.RNN(5, 7, bidirectional=True, merge="product"),
    "two directions, projected": lambda: en.LSTM(
        5, 7, 2, bidirectional=True, proj_size=3, layer_norm="separate"
    ),
    "zoneout": lambda: en.LSTM(5, 7, zoneout=0.3),
    "recurrent dropout": lambda: en.LSTM(5, 7, recurrent_dropout=0.3, weight_dropout=0.2),
    "learned start": lambda: en.LSTM(5, 7, num_layers=2, learn_initial_state=True),
    "batch first": lambda: en.GRU(5, 7, batch_first=True, bidirectional=True),
    "cell": lambda: en.Recurrent(en.LayerNormLSTMCell(5, 7)),
    "torch's cell": lambda: en.Recurrent(nn.LSTMCell(5, 7)),
    "stack of cells": lambda: en.Recurrent(en.MinimalGatedCell, 5, 7, num_layers=2, bidirectional=True),
    "stack from the end": lambda: en.Recurrent(en.GRUCell, 5, 7, num_layers=2, reverse=True),
    "stack from both ends": lambda: en.Recurrent(
        en.GRUCell, 5, 7, num_layers=2, reverse=True, bidirectional=True
    ),
    "output layer": lambda: en.Recurrent(en.ElmanCell(5, 7, output_size=3, output_nonlinearity="sigmoid")),
    "wide": lambda: en.LSTM(33, 65, num_layers=2),
    "double": lambda: en.LSTM(5, 7, num_layers=2, bidirectional=True).double(),
}


def made(name: str):
    torch.manual_seed(0)
    layer = spread(LAYERS[name]())
    return layer, drawn(T, B, layer.input_size, dtype=next(layer.parameters()).dtype)


FAST = (
    "lstm",
    "projected",
    "layer norm",
    "residual",
    "sum of directions",
    "learned start",
    "batch first",
    "double",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in LAYERS]
)
def test_a_layer_leaves_as_it_is(name):
    assert_runs_alike(*made(name))


@pytest.mark.parametrize("name", ["lstm", "layer norm"])
def test_rows_and_threads_change_nothing(name):
    layer, _ = made(name)
    x = drawn(9, 17, 5).numpy()
    frozen = Frozen(frozen_bytes(layer))
    y, state = frozen.run(x)
    for threads in (2, 3):
        again = frozen.run(x, threads=threads)
        assert_same([again.y, *again.state], [y, *state], f"{threads} threads")
    for b in (0, 5, 16):
        alone = frozen.run(x[:, b : b + 1])
        assert_same([alone.y[:, 0]], [y[:, b]], f"row {b} alone")


def test_the_file_is_the_same_each_time_and_holds_equal_tensors_once(tmp_path):
    layer, x = made("two directions")
    path = elman.export(layer, tmp_path / "a.elman")
    assert path.read_bytes() == frozen_bytes(layer)
    assert_same([load(path).run(x.numpy()).y], [layer(x)[0].detach().numpy()], "y")
    tied = en.Recurrent(nn.ModuleList([nn.GRUCell(6, 6)])[0])
    twice = en.Recurrent(lambda i, h, cell=tied.cell: cell, 6, 6, num_layers=2)
    assert len(frozen_bytes(twice)) < 1.7 * len(frozen_bytes(tied))


def test_the_file_is_safetensors():
    from safetensors import deserialize
    from safetensors.numpy import load as load_tensors

    data = frozen_bytes(made("lstm")[0])
    assert deserialize(data)
    assert all(np.isfinite(v).all() for v in load_tensors(data).values())


def test_the_mode_and_the_weights_of_the_moment():
    layer, x = made("recurrent dropout")
    layer.train()
    first = Frozen(frozen_bytes(layer))
    assert layer.training
    with torch.no_grad():
        y = layer.eval()(x)[0].numpy()
        assert_same([first.run(x.numpy()).y], [y], "in evaluation mode")
        for p in layer.parameters():
            p.mul_(2)
        second = Frozen(frozen_bytes(layer))
        assert_same([first.run(x.numpy()).y], [y], "the first one")
        assert_same([second.run(x.numpy()).y], [layer(x)[0].numpy()], "the second one")


def test_what_is_told_of_a_model():
    layer, _ = made("two directions, projected")
    frozen = Frozen(frozen_bytes(layer, texts={"note": 'quotes " and \u00fc \U0001f600'}))
    assert [a.shape for a in frozen.inputs] == [(5,)]
    assert [a.shape for a in frozen.outputs] == [(6,)]
    assert [(a.name, a.shape) for a in frozen.states][:3] == [
        ("layer.l0.h", (3,)), ("layer.l0.c", (7,)), ("layer.l0_reverse.h", (3,)),
    ]  # fmt: skip
    assert frozen.text("task") == "layer"
    assert frozen.text("made by") == f"elman {elman.__version__}"
    assert frozen.text("note") == 'quotes " and \u00fc \U0001f600'
    assert frozen.text("nothing") is None


def test_resets():
    layer, x = made("learned start")
    frozen = Frozen(frozen_bytes(layer))
    stream = frozen.stream(B)
    x = x.numpy()
    first = stream(x[0])
    second = stream(x[1])
    stream.reset([True, False, True])
    got = stream(x[0])
    assert_same([got[[0, 2]]], [first[[0, 2]]], "the rows that were reset")
    assert not np.array_equal(got[1], first[1])
    stream.reset()
    assert_same([stream(x[0]), stream(x[1])], [first, second], "all rows")


def test_what_cannot_be_frozen_is_refused():
    with pytest.raises(TypeError, match="Linear cannot be frozen"):
        frozen_bytes(nn.Linear(3, 3))

    class Branching(nn.Module):
        hidden_size = 4

        def forward(self, x, h):
            return h + 1 if float(x.sum()) > 0 else h

    with pytest.raises(ValueError, match="give example="):
        frozen_bytes(en.Recurrent(Branching()))
    with pytest.raises(elman.engine.EngineError, match="branch on data"):
        frozen_bytes(en.Recurrent(Branching(), fallback="error"), example=torch.randn(2, 3, 4))
    with pytest.raises(ValueError, match=r"inputs of torch.bfloat16 cannot be frozen"):
        frozen_bytes(en.LSTM(3, 4).bfloat16())


def test_what_does_not_fit_is_refused():
    layer, x = made("lstm")
    frozen = Frozen(frozen_bytes(layer))
    x = x.numpy()
    for call, said in (
        (lambda: frozen.run(x[..., :3]), r"x has the shape \(6, 3, 3\); expected \(6, 3, 5\)"),
        (lambda: frozen.run(), "0 inputs are given; expected 1"),
        (lambda: frozen.run(x, lengths=[1, 2]), "lengths has the shape"),
        (lambda: frozen.run(x, lengths=[1, 2, 7]), r"row 2 has the length 7, expected 0\.\.6"),
        (lambda: frozen.run(x.astype(complex)), "x is complex128; expected float32"),
        (lambda: frozen.run(x[:0]), "steps = 0"),
        (lambda: frozen.run(x, threads=-1), "threads = -1"),
        (lambda: frozen.stream(0), "batch = 0"),
        (lambda: frozen.stream(3).step_rows([1, 1], x[0, :2]), "row 1 is given twice"),
        (lambda: frozen.stream(3).step_rows([3], x[0, :1]), "row 3 is none of 3"),
        (lambda: frozen.stream(3).row(3), "row 3 of 3 is asked for"),
        (lambda: load("/no/such/file"), "cannot be read: No such file"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
