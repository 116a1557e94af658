"""Make the example pictures of the documentation: python docs/pictures/make.py.

The models are the ones that students meet first; the numbers in the pictures follow from the sizes given here.
"""

from pathlib import Path

from elman.plots import ModelDrawing, Signal, Stack, blocks
from elman.plots.basic import basic
from elman.plots.svg import svg
from elman.plots.unfolded import unfolded


def words(count: int) -> tuple[Signal, Signal]:
    """The input and the output of a model of words."""
    return Signal("x_t", "number of the word"), Signal("y_t", "chances of the next word", count, "V")


def elman_network() -> ModelDrawing:
    """Elman's network as Mikolov's language model has it: 100 units, 10,000 words."""
    parts = (
        blocks.embedding(10_000, 100),
        *blocks.recurrent_blocks("rnn", 100, [100], activation="sigmoid"),
        blocks.dense(100, 10_000),
    )
    return ModelDrawing("Elman's network, 100 units", (Stack("network", parts, *words(10_000), 20),), 20)


def small_lstm() -> ModelDrawing:
    """The small language model of Zaremba et al. (2014)."""
    parts = (
        blocks.embedding(10_000, 200),
        *blocks.recurrent_blocks("lstm", 200, [200, 200]),
        blocks.dense(200, 10_000),
    )
    return ModelDrawing("Language model, two LSTM layers", (Stack("network", parts, *words(10_000), 20),), 20)


def tied_lstm() -> ModelDrawing:
    """A language model with dropout, whose output layer is the embedding."""
    parts = (
        blocks.embedding(10_000, 200),
        blocks.dropout(200, 0.2),
        *blocks.recurrent_blocks("lstm", 200, [200, 200], between=0.2),
        blocks.dropout(200, 0.2),
        blocks.dense(200, 10_000, tied_to="E"),
    )
    return ModelDrawing("Language model, tied weights", (Stack("network", parts, *words(10_000), 35),), 20)


def tagger() -> ModelDrawing:
    """Each frame gets a tag, seen from both sides."""
    frame, tag = Signal("x_t", "features of a frame", 40, "I"), Signal("y_t", "chances of each tag", 12, "K")
    recurrent = blocks.recurrent_blocks("gru", 40, [128], bidirectional=True)
    parts = (*recurrent, blocks.dense(256, 12, letter="K"))
    return ModelDrawing("Tagger, GRU in both directions", (Stack("network", parts, frame, tag, 100),), 8)


def residual_stack() -> ModelDrawing:
    """Layers of different widths; where the width stays, the input is added to the output."""
    signals = (
        Signal("x_t", "number of the character"),
        Signal("y_t", "chances of the next character", 96, "V"),
    )
    parts = (
        blocks.embedding(96, 256),
        *blocks.recurrent_blocks("lstm", 256, [256, 256, 384], residual=True),
        blocks.layer_norm(384),
        blocks.dense(384, 96),
    )
    return ModelDrawing("Stack of different widths", (Stack("network", parts, *signals, 100),), 32)


def translation() -> ModelDrawing:
    """An encoder reads, its final state starts the decoder."""
    state = Signal("h_t", "", 512, "H")
    encoder = (blocks.embedding(8_000, 256), *blocks.recurrent_blocks("gru", 256, [512]))
    decoder = (
        blocks.embedding(6_000, 256),
        *blocks.recurrent_blocks("gru", 256, [512]),
        blocks.dense(512, 6_000),
    )
    source = Signal("x_t", "word of the source")
    stacks = (
        Stack("encoder", encoder, source, state, 14, "S", writes="none"),
        Stack(
            "decoder",
            decoder,
            Signal("y_t", "the word before"),
            Signal("p_t", "chances of the word", 6_000, "V"),
            12,
        ),
    )
    return ModelDrawing("Translation", stacks, 64)


MODELS = (elman_network, small_lstm, tied_lstm, tagger, residual_stack, translation)


def make(folder: Path) -> list[Path]:
    """Draw them all into NAME_basic.svg and NAME_unfolded.svg; `draw_model` makes the PNG files too."""
    made = []
    for model in MODELS:
        for draw in (basic, unfolded):
            made.append(folder / f"{model.__name__}_{draw.__name__}.svg")
            made[-1].write_text(svg(draw(model())), encoding="utf-8")
    return made


if __name__ == "__main__":
    make(Path(__file__).parent)
