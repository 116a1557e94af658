"""Every element that a network can be given changes what comes out and what goes back."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import elman.nn as en
from nn.by_hand import assert_same
from nn.networks import DOUBLE, H, I, K, OwnCell, V, spread, stack, tokens
from tolerances import assert_near

LENGTHS = [6, 3, 5]


@pytest.fixture(autouse=True)
def _plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an element does is asked here; that every backend does it, in the battery. Nothing needs to be traced."""
    monkeypatch.setenv("ELMAN_BACKEND", "loop")


def network(
    *,
    inputs: dict[str, Any] | None = None,
    layers: dict[str, Any] | None = None,
    cell: Any = "lstm",
    count: int = 2,
    dropout: float = 0.0,
    tagger: bool = False,
    **readout: Any,
) -> Any:
    torch.manual_seed(1)
    recurrent = en.recurrent_stack(cell, I, I, count, dropout=dropout, options=layers or {})
    kind = en.Tagger if tagger else en.SequenceClassifier
    return spread(kind(en.Embedding(V, I, **(inputs or {})), recurrent, V, **readout))


# Element -> the arguments that bring it in, and those of the network without it.
ELEMENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "word dropout": ({"inputs": {"word_dropout": 0.5}}, {}),
    "input dropout": ({"inputs": {"dropout": 0.5}}, {}),
    "input dropout, one mask a sequence": (
        {"inputs": {"dropout": 0.5, "sequence_dropout": True}},
        {"inputs": {"dropout": 0.5}},
    ),
    "input layer norm": ({"inputs": {"norm": "layer"}}, {}),
    "input batch norm": ({"inputs": {"norm": "batch"}}, {}),
    "dropout between layers": ({"dropout": 0.5}, {}),
    "one mask between layers": ({"dropout": 0.5, "layers": {"sequence_dropout": True}}, {"dropout": 0.5}),
    "recurrent dropout": ({"layers": {"recurrent_dropout": 0.5}}, {}),
    "weight dropout": ({"layers": {"weight_dropout": 0.5}}, {}),
    "zoneout": ({"layers": {"zoneout": 0.5}}, {}),
    "zoneout of a cell of one's own": ({"cell": OwnCell, "layers": {"zoneout": 0.5}}, {"cell": OwnCell}),
    "residual": ({"layers": {"residual": True}}, {}),
    "layer norm inside": ({"layers": {"layer_norm": "sum"}}, {}),
    "peepholes": ({"cell": "peephole-lstm"}, {}),
    "both directions": ({"layers": {"bidirectional": True}}, {}),
    "merged directions": (
        {"layers": {"bidirectional": True, "merge": "product"}},
        {"layers": {"bidirectional": True, "merge": "sum"}},
    ),
    "layer norm": ({"norm": "layer"}, {}),
    "batch norm": ({"norm": "batch"}, {}),
    "dense": ({"dense": 6}, {}),
    "another activation": ({"dense": 6, "nonlinearity": nn.Tanh()}, {"dense": 6}),
    "dropout before the output": ({"dropout": 0.0, "readout_dropout": 0.5}, {}),
    "mean": ({"pooling": "mean"}, {}),
    "max": ({"pooling": "max"}, {}),
    "attention": ({"pooling": "attention"}, {}),
    "attention beside the mean": ({"pooling": "mean+attention"}, {"pooling": "mean"}),
    "tied": ({"tagger": True, "tied": True}, {"tagger": True}),
    "one mask before the output": (
        {"tagger": True, "readout_dropout": 0.5, "sequence_dropout": True},
        {"tagger": True, "readout_dropout": 0.5},
    ),
}


def run(arguments: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The logits in training, and the gradient of the embedding's table."""
    given = dict(arguments)
    readout_dropout = given.pop("readout_dropout", 0.0)
    model = network(**given)
    model.dropout.p = readout_dropout
    x = tokens(LENGTHS, 6, wrong=0)
    torch.manual_seed(2)
    out = model(x, lengths=torch.tensor(LENGTHS))
    logits = out if isinstance(out, Tensor) else out.logits[:3]
    grad = torch.autograd.grad((logits**2).sum(), model.embedding.weight)[0]
    assert logits.isfinite().all() and grad.isfinite().all()
    return logits, grad


@pytest.mark.parametrize("element", ELEMENTS)
def test_an_element_changes_what_comes_out_and_what_goes_back(element: str) -> None:
    with_it, without = (run(arguments) for arguments in ELEMENTS[element])
    torch.manual_seed(0)
    again = run(ELEMENTS[element][0])
    for one, other, same in zip(with_it, without, again, strict=True):
        assert torch.equal(one, same), "two equal networks differ: this test would see anything"
        assert one.shape != other.shape or not torch.allclose(one, other)


@pytest.mark.parametrize(
    "element", ["word dropout", "input dropout", "dropout between layers", "recurrent dropout"]
)
def test_dropout_is_off_in_eval_mode(element: str) -> None:
    x = tokens(LENGTHS, 6)
    models = [network(**arguments).eval() for arguments in ELEMENTS[element]]
    one, other = (model(x, torch.tensor(LENGTHS)) for model in models)
    assert torch.equal(one, other)


def test_word_dropout_takes_whole_words_at_its_rate() -> None:
    drop = en.WordDropout(0.3, unknown=5)
    x = torch.randint(6, 50, (200, 50))
    y = drop(x)
    taken = y == 5
    assert (y[~taken] == x[~taken]).all()
    assert abs(float(taken.double().mean()) - 0.3) < 4 * (0.3 * 0.7 / x.numel()) ** 0.5
    assert torch.equal(drop.eval()(x), x)


def test_a_dropped_word_gives_its_gradient_to_the_unknown_one() -> None:
    table = en.Embedding(V, I, word_dropout=1.0, unknown=4).to(DOUBLE)
    x = tokens([3, 2], 3)
    table(x, torch.tensor([3, 2])).sum().backward()
    grad = table.weight.grad
    # The padding, a known number once it is masked, is dropped too; what follows does not look at it.
    assert (grad[torch.arange(V) != 4] == 0).all() and (grad[4] == 6).all()


def test_one_mask_a_sequence_is_the_same_at_all_steps() -> None:
    table = en.Embedding(V, 40, dropout=0.5, sequence_dropout=True)
    nn.init.ones_(table.weight)
    y = table(torch.zeros(7, 3, dtype=torch.long))
    assert (y == y[:1]).all() and set(y.unique().tolist()) == {0.0, 2.0}
    assert not (y[:, :1] == y).all()


def test_a_dropped_word_without_an_unknown_one_is_zeros() -> None:
    table = en.Embedding(V, I, word_dropout=0.5)
    y = table(torch.randint(V, (40, 30)))
    gone = (y == 0).all(-1)
    assert 0.4 < gone.double().mean() < 0.6
    y.sum().backward()
    assert table.weight.grad[:, 0].sum() == (~gone).sum()


def test_a_frozen_table_is_not_trained_and_the_rest_is() -> None:
    model = network(inputs={"frozen": True})
    model(tokens(LENGTHS, 6), torch.tensor(LENGTHS)).sum().backward()
    assert model.embedding.weight.grad is None
    assert model.head.weight.grad is not None and model.recurrent.weight_ih_l0.grad.abs().sum() > 0


def test_subwords_are_the_mean_of_a_token_s_pieces() -> None:
    table = en.Embedding(V, I, subwords=5).to(DOUBLE)
    pieces = [[0, 3, 3], [], [4], *([1, 2] for _ in range(V - 3))]
    starts = torch.tensor([0, *map(len, pieces)]).cumsum(0)
    table.spell([number for own in pieces for number in own], starts)
    x = torch.randint(V, (7, 4))
    x[0] = torch.arange(4)
    rows = [
        table.weight[v] + (table.subwords[pieces[v]].mean(0) if pieces[v] else 0)
        for v in x.flatten().tolist()
    ]
    expected = torch.stack(rows).view(7, 4, I)
    assert_same((table(x),), (expected,), dict(table.named_parameters()))
    assert table(torch.ones(2, 3, dtype=torch.long)).equal(table.weight[1].expand(2, 3, I))
    with pytest.raises(ValueError, match="one more than tokens"):
        table.spell([0], [0, 1])
    with pytest.raises(ValueError, match="with subwords"):
        en.Embedding(V, I).spell([0], starts)


def test_a_dropped_word_has_no_subwords() -> None:
    table = en.Embedding(V, I, subwords=2, word_dropout=1.0)
    table.spell([1] * V, range(V + 1))
    assert (table(torch.zeros(3, 2, dtype=torch.long)) == 0).all()
    assert (table.eval()(torch.zeros(3, 2, dtype=torch.long)) != 0).all()


@pytest.mark.parametrize("T", [3, 4, 5])
def test_only_calls_longer_than_a_chunk_compute_again(T: int) -> None:
    taken = 0

    class Counting(OwnCell):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal taken
            taken += 1
            return super().forward(x, h)

    for kind in ({}, {"bidirectional": True}):
        layer = en.Recurrent(Counting, I, H, checkpoint_every=4, **kind)
        taken = 0
        y = layer(torch.randn(T, 2, I))[0]
        forward = taken
        y.sum().backward()
        assert forward == T * (2 if kind else 1)
        assert taken == forward * (2 if T > 4 else 1)


def test_pretrained_vectors_are_where_they_belong() -> None:
    table = en.Embedding(V, 30)
    vectors = 0.1 * torch.randn(4, 30)
    table.load_vectors([7, 0, 3, 9], vectors.numpy())
    assert torch.equal(table.weight[[7, 0, 3, 9]], vectors)
    others = table.weight[[1, 2, 4, 5, 6, 8, 10]]
    assert 0.07 < float(others.detach().std()) < 0.13, "unknown words are as long as known ones"
    x = torch.tensor([[7], [3]])
    table(x).sum().backward()
    assert table.weight.grad[[7, 3]].eq(1).all() and table.weight.grad.sum() == 60
    with pytest.raises(ValueError, match=r"\(2, 29\).*\(N, 30\)"):
        table.load_vectors([0, 1], torch.randn(2, 29))


def test_a_tied_table_gets_the_gradients_of_both_ends() -> None:
    tied = network(tagger=True, tied=True)
    assert tied.head.weight is tied.embedding.weight
    free = network(tagger=True)
    free.load_state_dict(tied.state_dict())
    x = tokens(LENGTHS, 6)
    grads = []
    for model in (tied, free):
        logits = model(x, lengths=torch.tensor(LENGTHS)).logits
        (
            (logits[:3] * torch.linspace(-1, 1, logits[:3].numel(), dtype=DOUBLE).view_as(logits[:3])).sum()
        ).backward()
        grads.append(model.embedding.weight.grad + (0 if model is tied else model.head.weight.grad))
    assert_near(grads[0], grads[1], gradient=True)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a word that is no cell": (lambda: en.recurrent_stack("lst", I, H), "lstm, gru, rnn"),
    "an option of another cell": (
        lambda: en.recurrent_stack("gru", I, H, options={"peephole": True}),
        "peephole: gru has no such option; lstm",
    ),
    "an option that a cell of one's own lacks": (
        lambda: en.recurrent_stack(OwnCell, I, H, options={"forget_bias": 1.0}),
        "forget_bias: a cell of your own has no such option; lstm",
    ),
    "torch.nn has no such cell": (
        lambda: en.recurrent_stack("minimal-gated", I, H, engine="torch"),
        "torch.nn has lstm, gru, rnn",
    ),
    "torch.nn has no such option": (
        lambda: en.recurrent_stack("lstm", I, H, engine="torch", options={"zoneout": 0.1}),
        "zoneout: torch.nn has no such option",
    ),
    "tied, but nothing to tie": (
        lambda: en.Tagger(en.Features(I), stack("lstm"), K, tied=True),
        "has a table to share",
    ),
    "tied, but of another width": (
        lambda: en.Tagger(en.Embedding(V, I), stack("lstm"), V, tied=True),
        r"\(11, 5\).*\(11, 4\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence(case: str) -> None:
    make, sentence = REFUSED[case]
    with pytest.raises(ValueError, match=sentence):
        make()


def test_the_language_model_is_a_tagger_by_hand() -> None:
    model = spread(en.LanguageModel(V, I, H, 2, cell=OwnCell, norm=True))
    x = tokens([6, 6], 6)
    y, final = model.recurrent(model.embedding.weight[x])
    n = (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    logits = (model.norm.weight * n + model.norm.bias) @ model.head.weight.T + model.head.bias
    out = model(x, model.initial_state(2))
    assert_same(out, (logits, final), dict(model.named_parameters()))
    state = model.initial_state(2)
    for t in range(6):
        stepped, state = model.step(x[t], state)
        assert_near(stepped, out.logits[t].detach())
