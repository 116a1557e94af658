"""A network run one step at a time gives what it gives over the whole sequence, whatever it is made of."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

import elman.nn as en
from elman.decoding import Draw, probabilities
from elman.nn.networks import LanguageModel, Tagger
from tests.nn.networks import CELLS, OwnCell, V
from tests.tolerances import assert_near

H = 6
NETWORKS = {
    **{cell: {"cell": made} for cell, made in CELLS.items() if cell != "own"},
    "two layers": {"layers": 2, "dropout": 0.5},
    "residual": {"layers": 2, "extras": {"residual": True}},
    "tied": {"tied": True},
    "layer norm": {"norm": "layer"},
    "batch norm": {"norm": "batch"},
    "input norm": {"input_norm": "layer"},
    "norm in the cell": {"extras": {"layer_norm": "separate"}},
    "word dropout": {"word_dropout": 0.5, "unknown": 0},
    "torch's layers": {"engine": "torch", "layers": 2},
    "a cell of one's own": {"cell": OwnCell},
}


def made(name, dtype=torch.float64):
    torch.manual_seed(len(name))
    model = LanguageModel(V, H, H, **{"layers": 1, **NETWORKS[name]}).to(dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model.eval()


def whole(model, tokens, state=None):
    with torch.no_grad():
        return model(tokens, model.initial_state(tokens.shape[1]) if state is None else state)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_steps_are_the_sequence(name, dtype):
    model = made(name, dtype)
    for batch in (1, 3):
        tokens = torch.randint(V, (7, batch))
        want = whole(model, tokens)
        stream = model.read(tokens[:3])
        got = torch.stack([stream(x_t.tolist()) for x_t in tokens[3:]])
        assert_near(got, want.logits[3:], what=f"{name}, {batch} rows")
        for a, b in zip(leaves(stream.state), leaves(want.state), strict=True):
            assert_near(a, b, what=f"the state of {name}")


WAYS = {"greedy": {"temperature": 0}, "drawn": {"temperature": 0.9, "top_k": 8, "top_p": 0.95}}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_what_the_stream_writes_is_what_steps_write(name, dtype):
    model = made(name, dtype)
    for options in WAYS.values():
        draw, stream, token, found = Draw(V, seed=4, **options), model.stream(), 1, []
        uniform = torch.rand(256, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
        state, last, want = model.initial_state(1), torch.tensor([1]), []
        for u in uniform[:25]:
            [token] = draw(stream([token]))
            found.append(token)
            logits, state = model.step(last, state)
            last = torch.searchsorted(probabilities(logits, **options)[0].cumsum(-1), u, right=True).view(1)
            want.append(int(last))
        assert found == want


def leaves(state):
    return torch.utils._pytree.tree_leaves(state)


@pytest.mark.parametrize("name", ["lstm", "gru", "a cell of one's own", "torch's layers"])
def test_rows_are_picked_reset_and_copied(name):
    model = made(name)
    tokens = torch.randint(V, (6, 3))
    want = whole(model, tokens).logits
    stream = model.read(tokens[:2])
    other, few = stream.copy(), stream.pick([2, 0, 2])
    assert_near(few(tokens[2, [2, 0, 2]]), want[2][[2, 0, 2]], what="rows that were picked")
    stream(tokens[2])
    stream.reset(torch.tensor([True, False, False]))
    again = whole(model, tokens[2:3], leaves_after(model, tokens[:2])).logits[0]
    got = stream(tokens[3].where(torch.tensor([False, True, True]), tokens[2]))
    assert_near(got, torch.cat([again[:1], want[3][1:]]), what="a reset of one row")
    for x_t, expected in zip(tokens[2:], want[2:], strict=True):
        assert_near(other(x_t), expected, what="the copy goes its own way")
    other.reset()
    assert_near(other(tokens[2]), want[2], what="a reset of all rows")


def leaves_after(model, tokens):
    return whole(model, tokens).state


def test_prompts_of_several_lengths_are_read_at_once():
    model = made("two layers")
    tokens, lengths = torch.randint(V, (5, 3)), torch.tensor([5, 0, 2])
    stream = model.read(tokens, lengths=lengths)
    got = stream([1, 2, 3])
    for b, n in enumerate(lengths.tolist()):
        alone = torch.cat([tokens[:n, b], torch.tensor([b + 1])]).unsqueeze(1)
        assert_near(got[b], whole(model, alone).logits[-1, 0], what=f"row {b}")
    assert_near(
        model.read(tokens[:0])([1, 2, 3])[0], whole(model, torch.tensor([[1]])).logits[0, 0], what="no prompt"
    )


@pytest.mark.parametrize("change", ["in place", "in the place of data", "another parameter"])
@pytest.mark.parametrize("part", ["embedding", "head", "recurrent"])
def test_a_change_of_the_parameters_is_seen_at_the_next_step(part, change):
    model = made("lstm")
    stream = model.stream()
    stream([1])
    owner = getattr(model, part)
    names = ["weight_ih_l0"] if part == "recurrent" else [n for n in ("weight", "bias") if hasattr(owner, n)]
    state = stream.state
    for name in names:
        old = getattr(owner, name)
        if change == "in place":
            with torch.no_grad():
                old.mul_(2)
        elif change == "in the place of data":
            old.data = old.data * 2
        else:
            setattr(owner, name, nn.Parameter(old.detach() * 2))
    assert_near(
        stream([2])[0], whole(model, torch.tensor([[2]]), state).logits[0, 0], what=f"{part}, {change}"
    )


def test_hooks_of_the_parts_are_called():
    model, seen = made("lstm"), []
    model.head.register_forward_hook(lambda *given: seen.append("head"))
    model.stream()([1])
    assert seen == ["head"]
    model.embedding.register_forward_pre_hook(lambda *given: seen.append("embedding"))
    model.stream()([1])
    assert seen == ["head", "embedding", "head"]


def test_features_and_a_dense_layer():
    torch.manual_seed(0)
    model = Tagger(en.Features(4, 5), en.GRU(5, 7), 3, norm="layer", dense=6, dropout=0.3).double().eval()
    x = torch.randn(5, 2, 4, dtype=torch.float64)
    with torch.no_grad():
        want = model(x).logits
    stream = model.read(x[:1])
    assert_near(torch.stack([stream(x_t) for x_t in x[1:]]), want[1:], what="features")


def test_what_cannot_be_a_stream_says_why():
    model = made("lstm")
    with pytest.raises(ValueError, match="2 rows of x were given to a stream of 1"):
        model.stream()([1, 2])
    with pytest.raises(IndexError):
        model.stream()([V])
    with pytest.raises(IndexError):
        model.stream()([-1])
    with pytest.raises(ValueError, match=r"call eval\(\) before stream"):
        model.train().stream()
    both = Tagger(en.Embedding(V, 4), en.LSTM(4, 4, bidirectional=True), 3).eval()
    with pytest.raises(ValueError, match="needs the whole sequence"):
        both.stream()


def test_the_layers_and_what_is_behind_them_are_one_call_of_the_core():
    for name in ("lstm", "gru", "two layers", "residual", "layer norm", "tied", "norm in the cell"):
        stream = made(name, torch.float32).stream()
        assert stream.path == "native, whole", name
    stream = made("a cell of one's own").stream()
    stream([1])
    assert stream.path == "native"
    assert made("torch's layers").stream().path == "called"


def test_a_copy_of_a_network_has_a_step_of_its_own():
    model = made("lstm")
    before = model.stream()([1])
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.head.weight.mul_(3)
        twin.recurrent.weight_hh_l0.mul_(2)
    stream = twin.stream()
    for token, want in zip([1, 4], whole(twin, torch.tensor([[1], [4]])).logits, strict=True):
        assert_near(stream([token]), want, what="the copy")
    assert torch.equal(model.stream()([1]), before)
    alive = weakref.ref(twin)
    del twin, stream
    gc.collect()
    assert alive() is None
