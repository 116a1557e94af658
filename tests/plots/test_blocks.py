"""Descriptions: parameter counts equal torch.nn's, and what does not fit together is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from elman import nn
from elman.plots import ModelDrawing, Signal, Stack, State, Weight, blocks
from tests.plots.examples import FRAME, chances, language_model

CELLS = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_counts_of_torch(kind: str, bidirectional: bool, bias: bool, layers: int) -> None:
    theirs = CELLS[kind](7, 5, layers, bias=bias, bidirectional=bidirectional)
    ours = blocks.recurrent_blocks(kind, 7, [5] * layers, bias=bias, bidirectional=bidirectional)
    assert sum(block.parameters for block in ours) == count(theirs)
    assert ours[-1].output_size == (10 if bidirectional else 5)
    shapes = sorted(tuple(parameter.shape) for parameter in theirs.parameters())
    assert sorted(w.shape for block in ours for w in block.weights for _ in range(w.copies)) == shapes


@pytest.mark.parametrize("bidirectional", [False, True])
def test_counts_of_a_projected_lstm(bidirectional: bool) -> None:
    theirs = torch.nn.LSTM(7, 5, 2, proj_size=3, bidirectional=bidirectional)
    ours = blocks.recurrent_blocks("lstm", 7, [5, 5], projection=3, bidirectional=bidirectional)
    assert sum(block.parameters for block in ours) == count(theirs)
    assert ours[0].state_numbers == (3 + 5) * (2 if bidirectional else 1)
    assert ours[1].input_size == (6 if bidirectional else 3)


def test_counts_of_other_layers() -> None:
    assert blocks.embedding(10, 4).parameters == count(torch.nn.Embedding(10, 4))
    assert blocks.layer_norm(6).parameters == count(torch.nn.LayerNorm(6))
    assert blocks.dense(4, 10).parameters == count(torch.nn.Linear(4, 10))
    assert blocks.dense(4, 10, bias=False).parameters == count(torch.nn.Linear(4, 10, bias=False))
    assert blocks.dense(4, 10, tied_to="E").parameters == 10
    assert blocks.dropout(4, 0.5).parameters == 0


def test_widths_merges_and_dropout_between() -> None:
    stack = blocks.recurrent_blocks(
        "gru", 8, [8, 6, 4], bidirectional=True, merge="sum", between=0.1, residual=True
    )
    assert [block.kind for block in stack] == ["recurrent", "dropout", "recurrent", "dropout", "recurrent"]
    assert [block.output_size for block in stack] == [8, 8, 6, 6, 4]
    assert [block.residual for block in stack] == [1, 0, 0, 0, 0]
    assert [block.letter for block in stack if block.states] == ["H_1", "H_2", "H_3"]
    assert stack[0].equations[-1] == "y_t = h_t + h′_t"
    stack = blocks.recurrent_blocks("gru", 8, [8, 8], between=0.1, residual=True)
    assert [block.residual for block in stack] == [1, 0, 2]


@pytest.mark.parametrize(
    ("kind", "options", "equation"),
    [
        (
            "lstm",
            {"peephole": True, "layer_norm": "separate", "learn_initial_state": True},
            "h_t = o ⊙ tanh(LN(c_t))",
        ),
        ("lstm", {"coupled": True, "layer_norm": "sum"}, "c_t = (1 − i) ⊙ c_{t−1} + i ⊙ g"),
        ("lstm", {"proj_size": 3}, "h_t = P (o ⊙ tanh(c_t))"),
        ("gru", {"layer_norm": "separate"}, "r, z = σ(LN(U x_t) + b + LN(W h_{t−1}) + d)"),
        ("rnn", {"layer_norm": "sum", "learn_initial_state": True}, "a_t = LN(U x_t + W s_{t−1}) + b"),
    ],
)
def test_counts_of_the_very_module(kind: str, options: dict[str, Any], equation: str) -> None:
    theirs = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind](7, 5, 2, bidirectional=True, **options)
    shapes = {name: tuple(parameter.shape) for name, parameter in theirs.named_parameters()}
    projection = options.get("proj_size", 0)
    ours = blocks.recurrent_blocks(
        kind, 7, [5, 5], bidirectional=True, projection=projection, parameters=shapes, remarks=["zoneout 0.1"]
    )
    assert sum(block.parameters for block in ours) == count(theirs)
    assert equation in ours[0].equations
    assert ours[0].equations[-1] == "zoneout 0.1"
    names = [weight.name for block in ours for weight in block.weights]
    assert len(set(names)) == len(names)
    with pytest.raises(ValueError, match="no parameter of layer 2"):
        blocks.recurrent_blocks(kind, 7, [5, 5, 5], projection=projection, parameters=shapes)


def test_equations_name_what_is_there() -> None:
    (layer,) = blocks.recurrent_blocks("rnn", 3, [4], activation="relu", bias=False)
    assert layer.equations == ("a_t = U x_t + W s_{t−1}", "s_t = relu(a_t)")
    (layer,) = blocks.recurrent_blocks("gru", 3, [4], bias=False)
    assert not any("b" in line or "d" in line for line in layer.equations)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind 'gruu'; the kinds are rnn, lstm, gru, mgu"):
        blocks.recurrent_blocks("gruu", 3, [4])
    with pytest.raises(ValueError, match="only an lstm has a projection"):
        blocks.recurrent_blocks("gru", 3, [4], projection=2)
    narrow = (*blocks.recurrent_blocks("gru", 40, [4]), blocks.dense(5, 2))
    with pytest.raises(ValueError, match="takes 5 numbers, but GRU before it gives 4"):
        Stack("net", narrow, FRAME, chances(2), 3)
    (layer,) = blocks.recurrent_blocks("gru", 40, [4])
    with pytest.raises(ValueError, match="40 numbers go in and 4 come out"):
        Stack("net", (replace(layer, residual=1),), FRAME, chances(2), 3)
    with pytest.raises(ValueError, match="0 steps"):
        Stack("net", (layer,), FRAME, chances(2), 0)
    tied = Stack("net", (layer, blocks.dense(4, 2, tied_to="F")), FRAME, chances(2), 3)
    with pytest.raises(ValueError, match="V is tied to F, which is no weight"):
        ModelDrawing("net", (tied,), 1)
    stack = language_model().stacks[0]
    with pytest.raises(ValueError, match="got 3 stacks"):
        ModelDrawing("net", (stack, stack, stack), 1)
    with pytest.raises(ValueError, match="'int4' is not one of"):
        ModelDrawing("net", (stack,), 1, dtype="int4")


def test_a_cell_of_ones_own() -> None:
    weights = (Weight("U", (9, 40), "input"), Weight("W", (9, 9), "recurrent"), Weight("τ", (9,), "scale"))
    cell = blocks.Block("my cell", "recurrent", 40, 9, "H", weights, (State("s", 9),), ("s_t = τ ⊙ x_t",))
    drawing = ModelDrawing("mine", (Stack("net", (cell,), FRAME, Signal("s_t", "state", 9, "H"), 12),), 2)
    assert drawing.parameters == 9 * 40 + 81 + 9
    assert drawing.state_numbers == 9
