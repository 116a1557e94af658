"""Many to one: each row by its own length, whatever it is made of."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import elman.nn as en
from nn.by_hand import assert_same
from nn.networks import CELLS, DOUBLE, H, I, K, V, features, spread, stack, tokens
from tolerances import assert_near

KINDS = ("last", "mean", "max", "attention", "max+mean", "last+attention", "attention+max+last+mean")


def pooled_by_hand(model: en.SequenceClassifier, y: Tensor) -> Tensor:
    """One row's outputs `(n, H)`, n > 0, pooled step by step."""
    half = y.shape[1] // 2
    last = {
        "last": lambda: y[-1],
        "first": lambda: y[0],
        "halves": lambda: torch.cat((y[-1, :half], y[0, half:])),
        "turned": lambda: torch.cat((y[0, :half], y[-1, half:])),
        "both": lambda: torch.cat((y[-1], y[0])),
    }

    def attention() -> Tensor:
        pool = model.pooling.attention
        scores = [pool.query.weight[0] @ torch.tanh(pool.project.weight @ h + pool.project.bias) for h in y]
        shares = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
        return sum(a * h for a, h in zip(shares, y, strict=True))

    take = {
        "last": last[model.pooling.ends],
        "mean": lambda: sum(y) / len(y),
        "max": lambda: torch.stack([column[column.argmax()] for column in y.T]),
        "attention": attention,
    }
    return torch.cat([take[kind]() for kind in model.pooling.kinds])


def row_by_row(model: en.SequenceClassifier, x: Tensor, lengths: list[int]) -> Tensor:
    rows = []
    for b, n in enumerate(lengths):
        if n == 0:
            pooled = torch.zeros(model.pooling.output_size, dtype=DOUBLE)
        else:
            y = model.recurrent(model.embedding(x[:n, b : b + 1])).y
            pooled = pooled_by_hand(model, y[:, 0])
        normed = model.norm(pooled)
        hidden = normed if model.dense is None else torch.relu(model.dense(normed))
        rows.append(model.head.weight @ hidden + model.head.bias)
    return torch.stack(rows)


def assert_rows_are_alone(
    cell: str,
    options: dict[str, Any],
    lengths: list[int],
    *,
    layers: int = 1,
    kinds: str,
    norm: str = "none",
    dense: int = 0,
    words: bool = True,
) -> None:
    inputs = en.Embedding(V, I, norm=norm) if words else en.Features(I + 2, I, norm=norm)
    recurrent = stack(cell, layers=layers, **options)
    model = spread(en.SequenceClassifier(inputs, recurrent, K, pooling=kinds, norm=norm, dense=dense))
    T = max(1, *lengths) + 1
    x = tokens(lengths, T) if words else features(lengths, T, I + 2)
    actual = model(x, torch.tensor(lengths))
    assert_same(actual, row_by_row(model, x, lengths), dict(model.named_parameters()))


@pytest.mark.parametrize("kinds", KINDS)
def test_a_padded_batch_is_each_row_alone(kinds: str) -> None:
    assert_rows_are_alone("own", {"bidirectional": True}, [4, 0, 6, 1], kinds=kinds, norm="layer", dense=6)


@pytest.mark.slow
@given(
    cell=st.sampled_from(list(CELLS)),
    merge=st.sampled_from(["", "concat", "sum", "mean", "product"]),
    layers=st.integers(1, 2),
    kinds=st.sampled_from(KINDS),
    norm=st.sampled_from(["none", "layer"]),
    dense=st.sampled_from([0, 6]),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    words=st.booleans(),
)
@settings(max_examples=60)
def test_whatever_it_is_made_of(
    cell: str, merge: str, layers: int, kinds: str, norm: str, dense: int, lengths: list[int], words: bool
) -> None:
    options = {"bidirectional": True, "merge": merge} if merge else {}
    assert_rows_are_alone(
        cell, options, lengths, layers=layers, kinds=kinds, norm=norm, dense=dense, words=words
    )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("both", [False, True])
def test_the_last_output_of_a_reversed_layer_is_at_the_first_step(reverse: bool, both: bool) -> None:
    layer = en.Recurrent(en.GRUCell, I, H, reverse=reverse, bidirectional=both)
    model = spread(en.SequenceClassifier(en.Features(I), layer, K))
    x = features([4, 6], 6)
    state = torch.cat(layer(x, lengths=torch.tensor([4, 6])).state, -1)
    expected = state @ model.head.weight.T + model.head.bias
    assert_near(model(x, torch.tensor([4, 6])), expected)


def test_lengths_may_be_left_out() -> None:
    model = spread(en.SequenceClassifier(en.Embedding(V, I), stack("gru"), K, pooling="+".join(en.POOLINGS)))
    x = tokens([5, 5, 5], 5)
    assert_same(model(x), model(x, torch.full((3,), 5)), dict(model.named_parameters()))


def test_the_weights_of_the_steps_sum_to_one_and_are_what_was_used() -> None:
    model = spread(en.SequenceClassifier(en.Embedding(V, I), stack("lstm"), K, pooling="attention"))
    lengths = [5, 0, 2]
    x = tokens(lengths, 6)
    shares = model.attention(x, torch.tensor(lengths))
    assert_near(shares.sum(0), torch.tensor([1.0, 0.0, 1.0], dtype=DOUBLE))
    assert (shares[2:, 2] == 0).all() and (shares[:, 1] == 0).all()
    y = model.recurrent(model.embedding(x, torch.tensor(lengths)), lengths=torch.tensor(lengths)).y
    expected = model.head((shares.unsqueeze(-1) * y).sum(0))
    assert_near(model(x, torch.tensor(lengths)), expected)
    with pytest.raises(ValueError, match="weighs no steps"):
        en.SequenceClassifier(en.Embedding(V, I), stack("lstm"), K).attention(x)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("both", [False, True])
def test_layers_of_torch_give_the_same(cell: str, both: bool) -> None:
    theirs = en.recurrent_stack(cell, I, H, 2, engine="torch", options={"bidirectional": both})
    ours = en.recurrent_stack(cell, I, H, 2, options={"bidirectional": both})
    table = en.Embedding(V, I)
    one = en.SequenceClassifier(table, theirs, K, pooling="last+max").to(DOUBLE)
    other = en.SequenceClassifier(table, ours, K, pooling="last+max").to(DOUBLE)
    other.load_state_dict(one.state_dict())
    lengths = torch.tensor([3, 6, 1])
    x = tokens(lengths.tolist(), 7)
    expected = dict(one.named_parameters())
    assert_same(
        other(x, lengths), one(x, lengths), {n: dict(other.named_parameters())[n] for n in expected}, expected
    )


@pytest.mark.parametrize("kinds", ["median", "max+max", "", "max+"])
def test_unknown_poolings_are_named(kinds: str) -> None:
    with pytest.raises(ValueError, match=r"last, mean, max, attention"):
        en.Pooling(H, kinds)


def test_what_cannot_be_read_is_refused_in_a_sentence() -> None:
    class Mute(nn.Module):
        pass

    with pytest.raises(ValueError, match="output_size"):
        en.SequenceClassifier(en.Embedding(V, I), Mute(), K)
    with pytest.raises(ValueError, match="batch_first"):
        en.SequenceClassifier(en.Embedding(V, I), en.LSTM(I, H, batch_first=True), K)
    model = en.SequenceClassifier(en.Embedding(V, I), stack("lstm"), K)
    with pytest.raises(ValueError, match="one length for each row"):
        model(tokens([2, 2], 2), torch.tensor([2]))


def test_one_to_one_is_the_dense_network() -> None:
    """T = 1 from zeros: s = tanh(U x + b), o = V s + c; the same weights, values and gradients."""
    model = spread(en.SequenceClassifier(en.Features(I), en.RNN(I, H), K))
    dense = nn.Sequential(nn.Linear(I, H), nn.Tanh(), nn.Linear(H, K)).to(DOUBLE)
    layer = model.recurrent
    with torch.no_grad():
        dense[0].weight.copy_(layer.weight_ih_l0)
        dense[0].bias.copy_(layer.bias_ih_l0 + layer.bias_hh_l0)
        dense[2].load_state_dict(model.head.state_dict())
    x = torch.randn(1, 7, I, dtype=DOUBLE, requires_grad=True)
    ours = {
        "x": x,
        "U": layer.weight_ih_l0,
        "b": layer.bias_ih_l0,
        "V": model.head.weight,
        "c": model.head.bias,
    }
    theirs = {
        "x": x,
        "U": dense[0].weight,
        "b": dense[0].bias,
        "V": dense[2].weight,
        "c": dense[2].bias,
    }
    assert_same(model(x), dense(x[0]), ours, theirs)
