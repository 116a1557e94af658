"""The shapes of a network as they are drawn: which step gives what, and what starts what."""

from typing import Any

import pytest
import torch

from elman import nn
from elman.plots import ModelDrawing, Signal, Stack
from elman.plots.basic import basic
from elman.plots.canvas import Label, Line
from elman.plots.modules import blocks_of
from elman.plots.quantities import full_shape
from elman.plots.unfolded import unfolded

WORD, CLASS = Signal("x_t", "number of the word"), Signal("y", "chances of each class", 3, "K")


def classifier(pooling: str, *, both: bool = False, steps: int = 4) -> ModelDrawing:
    model = nn.SequenceClassifier(
        nn.Embedding(11, 5), nn.GRU(5, 4, bidirectional=both), 3, pooling=pooling, norm="batch"
    )
    stack = Stack("net", blocks_of([model], activation="softmax"), WORD, CLASS, steps, writes="last")
    drawing = ModelDrawing("classifier", (stack,), 2)
    assert drawing.parameters == sum(p.numel() for p in model.parameters())
    return drawing


@pytest.mark.parametrize("pooling", ["mean", "max", "max+mean", "attention", "last+max"])
@pytest.mark.parametrize("both", [False, True])
def test_what_is_pooled_comes_from_every_step(pooling: str, both: bool) -> None:
    drawing = classifier(pooling, both=both)
    letters, sizes = full_shape(drawing, drawing.stacks[0], 1)
    assert letters[0] == "T" and sizes == [4, 2, 8 if both else 4]
    assert full_shape(drawing, drawing.stacks[0], 2)[0][0] == "B"
    gathered = [
        part.points[-1]
        for part in unfolded(drawing).shapes
        if isinstance(part, Line) and len(part.points) == 3 and part.points[0][0] == part.points[1][0]
    ]
    assert max(map(gathered.count, gathered)) == 3, "one line from each step but the last"


def test_the_last_output_comes_from_the_last_step_alone() -> None:
    drawing = classifier("last")
    assert full_shape(drawing, drawing.stacks[0], 1)[0] == ["B", "H"]


def joined(encoder: Any, model: Any, steps: int) -> ModelDrawing:
    first = blocks_of(encoder, mark="e", letter="H")
    second = blocks_of([model.embedding, model.recurrent, model.head], mark="d")
    signal = Signal("v", "a vector", 7, "F") if steps == 1 else WORD
    stacks = (
        Stack("encoder", first, signal, Signal("s_0", ""), steps, "S", writes="none"),
        Stack("decoder", second, Signal("y_t", "the word before"), Signal("p_t", "chances", 11, "K"), 9),
    )
    return ModelDrawing("two", stacks, 2)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_bridge_is_counted_where_it_starts_the_decoder(layers: int) -> None:
    decoder = nn.Tagger(nn.Embedding(11, 5), nn.LSTM(5, 4, num_layers=layers), 11)
    model = nn.EncoderDecoder(nn.Embedding(11, 5), nn.GRU(5, 4, bidirectional=True), decoder)
    drawing = joined([model.source, model.encoder, model.bridge], decoder, 6)
    assert drawing.parameters == sum(p.numel() for p in model.parameters())
    assert drawing.shape == "encoder-decoder"
    assert any(line.startswith("s_0 = tanh(W_s [h ; h′]") for line in drawing.stacks[0].blocks[-1].equations)


def test_a_vector_is_one_step_that_starts_all_layers() -> None:
    model = nn.SequenceGenerator(nn.Embedding(11, 5), nn.GRU(5, 4, num_layers=2), 11, features=7)
    drawing = joined([model.bridge], model, 1)
    assert drawing.parameters == sum(p.numel() for p in model.parameters())
    assert drawing.shape == "one to many"
    texts = [part.text for part in unfolded(drawing).shapes if isinstance(part, Label)]
    assert texts.count("s_0") == 2 and not any("S = 1" in text or "S and T" in text for text in texts)
    texts = [part.text for part in basic(drawing).shapes if isinstance(part, Label)]
    assert "first state" in texts and "final state" not in texts


def test_one_to_one_is_a_single_step() -> None:
    assert classifier("last", steps=1).shape == "one to one"
    with torch.device("meta"):
        unfolded(classifier("max+mean", steps=1))
