"""What is drawn is what is there: every parameter of a module once, with one name, and one meaning to each letter."""

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import (
    BatchNorm1d,
    Dropout,
    Embedding,
    Identity,
    LayerNorm,
    Linear,
    Module,
    Parameter,
    ReLU,
    Sequential,
)
from torch.nn.utils.parametrizations import weight_norm

from elman import nn
from elman.nn import cells
from elman.plots import Block, ModelDrawing, Signal, Stack
from elman.plots.basic import basic
from elman.plots.modules import blocks_of, dtype_of
from elman.plots.text import plain
from tests.plots.examples import EXAMPLES, FRAME, ExponentialGate, chances

LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
THEIRS = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
# One of GRU-D takes several tensors: the contract of the tasks holds its drawing.
ELSEWHERE = {"Cell", "ProjectedLSTMCell", "GRUDCell", "Observed"}
CELLS = [
    *(getattr(cells, name) for name in cells.__all__ if name not in ELSEWHERE),
    torch.nn.LSTMCell,
    torch.nn.GRUCell,
    torch.nn.RNNCell,
    ExponentialGate,
]


def count(*modules: Module) -> int:
    """The parameters of modules, those that they share once."""
    return sum({id(p): p.numel() for module in modules for p in module.parameters()}.values())


def drawn(blocks: tuple[Block, ...]) -> int:
    return sum(block.parameters for block in blocks)


@st.composite
def stock_layers(draw: st.DrawFn, width: int) -> Module:
    """A layer of elman.nn or torch.nn with options drawn."""
    kind = draw(st.sampled_from(list(LAYERS)))
    known: dict[str, Any] = {
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
    }
    known["dropout"] = draw(st.sampled_from([0.0, 0.25])) if known["num_layers"] > 1 else 0.0
    if kind == "lstm":
        known["proj_size"] = draw(st.sampled_from([0, 3]))
    if draw(st.booleans()):
        return THEIRS[kind](width, 6, **known)
    norms = ["separate"] if kind == "gru" else ["separate", "sum"]
    known |= {
        "layer_norm": draw(st.sampled_from([None, *norms])),
        "zoneout": draw(st.sampled_from([None, 0.1, {"h": 0.1}])),
        "recurrent_dropout": draw(st.sampled_from([0.0, 0.2])),
        "weight_dropout": draw(st.sampled_from([0.0, 0.3])),
        "sequence_dropout": draw(st.booleans()),
        "learn_initial_state": draw(st.booleans()),
    }
    if known["bidirectional"]:
        known["merge"] = draw(st.sampled_from(["concat", "sum", "mean", "product"]))
    if kind == "gru" and known["layer_norm"] is None:
        known["reset_after"] = draw(st.booleans())
    if kind == "lstm":
        known["peephole"], known["coupled"] = draw(st.booleans()), draw(st.booleans())
    if kind == "rnn":
        known["nonlinearity"] = draw(st.sampled_from(["tanh", "relu", "sigmoid", torch.sin]))
    hidden: Any = 6
    if draw(st.booleans()) and not known.get("proj_size"):
        hidden = draw(st.lists(st.integers(4, 7), min_size=known["num_layers"], max_size=known["num_layers"]))
    else:
        doubled = known["bidirectional"] and known["merge"] == "concat"
        out = (known.get("proj_size") or hidden) * (2 if doubled else 1)
        known["residual"] = (out == width or known["num_layers"] > 1) and draw(st.booleans())
    return LAYERS[kind](width, hidden, **known)


@st.composite
def any_cells(draw: st.DrawFn, width: int) -> Module:
    """A cell of any kind in `Recurrent`, an instance or a stack."""
    cell = draw(st.sampled_from(CELLS))
    known: dict[str, Any] = {
        "zoneout": draw(st.sampled_from([None, 0.1])),
        "learn_initial_state": draw(st.booleans()),
        "reverse": draw(st.booleans()),
    }
    if draw(st.booleans()):
        return nn.Recurrent(cell(width, 5), **known)
    known["bidirectional"] = draw(st.booleans())
    sizes = draw(st.lists(st.integers(4, 6), min_size=1, max_size=3))
    known["dropout"] = draw(st.sampled_from([0.0, 0.25])) if len(sizes) > 1 else 0.0
    return nn.Recurrent(cell, width, sizes, **known)


@st.composite
def networks(draw: st.DrawFn) -> list[Module]:
    """A chain: embedding, dropout, recurrent layers, norm, dense layers, some of it tied."""
    width = draw(st.integers(4, 7))
    table = Embedding(11, width)
    layer = draw(st.one_of(stock_layers(width), any_cells(width)))
    with torch.no_grad():
        out = layer(torch.zeros(2, 1, width))[0].shape[-1]
    norms: list[Module] = [
        LayerNorm(out),
        LayerNorm(out, bias=False),
        LayerNorm(out, elementwise_affine=False),
        BatchNorm1d(out),
        Identity(),
    ]
    chain: list[Module] = [
        table,
        Dropout(draw(st.sampled_from([0.0, 0.5]))),
        layer,
        draw(st.sampled_from(norms)),
    ]
    if draw(st.booleans()):
        chain.append(Sequential(Linear(out, 9), ReLU(), nn.SequenceDropout(0.2)))
        out = 9
    head = Linear(out, 11, bias=draw(st.booleans()))
    if out == width and draw(st.booleans()):
        head.weight = table.weight
    return [*chain, weight_norm(head) if draw(st.booleans()) and head.weight is not table.weight else head]


def meanings(drawing: ModelDrawing) -> dict[str, set[str]]:
    """The names of the weights, the letters of the sizes, what is carried, and what stands left of a = in a card."""
    sizes = {stack.time for stack in drawing.stacks} | {"B"}
    for stack in drawing.stacks:
        letters = [stack.input.letter, *(block.letter for block in stack.blocks)]
        sizes |= {re.sub(r"^\d", "", letter) for letter in letters if letter}
    inside: set[str] = set()
    for block in drawing.blocks():
        if block.kind not in {"embedding", "dropout"}:
            left = [line.split("=")[0] for line in block.equations if "=" in line]
            inside |= {name.strip().removesuffix("_t") for part in left for name in re.split("[,;]", part)}
    states = {state.name for block in drawing.blocks() for state in block.states}
    return {
        "weight": {weight.name for weight in drawing.weights()},
        "size": sizes,
        "inside": inside - states,
        "state": states,
    }


def assert_one_meaning_each(drawing: ModelDrawing) -> None:
    found = meanings(drawing)
    kinds = list(found)
    for place, kind in enumerate(kinds):
        for other in kinds[place + 1 :]:
            assert not found[kind] & found[other], f"{kind} and {other}: {found[kind] & found[other]}"
    names = [weight.name for weight in drawing.weights()]
    assert len(set(names)) == len(names)
    said = [plain(label.text) for label in basic(drawing).labels()]
    assert f"{drawing.parameters:,}" in said


@given(networks())
def test_drawn_is_counted(chain: list[Module]) -> None:
    blocks = blocks_of(chain, activation="softmax")
    assert drawn(blocks) == count(*chain)
    out = Signal("y_t", "chances", 11, "K")
    drawing = ModelDrawing("net", (Stack("net", blocks, Signal("x_t", "a word"), out, 5),), 2)
    assert_one_meaning_each(drawing)
    recurrent = next(
        m for m in chain if isinstance(m, torch.nn.RNNBase | nn.LSTM | nn.GRU | nn.RNN | nn.Recurrent)
    )
    states = [block for block in blocks if block.states]
    assert len(states) == recurrent.num_layers
    assert all(len(block.directions) == 1 + recurrent.bidirectional for block in states)


@pytest.mark.parametrize("drawing", EXAMPLES.values(), ids=EXAMPLES)
def test_a_letter_has_one_meaning(drawing: ModelDrawing) -> None:
    assert_one_meaning_each(drawing)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.__name__)
def test_states_are_those_of_the_cell(cell: type[Module]) -> None:
    layer = nn.Recurrent(cell(7, 5))
    with torch.no_grad():
        _, state = layer(torch.zeros(2, 3, 7))
    leaves = torch.utils._pytree.tree_leaves(state)
    (block,) = blocks_of([layer])
    assert [entry.size for entry in block.states] == [leaf[0].numel() for leaf in leaves]


def test_a_projected_cell() -> None:
    layer = nn.Recurrent(nn.ProjectedLSTMCell(7, 5, proj_size=3))
    (block,) = blocks_of([layer])
    assert (block.output_size, block.state_numbers, block.letter) == (3, 8, "P")
    assert block.parameters == count(layer)


@pytest.mark.parametrize(
    ("layer", "equation"),
    [
        (
            lambda: nn.LSTM(7, 5, peephole=True, layer_norm="separate", learn_initial_state=True),
            "h_t = o ⊙ tanh(LN(c_t))",
        ),
        (lambda: nn.LSTM(7, 5, coupled=True, layer_norm="sum"), "c_t = (1 − i) ⊙ c_{t−1} + i ⊙ g"),
        (lambda: nn.LSTM(7, 5, proj_size=3), "h_t = R (o ⊙ tanh(c_t))"),
        (lambda: nn.LSTM(7, 5, proj_size=3, layer_norm="sum"), "h_t = R (o ⊙ tanh(LN(c_t)))"),
        (lambda: nn.GRU(7, 5, layer_norm="separate"), "r, z = σ(LN(U x_t) + b + LN(W h_{t−1}) + d)"),
        (lambda: nn.GRU(7, 5, reset_after=False), "n = tanh(U x_t + W (r ⊙ h_{t−1}) + b)"),
        (lambda: nn.RNN(7, 5, layer_norm="sum"), "a_t = LN(U x_t + W s_{t−1}) + b"),
        (lambda: nn.RNN(7, 5, nonlinearity="relu", bias=False), "a_t = U x_t + W s_{t−1}"),
        (lambda: nn.GRU(7, 5, bidirectional=True, merge="sum"), "y_t = h_t + h′_t"),
        (lambda: nn.Recurrent(nn.ElmanCell(7, 5, output_size=3)), "y_t = V_s s_t + b_s"),
        (lambda: nn.Recurrent(nn.MinimalGatedCell(7, 5)), "n = tanh(U x_t + W (f ⊙ h_{t−1}) + b)"),
        (
            lambda: nn.Recurrent(ExponentialGate(7, 5)),
            "y_t; s1_t, s2_t, s3_t, s4_t = cell(x_t; s1_{t−1}, s2_{t−1}, s3_{t−1}, s4_{t−1})",
        ),
    ],
)
def test_equations_are_those_of_the_layer(layer: Any, equation: str) -> None:
    (block,) = blocks_of([layer()])
    assert equation in block.equations


@pytest.mark.parametrize(
    ("options", "remark"),
    [
        ({"zoneout": 0.1}, "zoneout 0.1: a unit keeps its value for a step"),
        ({"zoneout": {"h": 0.1, "c": 0.5}}, "zoneout 0.1 of h, 0.5 of c"),
        ({"recurrent_dropout": 0.2}, "in training, 20 % of h_{t−1} become 0; one mask a sequence"),
        (
            {"recurrent_dropout": 0.2, "recurrent_dropout_on": "candidate"},
            "in training, 20 % of the candidate become 0; one mask a sequence",
        ),
        ({"weight_dropout": 0.3}, "in training, 30 % of W become 0; one mask a call"),
    ],
)
def test_what_training_does_is_said(options: dict[str, Any], remark: str) -> None:
    (block,) = blocks_of([nn.LSTM(7, 5, **options)])
    assert block.remarks == (remark,)
    drawing = ModelDrawing("net", (Stack("net", (block,), FRAME_OF_7, Signal("h_t", "", 5, "H"), 3),), 1)
    assert plain(remark) in [plain(label.text) for label in basic(drawing).labels()]


FRAME_OF_7 = Signal("x_t", "features", 7, "I")


def test_dropout_lies_where_it_acts() -> None:
    layer = nn.GRU(8, [8, 6, 4], dropout=0.1, sequence_dropout=True)
    stack = blocks_of([layer, Dropout(0.0), nn.SequenceDropout(0.2), Linear(4, 3)])
    kinds = [block.kind for block in stack]
    assert kinds == ["recurrent", "dropout", "recurrent", "dropout", "recurrent", "dropout", "dense"]
    assert [block.letter for block in stack if block.states] == ["H_1", "H_2", "H_3"]
    assert all("one mask a sequence" in block.equations[0] for block in stack if block.kind == "dropout")
    residual = blocks_of([nn.GRU(8, 8, num_layers=2, dropout=0.1, residual=True)])
    assert [block.residual for block in residual] == [1, 0, 2]
    residual = blocks_of([nn.GRU(7, 8, num_layers=2, residual=True)])
    assert [block.residual for block in residual] == [0, 1]


def test_shared_parameters_are_counted_once() -> None:
    layer = nn.LSTM(5, 5, num_layers=2)
    layer.weight_hh_l1 = layer.weight_hh_l0
    layer.bias_hh_l1 = layer.bias_ih_l0
    blocks = blocks_of([layer])
    assert drawn(blocks) == count(layer)
    assert {w.name: w.tied_to for block in blocks for w in block.weights if w.tied_to} == {"W_2": "W_1"}
    again = Linear(5, 5)
    twice = blocks_of([again, ReLU(), again])
    assert drawn(twice) == 30
    assert [weight.tied_to for weight in twice[1].weights] == ["V_1", "b_{y,1}"]


def test_a_module_that_nobody_knows_is_drawn_with_its_parameters() -> None:
    class Highway(Module):
        def __init__(self) -> None:
            super().__init__()
            self.in_features = self.out_features = 4
            self.gate_layer = Linear(4, 4)
            self.scale = Parameter(torch.ones(4))

    first, second = Highway(), Highway()
    blocks = blocks_of([Linear(7, 4), first, second])
    assert drawn(blocks) == count(first, second) + 32
    assert [block.name for block in blocks[1:]] == ["Highway", "Highway"]
    assert "gate layer.weight" in [weight.name for weight in blocks[1].weights]
    drawing = ModelDrawing("net", (Stack("net", blocks, FRAME_OF_7, chances(4), 3),), 1)
    assert_one_meaning_each(drawing)


def test_the_type_is_that_of_the_parameters() -> None:
    assert dtype_of(Linear(2, 2)) == "float32"
    assert dtype_of(nn.LSTM(2, 2, dtype=torch.float64)) == "float64"
    assert dtype_of(Identity()) == "float32"


def test_two_chains_side_by_side_keep_their_names_apart() -> None:
    names = [
        weight.name
        for mark in ("enc", "dec")
        for block in blocks_of([Embedding(9, 4), nn.GRU(4, 4, num_layers=2), LayerNorm(4)], mark=mark)
        for weight in block.weights
    ]
    assert len(set(names)) == len(names)
    assert {"E_{enc}", "U_{2,dec}", "γ_{dec}"} <= set(names)
    assert FRAME.size == 40


@st.composite
def whole_networks(draw: st.DrawFn) -> Module:
    """A network of elman.nn with an input, any layers and a readout."""
    width = draw(st.integers(4, 7))
    norms = st.sampled_from(["none", "layer", "batch"])
    given: dict[str, Any] = {"norm": draw(norms), "dropout": draw(st.sampled_from([0.0, 0.2]))}
    table = draw(st.booleans())
    source = (
        nn.Embedding(
            11, width, word_dropout=draw(st.sampled_from([0.0, 0.1])), frozen=draw(st.booleans()), **given
        )
        if table
        else nn.Features(
            5, width if draw(st.booleans()) else 0, sequence_dropout=draw(st.booleans()), **given
        )
    )
    layers = draw(st.one_of(stock_layers(source.output_size), any_cells(source.output_size)))
    readout: dict[str, Any] = {
        "norm": draw(norms),
        "dense": draw(st.sampled_from([0, 6])),
        "nonlinearity": draw(st.sampled_from(["relu", "tanh", torch.sin])),
        "dropout": draw(st.sampled_from([0.0, 0.3])),
    }
    if draw(st.booleans()):
        return nn.Tagger(source, layers, 9, **readout)
    pooling = draw(st.sampled_from(["last", "mean", "max", "attention", "max+attention", "last+mean"]))
    return nn.SequenceClassifier(source, layers, 3, pooling=pooling, **readout)


@settings(max_examples=60)
@given(whole_networks())
def test_a_whole_network_is_drawn_as_it_is_counted(network: Any) -> None:
    blocks = blocks_of([network], activation="softmax")
    assert drawn(blocks) == count(network)
    words = network.embedding
    reads = Signal("x_t", "in", None if hasattr(words, "word_dropout") else 5, "I")
    out = Signal("y_t", "out", network.head.out_features, "K")
    writes: Any = "last" if hasattr(network, "pooling") else "every"
    assert_one_meaning_each(ModelDrawing("net", (Stack("net", blocks, reads, out, 5, writes=writes),), 2))
    names = " ".join(block.name for block in blocks)
    assert names.count("norm") == sum(
        isinstance(m, LayerNorm | BatchNorm1d) for m in (words.norm, network.norm)
    )
    assert names.count("dense") == sum(isinstance(m, Linear) for m in network.modules()) - (
        2 if "attention" in names else 0
    ) - sum(isinstance(m, ExponentialGate) for m in network.modules())
    dropouts = [words.dropout, network.dropout, *([network.dropout] if network.dense is not None else [])]
    layers = network.recurrent
    between = (layers.num_layers - 1) * bool(layers.dropout)
    assert names.count("dropout") == sum(bool(m.p) for m in dropouts) + between
