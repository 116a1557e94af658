"""Whole networks, frozen: the logits of the network itself, as near as two orders of a sum, with ragged rows too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from elman import nn as en
from elman.frozen import frozen_bytes
from elman.runtime import Frozen
from tests.frozen.running import assert_same, spread
from tests.nn.networks import CELLS, I, K, V, stack

T, B = 6, 4
LENGTHS = torch.tensor([3, 6, 1, 0])


def embedding(**options):
    return en.Embedding(V, I, **options)


TAGGERS = {
    "plain": lambda: en.Tagger(embedding(), stack("lstm"), K),
    "norms": lambda: en.Tagger(embedding(norm="layer"), stack("gru", layers=2), K, norm="layer", dense=6),
    "batch norm": lambda: en.Tagger(embedding(norm="batch"), stack("rnn"), K, norm="batch", dropout=0.5),
    "two directions": lambda: en.Tagger(embedding(), stack("lstm", layers=2, bidirectional=True), K),
    "tied": lambda: en.LanguageModel(V, I, I, 2, tied=True, dropout=0.3, norm=True),
    "features": lambda: en.Tagger(en.Features(I, 7, norm="layer"), stack("gru", input_size=7), K),
    "features as they come": lambda: en.Tagger(
        en.Features(I), stack("gru"), K, nonlinearity=nn.Tanh(), dense=5
    ),
    "torch's layers": lambda: en.Tagger(embedding(), nn.LSTM(I, 7, 2, bidirectional=True), K),
    "torch's projection": lambda: en.Tagger(embedding(), nn.LSTM(I, 7, proj_size=3), K),
    "torch's rnn": lambda: en.Tagger(embedding(), nn.RNN(I, 7, nonlinearity="relu"), K),
    **{f"cell {c}": lambda c=c: en.LanguageModel(V, I, 7, cell=CELLS[c]) for c in CELLS},
}
CLASSIFIERS = {
    f"{pooling} {kind}": lambda pooling=pooling, options=options: en.SequenceClassifier(
        embedding(), stack("lstm", **options), K, pooling=pooling, norm="layer", dense=5
    )
    for pooling in ("last", "mean", "max", "attention", "last+max", "attention+mean+last")
    for kind, options in {
        "": {}, "two directions": {"bidirectional": True}, "sum": {"bidirectional": True, "merge": "sum"},
    }.items()
}  # fmt: skip
CLASSIFIERS |= {
    "from the end": lambda: en.SequenceClassifier(
        embedding(), en.Recurrent(en.GRUCell, I, 4, reverse=True), K
    ),
    "from both ends, turned": lambda: en.SequenceClassifier(
        embedding(), en.Recurrent(en.GRUCell, I, 4, reverse=True, bidirectional=True), K, norm="batch"
    ),
    "features": lambda: en.SequenceClassifier(en.Features(I, 6, norm="batch"), stack("gru", input_size=6), K),
}


def some(names, *fast):
    """All of them, those that are not named here marked as slow."""
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in names]


def made(make):
    torch.manual_seed(1)
    network = spread(make()).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    tokens = isinstance(network.embedding, en.Embedding)
    return network, torch.randint(V, (T, B)) if tokens else torch.randn(T, B, I)


def assert_near(a, b):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=4e-6 * np.abs(b).max(initial=1))


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", some(TAGGERS, "plain", "norms", "tied", "torch's layers", "cell own"))
@torch.no_grad()
def test_taggers(name):
    network, x = made(TAGGERS[name])
    frozen = Frozen(frozen_bytes(network))
    whole = frozen.run(x.numpy()).y
    assert_near(whole, network(x)[0].numpy())
    lengths = (
        LENGTHS.clamp(min=1) if name.startswith("torch's") else LENGTHS
    )  # torch knows no rows of no steps
    ragged = frozen.run(x.numpy(), lengths=lengths).y
    expected = network(x, lengths=lengths)[0].numpy()
    for b, n in enumerate(lengths):
        assert_near(ragged[:n, b], expected[:n, b])
        assert not ragged[n:, b].any()
    if frozen.can_step:
        stream = frozen.stream(B)
        assert_same([np.stack([stream(v) for v in x.numpy()])], [whole], "step by step")


@pytest.mark.parametrize(
    "name",
    some(CLASSIFIERS, "attention+mean+last two directions", "max sum", "from both ends, turned", "last "),
)
@torch.no_grad()
def test_classifiers(name):
    network, x = made(CLASSIFIERS[name])
    frozen = Frozen(frozen_bytes(network))
    assert frozen.outputs[0].per_sequence
    assert not frozen.can_step
    assert_near(frozen.run(x.numpy()).y, network(x).numpy())
    assert_near(frozen.run(x.numpy(), lengths=LENGTHS).y, network(x, LENGTHS).numpy())


def test_a_token_that_is_not_in_the_vocabulary_is_refused_before_any_step():
    network, x = made(TAGGERS["plain"])
    frozen = Frozen(frozen_bytes(network))
    stream, x = frozen.stream(B), x.numpy()
    stream(x[0])
    before = stream.state
    for wrong in (-1, V):
        bad = x.copy()
        bad[1, 2] = wrong
        said = rf"tokens has the number {wrong}, expected 0\.\.{V - 1}"
        for call in (lambda bad=bad: stream(bad[1]), lambda bad=bad: stream.step_rows([0, 2], bad[1, [0, 2]]),
                     lambda bad=bad: frozen.run(bad)):  # fmt: skip
            with pytest.raises(ValueError, match=said):
                call()
    assert_same(stream.state, before, "the state")
    bad = x.copy()
    bad[3:, 0] = 99  # in the padding nobody looks
    frozen.run(bad, lengths=[3, 6, 6, 6])


def test_subwords_are_in_the_table():
    torch.manual_seed(0)
    table = embedding(subwords=7)
    table.spell([0, 3, 6, 2], [0, 2, 2, 3, 4] + [4] * (V - 4))
    network = en.Tagger(table, stack("gru"), K).eval()
    x = torch.randint(V, (T, B))
    assert_near(Frozen(frozen_bytes(network)).run(x.numpy()).y, network(x)[0].detach().numpy())


def test_other_networks_are_refused():
    with pytest.raises(TypeError, match="SequenceGenerator cannot be frozen yet"):
        frozen_bytes(_generator())

    class Strange(nn.Module):
        def forward(self, x):
            return x

    with pytest.raises(TypeError, match="an embedding of the kind Strange"):
        frozen_bytes(en.Tagger(Strange(), stack("gru"), K))


def _generator():
    class SequenceGenerator(en.networks.network.Network):
        def __init__(self):
            super().__init__(
                embedding(), stack("gru"), K, features=4, norm="none", dense=0, nonlinearity=None, dropout=0.0,
                sequence_dropout=False, tied=False,
            )  # fmt: skip

    return SequenceGenerator()
