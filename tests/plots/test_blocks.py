"""Descriptions: what does not fit together is refused, and a network may be described by hand."""

from dataclasses import replace

import pytest
import torch

from elman.nn import GRU
from elman.plots import ModelDrawing, Signal, Stack, State, Weight, blocks
from elman.plots.modules import blocks_of
from tests.plots.examples import FRAME, chances, language_model


def test_what_does_not_fit_is_refused() -> None:
    layers = blocks_of([GRU(40, 4)])
    with pytest.raises(ValueError, match="takes 5 numbers, but GRU before it gives 4"):
        Stack("net", (*layers, blocks.dense(5, 2)), FRAME, chances(2), 3)
    with pytest.raises(ValueError, match="40 numbers go in and 4 come out"):
        Stack("net", (replace(layers[0], residual=1),), FRAME, chances(2), 3)
    with pytest.raises(ValueError, match="0 steps"):
        Stack("net", layers, FRAME, chances(2), 0)
    tied = Stack("net", (*layers, blocks.dense(4, 2, tied_to="F")), FRAME, chances(2), 3)
    with pytest.raises(ValueError, match="V is tied to F, which is no weight"):
        ModelDrawing("net", (tied,), 1)
    stack = language_model().stacks[0]
    with pytest.raises(ValueError, match="got 3 stacks"):
        ModelDrawing("net", (stack, stack, stack), 1)
    with pytest.raises(ValueError, match="'int4' is not one of"):
        ModelDrawing("net", (stack,), 1, dtype="int4")


def test_a_network_described_by_hand() -> None:
    weights = (Weight("U", (9, 40), "input"), Weight("W", (9, 9), "recurrent"), Weight("τ", (9,), "scale"))
    cell = blocks.Block("my cell", "recurrent", 40, 9, "H", weights, (State("s", 9),), ("s_t = τ ⊙ x_t",))
    drawing = ModelDrawing("mine", (Stack("net", (cell,), FRAME, Signal("s_t", "state", 9, "H"), 12),), 2)
    assert drawing.parameters == 9 * 40 + 81 + 9
    assert drawing.state_numbers == 9


def test_a_dropout_says_how_its_masks_are_drawn() -> None:
    assert blocks.dropout(4, 0.5, note="one mask a sequence").equations[0].endswith("one mask a sequence")
    assert torch.nn.Dropout(0.5).p == 0.5
