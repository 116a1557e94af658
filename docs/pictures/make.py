"""Make the example pictures of the documentation: python docs/pictures/make.py.

The models are the ones that students meet first; the numbers in the pictures follow from the sizes given here.
"""

from pathlib import Path

import torch
from torch.nn import Dropout, Embedding, LayerNorm, Linear, Module, Tanh

from elman import nn
from elman.nn import GRU, LSTM, RNN
from elman.plots import Block, ModelDrawing, Signal, Stack
from elman.plots.basic import basic
from elman.plots.modules import blocks_of
from elman.plots.svg import svg
from elman.plots.unfolded import unfolded


def words(count: int) -> tuple[Signal, Signal]:
    """The input and the output of a model of words."""
    return Signal("x_t", "number of the word"), Signal("y_t", "chances of the next word", count, "K")


def network(
    title: str, modules: list[Module], signals: tuple[Signal, Signal], steps: int, batch: int
) -> ModelDrawing:
    """A chain of modules that ends in a softmax."""
    stack = Stack("network", blocks_of(modules, activation="softmax"), *signals, steps)
    return ModelDrawing(title, (stack,), batch)


def elman_network() -> ModelDrawing:
    """Elman's network as Mikolov's language model has it: 100 units, 10,000 words."""
    parts = [Embedding(10_000, 100), RNN(100, 100, nonlinearity="sigmoid"), Linear(100, 10_000)]
    return network("Elman's network, 100 units", parts, words(10_000), 20, 20)


def small_lstm() -> ModelDrawing:
    """The small language model of Zaremba et al. (2014)."""
    parts = [Embedding(10_000, 200), LSTM(200, 200, num_layers=2), Linear(200, 10_000)]
    return network("Language model, two LSTM layers", parts, words(10_000), 20, 20)


def tied_lstm() -> ModelDrawing:
    """A language model with dropout, whose output layer is the embedding."""
    table, head, drop = Embedding(10_000, 200), Linear(200, 10_000), Dropout(0.2)
    head.weight = table.weight
    parts = [table, drop, LSTM(200, 200, num_layers=2, dropout=0.2), drop, head]
    return network("Language model, tied weights", parts, words(10_000), 35, 20)


def tagger() -> ModelDrawing:
    """Each frame gets a tag, seen from both sides."""
    frame, tag = Signal("x_t", "features of a frame", 40, "I"), Signal("y_t", "chances of each tag", 12, "K")
    parts = [GRU(40, 128, bidirectional=True), Linear(256, 12)]
    return network("Tagger, GRU in both directions", parts, (frame, tag), 100, 8)


def residual_stack() -> ModelDrawing:
    """Layers with a residual connection around each, layer norm inside and behind."""
    signals = (
        Signal("x_t", "number of the character"),
        Signal("y_t", "chances of the next character", 96, "K"),
    )
    layers = LSTM(256, 384, num_layers=3, residual=True, layer_norm="separate", dropout=0.1)
    parts = [Embedding(96, 256), layers, LayerNorm(384), Linear(384, 96)]
    return network("Stack with residual connections", parts, signals, 100, 32)


def translation() -> ModelDrawing:
    """An encoder reads, its final state starts the decoder."""
    state = Signal("h_t", "", 512, "H")
    encoder = blocks_of([Embedding(8_000, 256), GRU(256, 512)], mark="enc")
    decoder = blocks_of(
        [Embedding(6_000, 256), GRU(256, 512), Linear(512, 6_000)], activation="softmax", mark="dec"
    )
    source = Signal("x_t", "word of the source")
    stacks = (
        Stack("encoder", encoder, source, state, 14, "S", writes="none"),
        Stack(
            "decoder",
            decoder,
            Signal("y_t", "the word before"),
            Signal("p_t", "chances of the word", 6_000, "K"),
            12,
        ),
    )
    return ModelDrawing("Translation", stacks, 64)


# The five shapes: docs/shapes.md.


def shape_one_to_one() -> ModelDrawing:
    """T = 1 from zeros: a dense network."""
    model = nn.SequenceClassifier(nn.Features(40), RNN(40, 64), 10)
    signals = Signal("x_t", "features", 40, "I"), Signal("y_t", "chances of each class", 10, "K")
    return ModelDrawing("One to one", (Stack("network", softmax(model), *signals, 1),), 32)


def shape_one_to_many() -> ModelDrawing:
    """A vector starts the state; each token is drawn and fed in again."""
    model = nn.SequenceGenerator(nn.Embedding(128, 64), GRU(64, 256), 128, features=32)
    state = Signal("s_0", "", 256, "H")
    start, vector = blocks_of([model.bridge], letter="H"), Signal("v", "a vector", 32, "F")
    first = Stack("vector", start, vector, state, 1, writes="none")
    note, next_note = Signal("x_t", "the note before"), Signal("y_t", "chances of the note", 128, "K")
    chain = blocks_of([model.embedding, model.recurrent, model.head], activation="softmax")
    notes = Stack("notes", chain, note, next_note, 50)
    return ModelDrawing("One to many", (first, notes), 8)


def shape_many_to_one() -> ModelDrawing:
    """A text has one class: the outputs of all steps are pooled."""
    layers = LSTM(128, 128, bidirectional=True)
    model = nn.SequenceClassifier(nn.Embedding(20_000, 128), layers, 6, pooling="max+mean", dropout=0.4)
    signals = Signal("x_t", "number of the word"), Signal("y", "chances of each class", 6, "K")
    stack = Stack("network", softmax(model), *signals, 30, writes="last")
    return ModelDrawing("Many to one", (stack,), 32)


def shape_many_to_many() -> ModelDrawing:
    """A tag at every step."""
    model = nn.Tagger(nn.Embedding(20_000, 100), LSTM(100, 100, bidirectional=True), 17, norm="layer")
    signals = Signal("x_t", "number of the word"), Signal("y_t", "chances of each tag", 17, "K")
    return ModelDrawing("Many to many, aligned", (Stack("network", softmax(model), *signals, 25),), 16)


def shape_encoder_decoder() -> ModelDrawing:
    """A source is read from both ends, a bridge starts the decoder, the target is written."""
    target = nn.Tagger(nn.Embedding(6_000, 256), GRU(256, 256), 6_000)
    model = nn.EncoderDecoder(nn.Embedding(8_000, 256), GRU(256, 256, bidirectional=True), target)
    encoder = blocks_of([model.source, model.encoder, model.bridge], mark="e")
    decoder = blocks_of([model.decoder], activation="softmax", mark="d")
    word, state = Signal("x_t", "word of the source"), Signal("s_0", "", 256, "H")
    before, chances = Signal("y_t", "the word before"), Signal("p_t", "chances of the word", 6_000, "K")
    stacks = (
        Stack("encoder", encoder, word, state, 14, "S", writes="none"),
        Stack("decoder", decoder, before, chances, 12),
    )
    return ModelDrawing("Encoder-decoder", stacks, 64)


def attention() -> ModelDrawing:
    """The decoder looks at every step of the source, at each of its own."""
    cell = nn.AttentionCell(nn.GRUCell, 192, 192, nn.AdditiveAttention(192, 384, 192), 384)
    source, target = nn.Embedding(5_000, 192, dropout=0.3), nn.Embedding(3_500, 192, dropout=0.3)
    model = nn.AttentionEncoderDecoder(source, GRU(192, 192, bidirectional=True), target, cell, dropout=0.3)
    reading = blocks_of([model.source, model.encoder, model.bridge], mark="e", letter="2H")
    chain = [model.target, model.decoder, model.readout, Tanh(), model.dropout, model.head]
    token, before = Signal("x_t", "a token"), Signal("y_t", "the token before")
    stacks = (
        Stack("encoder", reading, token, Signal("s_0", ""), 14, "S", writes="none"),
        Stack(
            "decoder",
            blocks_of(chain, activation="softmax", mark="d"),
            before,
            Signal("p_t", "chances of the next", 3_500, "K"),
            12,
        ),
    )
    return ModelDrawing("Encoder-decoder with attention", stacks, 64)


def softmax(model: Module) -> tuple[Block, ...]:
    """The blocks of a network that ends in a softmax."""
    return blocks_of([model], activation="softmax")


SHAPES = (
    shape_one_to_one,
    shape_one_to_many,
    shape_many_to_one,
    shape_many_to_many,
    shape_encoder_decoder,
)
MODELS = (elman_network, small_lstm, tied_lstm, tagger, residual_stack, translation, attention, *SHAPES)


def make(folder: Path) -> list[Path]:
    """Draw them all into NAME_basic.svg and NAME_unfolded.svg; `draw_model` makes the PNG files too."""
    made = []
    for model in MODELS:
        # sizes are all that is asked for: no parameter gets a value
        with torch.device("meta"):
            drawing = model()
        for draw in (basic, unfolded):
            made.append(folder / f"{model.__name__}_{draw.__name__}.svg")
            made[-1].write_text(svg(draw(drawing)), encoding="utf-8")
    return made


if __name__ == "__main__":
    make(Path(__file__).parent)
