"""A decoder that looks at its encoder: what is drawn is what is trained, and the wires lead where it looks."""

from typing import Any

import pytest

from elman import nn
from elman.plots import Block, ModelDrawing, Signal, Stack
from elman.plots.basic import basic
from elman.plots.canvas import Label
from elman.plots.modules import blocks_of
from elman.plots.unfolded import unfolded

ATTENTIONS: dict[str, Any] = {
    "additive": lambda: nn.AdditiveAttention(4, 6, 5),
    "general": lambda: nn.GeneralAttention(4, 6),
    "concat": lambda: nn.ConcatAttention(4, 6, 5),
    "heads": lambda: nn.MultiHeadAttention(4, 6, 6, 2),
    "location": lambda: nn.LocationAttention(4, 6, 5, filters=2, width=3),
    "coverage": lambda: nn.CoverageAttention(4, 6, 5),
    "monotonic": lambda: nn.MonotonicAttention(4, 6, 5),
}


def drawn(attention: str, look: str, feeding: int = 0) -> tuple[Any, ModelDrawing]:
    made: Any = nn.AttentionCell
    cell = made(nn.LSTMCell, 3, 4, ATTENTIONS[attention](), 6, look=look, feeding=feeding)
    encoder = nn.GRU(3, 3, bidirectional=True)
    model = nn.AttentionEncoderDecoder(nn.Embedding(11, 3), encoder, nn.Embedding(9, 3), cell)
    reading = blocks_of([model.source, model.encoder, model.bridge], mark="e")
    writing = blocks_of(
        [model.target, model.decoder, model.readout, model.head], mark="d", activation="softmax"
    )
    word = Signal("x_t", "a word")
    stacks = (
        Stack("encoder", reading, word, Signal("s_0", ""), 4, "S", writes="none"),
        Stack("decoder", writing, word, Signal("p_t", "chances", 9, "K"), 4),
    )
    return model, ModelDrawing("two", stacks, 2)


def looking(drawing: ModelDrawing) -> Block:
    (block,) = [block for block in drawing.blocks() if block.looks]
    return block


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize(("look", "feeding"), [("before", 0), ("between", 0), ("after", 0), ("after", 7)])
def test_every_parameter_is_drawn_once(attention: str, look: str, feeding: int) -> None:
    model, drawing = drawn(attention, look, feeding)
    assert drawing.parameters == sum(p.numel() for p in model.parameters())
    names = [weight.name for weight in looking(drawing).weights]
    assert len(set(names)) == len(names)
    assert not any("." in name for name in names), names


def test_the_memory_leads_to_every_step_that_looks() -> None:
    for draw in (basic, unfolded):
        texts = [
            part.text for part in draw(drawn("additive", "between")[1]).shapes if isinstance(part, Label)
        ]
        assert texts.count("m_1 … m_S") == 1
    equations = looking(drawn("additive", "between")[1]).equations
    assert equations[0] == "q = LSTM(x_t, h_{t−1})" and equations[-1] == "y_t = [h_t ; c_t]"
    fed = looking(drawn("additive", "after", 7)[1]).equations
    assert fed[0] == "q = h_t = LSTM([x_t ; y_{t−1}], h_{t−1})"
    encoder = drawn("additive", "between")[1].stacks[0]
    assert any(line.startswith("s_0 = tanh(W_s mean(m_1 … m_S)") for line in encoder.blocks[-1].equations)
