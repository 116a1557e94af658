"""Models to be drawn: every shape of a network, every kind of block."""

import torch
from torch.nn import BatchNorm1d, Dropout, Embedding, LayerNorm, Linear, Module, Sequential, Tanh

from elman.nn import GRU, LSTM, RNN, MinimalGatedCell, Recurrent
from elman.nn.stack import Merge
from elman.plots import Block, ModelDrawing, Signal, Stack, State, Weight
from elman.plots.modules import blocks_of

WORD = Signal("x_t", "number of the word")
FRAME = Signal("x_t", "features of a frame", 40, "I")
LAYERS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}


def chances(count: int, letter: str = "K") -> Signal:
    return Signal("y_t", "chances of each", count, letter)


def chain(*modules: Module) -> tuple[Block, ...]:
    return blocks_of(modules, activation="softmax")


def language_model(
    kind: str = "lstm", *, tied: bool = False, steps: int = 35, layers: int = 2, words: int = 10_000
) -> ModelDrawing:
    between = 0.5 if layers > 1 else 0.0
    recurrent = (
        Recurrent(MinimalGatedCell, 200, [200] * layers, dropout=between)
        if kind == "mgu"
        else LAYERS[kind](200, 200, num_layers=layers, dropout=between)
    )
    table, head = Embedding(words, 200), Linear(200, words)
    if tied:
        head.weight = table.weight
    parts = chain(table, Dropout(0.5), recurrent, LayerNorm(200), head)
    return ModelDrawing("model", (Stack("model", parts, WORD, chances(words), steps),), 20)


def residual_stack(*, bidirectional: bool = False, steps: int = 60, between: float = 0.0) -> ModelDrawing:
    width = 20 if bidirectional else 40
    recurrent = LSTM(40, width, num_layers=3, residual=True, bidirectional=bidirectional, dropout=between)
    parts = chain(recurrent, Linear(40, 7))
    return ModelDrawing("residual stack", (Stack("stack", parts, FRAME, chances(7), steps),), 8)


def widths(*, bidirectional: bool = False) -> ModelDrawing:
    recurrent = GRU(40, [40, 64, 24], bidirectional=bidirectional, merge="sum" if bidirectional else "concat")
    return ModelDrawing("widths", (Stack("net", chain(recurrent, Linear(24, 7)), FRAME, chances(7), 9),), 8)


def tagger(kind: str, merge: Merge, *, steps: int = 100) -> ModelDrawing:
    recurrent = LAYERS[kind](40, 128, bidirectional=True, merge=merge)
    parts = chain(recurrent, Linear(256 if merge == "concat" else 128, 12))
    return ModelDrawing("tagger", (Stack("tagger", parts, FRAME, chances(12), steps),), 8)


def one_to_many() -> ModelDrawing:
    parts = chain(GRU(40, 64), Linear(64, 300))
    return ModelDrawing("caption", (Stack("net", parts, FRAME, chances(300), 9, reads="first"),), 16)


def many_to_one() -> ModelDrawing:
    parts = chain(Embedding(500, 64), LSTM(64, 32, bidirectional=True, merge="sum"), Linear(32, 2))
    return ModelDrawing("sentiment", (Stack("net", parts, WORD, chances(2), 30, writes="last"),), 16)


def encoder_decoder() -> ModelDrawing:
    encoder = blocks_of([Embedding(8000, 256), GRU(256, 512, num_layers=2)], mark="enc")
    decoder = blocks_of(
        [Embedding(6000, 256), Dropout(0.3), GRU(256, 512, num_layers=2), Linear(512, 6000)],
        activation="softmax",
        mark="dec",
    )
    nothing = Signal("s_t", "", 512, "H")
    stacks = (
        Stack("encoder", encoder, WORD, nothing, 14, "S", writes="none"),
        Stack("decoder", decoder, Signal("y_t", "the word before"), Signal("p_t", "chances", 6000, "K"), 12),
    )
    return ModelDrawing("translation", stacks, 64)


def without_state() -> ModelDrawing:
    parts = chain(Sequential(Linear(40, 30), Tanh(), BatchNorm1d(30), Linear(30, 4, bias=False)))
    return ModelDrawing("no recurrence", (Stack("net", parts, FRAME, chances(4), 1),), 4)


class ExponentialGate(Module):
    """A cell and an attention as anyone may write them."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.in_projection = Linear(input_size, 4 * hidden_size)
        self.tau = torch.nn.Parameter(torch.zeros(hidden_size))

    def initial_state(self, batch: int, device: object, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        sizes = (self.hidden_size, self.hidden_size, self.hidden_size, 1)
        return tuple(torch.zeros(batch, size, dtype=dtype) for size in sizes)

    def forward(
        self, x: torch.Tensor, state: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        h, c, n, m = state
        i, f, z, o = (self.in_projection(x) + self.tau.repeat(4)).chunk(4, -1)
        c, n = (
            torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(z),
            torch.sigmoid(f) * n + torch.sigmoid(i),
        )
        h = torch.sigmoid(o) * c / (n + 1) + 0 * h
        return h, (h, c, n, m + 1)


class AttentionPooling(Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.output_size = size
        self.query = torch.nn.Parameter(torch.zeros(size))
        self.key_projection = Linear(size, size, bias=False)


def cells_of_ones_own() -> ModelDrawing:
    recurrent = Recurrent(ExponentialGate, 40, [24, 24], bidirectional=True, zoneout=0.1, dropout=0.2)
    parts = chain(recurrent, AttentionPooling(48), Linear(48, 5))
    return ModelDrawing("own", (Stack("net", parts, FRAME, chances(5), 12, writes="last"),), 2)


def backwards() -> ModelDrawing:
    parts = chain(Recurrent(MinimalGatedCell(40, 24), reverse=True), Linear(24, 5))
    return ModelDrawing("backwards", (Stack("net", parts, FRAME, chances(5), 12),), 2)


def described_by_hand() -> ModelDrawing:
    sizes = {"h": 64, "c": 64, "n": 64, "m": 1}
    states = tuple(State(name, size) for name, size in sizes.items())
    weights = (
        Weight("U", (256, 40), "input"),
        Weight("W", (256, 64), "recurrent"),
        Weight("τ", (64,), "scale"),
    )
    equations = ("h_t = o ⊙ c_t / n_t",)
    cell = Block("exponential LSTM layer 1", "recurrent", 40, 64, "H", weights, states, equations)
    title = "runs/a-folder-with-a-very-long-name/" * 5
    return ModelDrawing(title, (Stack("net", (cell,), FRAME, Signal("h_t", "state", 64, "H"), 12),), 2)


def everything() -> ModelDrawing:
    """An LSTM with all that elman.nn.LSTM can have."""
    recurrent = LSTM(
        40,
        32,
        num_layers=2,
        bidirectional=True,
        layer_norm="separate",
        peephole=True,
        proj_size=16,
        learn_initial_state=True,
        weight_dropout=0.3,
        recurrent_dropout=0.2,
        recurrent_dropout_on="candidate",
        zoneout={"h": 0.1, "c": 0.5},
        dropout=0.1,
        sequence_dropout=True,
    )
    out = Signal("h_t", "state", 32, "2P")
    return ModelDrawing("everything", (Stack("net", blocks_of([recurrent]), FRAME, out, 12),), 2)


with torch.device("meta"):
    EXAMPLES = {
        "everything": everything(),
        "cells of one's own": cells_of_ones_own(),
        "backwards": backwards(),
        "described by hand": described_by_hand(),
        "huge": language_model(words=123_456),
        "elman": language_model("rnn", layers=1),
        "lstm": language_model(),
        "tied": language_model(tied=True, words=50_257),
        "minimal": language_model("mgu", steps=3),
        "six layers": language_model("gru", layers=6),
        "widths": widths(),
        "both ways, widths": widths(bidirectional=True),
        "residual": residual_stack(),
        "both ways, residual": residual_stack(bidirectional=True),
        "both ways, residual, few steps": residual_stack(bidirectional=True, steps=4),
        "residual around dropout": residual_stack(between=0.1),
        "both ways, residual around dropout": residual_stack(bidirectional=True, between=0.1),
        "both ways, gru": tagger("gru", "concat"),
        "both ways, rnn": tagger("rnn", "mean", steps=5),
        "one to one": residual_stack(steps=1),
        "one to many": one_to_many(),
        "many to one": many_to_one(),
        "encoder-decoder": encoder_decoder(),
        "without state": without_state(),
    }
