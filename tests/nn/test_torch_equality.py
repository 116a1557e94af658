"""RNN, LSTM and GRU are torch's: same weights from one seed, same values, same gradients, same state dict."""

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

import elman.nn as en
from nn.by_hand import assert_same

# torch says once that its fast CPU library has no projections.
pytestmark = pytest.mark.filterwarnings(
    "ignore:LSTM with projections is not supported with oneDNN:UserWarning"
)

KINDS = ("RNN", "LSTM", "GRU")
DTYPES = (torch.float32, torch.float64)


@st.composite
def configurations(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A kind of layer and the arguments of its constructor."""
    kind = draw(st.sampled_from(KINDS))
    options: dict[str, Any] = {
        "input_size": draw(st.integers(1, 5)),
        "hidden_size": draw(st.integers(2, 6)),
        "num_layers": draw(st.integers(1, 2)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
        "dtype": draw(st.sampled_from(DTYPES)),
    }
    if options["num_layers"] > 1:
        options["dropout"] = draw(st.sampled_from((0.0, 0.4)))
    if kind == "RNN":
        options["nonlinearity"] = draw(st.sampled_from(("tanh", "relu")))
    if kind == "LSTM":
        options["proj_size"] = draw(st.integers(0, options["hidden_size"] - 1))
    return kind, options


def pair(kind: str, options: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """torch's layer and ours, each made from the same seed."""
    layers = []
    for library in (nn, en):
        torch.manual_seed(11)
        layers.append(getattr(library, kind)(**options))
    return layers[0], layers[1]


def states_for(options: dict[str, Any], kind: str, B: int | None) -> Any:
    rows = () if B is None else (B,)
    n = options["num_layers"] * (2 if options["bidirectional"] else 1)
    H = options["hidden_size"]
    h = torch.randn(n, *rows, options.get("proj_size") or H, dtype=options["dtype"], requires_grad=True)
    return (h, torch.randn(n, *rows, H, dtype=options["dtype"], requires_grad=True)) if kind == "LSTM" else h


def input_for(options: dict[str, Any], T: int, B: int) -> Tensor:
    shape = (B, T) if options["batch_first"] else (T, B)
    return torch.randn(*shape, options["input_size"], dtype=options["dtype"], requires_grad=True)


def assert_equal_layers(
    theirs: nn.Module, ours: nn.Module, x: Any, hx: Any, extra: dict[str, Tensor]
) -> None:
    """Values, and gradients with respect to `extra` and to all parameters."""
    parameters = dict(theirs.named_parameters())
    assert list(parameters) == [name for name, _ in ours.named_parameters()]
    actual = ours(x, hx)
    assert_same(actual, theirs(x, hx), dict(ours.named_parameters()) | extra, parameters | extra)


def given_state(hx: Any) -> dict[str, Tensor]:
    return {f"hx[{i}]": t for i, t in enumerate(hx if isinstance(hx, tuple) else (hx,)) if t is not None}


@settings(max_examples=14)
@given(configurations(), st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_dense_equals_torch(case: tuple[str, dict[str, Any]], T: int, B: int, with_state: bool) -> None:
    theirs, ours = pair(*case)
    x = input_for(case[1], T, B)
    hx = states_for(case[1], case[0], B) if with_state else None
    theirs.eval()
    ours.eval()
    assert_equal_layers(theirs, ours, x, hx, {"x": x, **given_state(hx)})


@settings(max_examples=10)
@given(configurations(), st.lists(st.integers(1, 5), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_packed_equals_torch(case: Any, lengths: list[int], is_sorted: bool, with_state: bool) -> None:
    kind, options = case
    theirs, ours = (layer.eval() for layer in pair(kind, options))
    lengths = sorted(lengths, reverse=True) if is_sorted else lengths
    rows = [
        torch.randn(n, options["input_size"], dtype=options["dtype"], requires_grad=True) for n in lengths
    ]
    packed = pack_sequence(rows, enforce_sorted=is_sorted)
    hx = states_for(options, kind, len(rows)) if with_state else None
    assert_equal_layers(
        theirs, ours, packed, hx, {f"row {i}": r for i, r in enumerate(rows)} | given_state(hx)
    )
    y, expected = ours(packed, hx)[0], theirs(packed, hx)[0]
    assert isinstance(y, PackedSequence)
    for actual, wanted in zip(y[1:], expected[1:], strict=True):
        assert (actual is None and wanted is None) or torch.equal(actual, wanted)


@settings(max_examples=6)
@given(configurations(), st.integers(1, 5), st.booleans())
def test_one_sequence_equals_torch(case: Any, T: int, with_state: bool) -> None:
    kind, options = case
    theirs, ours = (layer.eval() for layer in pair(kind, options))
    x = torch.randn(T, options["input_size"], dtype=options["dtype"], requires_grad=True)
    hx = states_for(options, kind, None) if with_state else None
    assert_equal_layers(theirs, ours, x, hx, {"x": x, **given_state(hx)})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_dropout_between_layers_draws_what_torch_draws(kind: str, batch_first: bool) -> None:
    options = {"input_size": 3, "hidden_size": 4, "num_layers": 3, "dropout": 0.5, "batch_first": batch_first}
    theirs, ours = pair(kind, {**options, "bidirectional": True, "dtype": torch.float64})
    x = torch.randn(5, 6, 3, dtype=torch.float64, requires_grad=True)
    outputs = []
    for layer in (theirs, ours):
        torch.manual_seed(5)
        outputs.append(layer(x))
    parameters = (dict(ours.named_parameters()), dict(theirs.named_parameters()))
    assert_same(outputs[1], outputs[0], parameters[0] | {"x": x}, parameters[1] | {"x": x})
    assert not torch.equal(ours(x)[0], ours(x)[0]), "another mask at every call"


@pytest.mark.parametrize("kind", KINDS)
def test_state_dict_goes_both_ways(kind: str) -> None:
    options = {"input_size": 3, "hidden_size": 4, "num_layers": 2, "bidirectional": True}
    options |= {"proj_size": 2} if kind == "LSTM" else {}
    theirs, ours = getattr(nn, kind)(**options), getattr(en, kind)(**options)
    x = torch.randn(5, 2, 3)
    assert not torch.allclose(theirs(x)[0], ours(x)[0])
    assert [*ours.state_dict()] == [*theirs.state_dict()]
    ours.load_state_dict(theirs.state_dict())
    assert_same(ours(x), theirs(x), {})
    ours.reset_parameters()
    theirs.load_state_dict(ours.state_dict())
    assert_same(ours(x), theirs(x), {})
    for mine, other in zip(ours.all_weights, theirs.all_weights, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))


BAD_CALLS = {
    "1-D input": lambda x, h: (x[0, 0], None),
    "4-D input": lambda x, h: (x[None], None),
    "wrong input_size": lambda x, h: (x[..., :2], None),
    "wrong dtype": lambda x, h: (x.double(), None),
    "no steps": lambda x, h: (x[:0], None),
    "state of another batch": lambda x, h: (x, _map(lambda s: s[:, :1], h)),
    "state of another width": lambda x, h: (x, _map(lambda s: s[..., :1], h)),
    "state of another number of layers": lambda x, h: (x, _map(lambda s: s[:1], h)),
    "state without a batch axis": lambda x, h: (x, _map(lambda s: s[:, 0], h)),
    "batched state of one sequence": lambda x, h: (x[:, 0], h),
    "state of another dtype": lambda x, h: (x, _map(lambda s: s.double(), h)),
}


def _map(f: Any, h: Any) -> Any:
    return tuple(map(f, h)) if isinstance(h, tuple) else f(h)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", BAD_CALLS)
def test_bad_input_raises_what_torch_raises(kind: str, bad: str) -> None:
    theirs, ours = getattr(nn, kind)(3, 4, num_layers=2), getattr(en, kind)(3, 4, num_layers=2)
    h = torch.zeros(2, 5, 4)
    x, hx = BAD_CALLS[bad](torch.randn(6, 5, 3), (h, h) if kind == "LSTM" else h)
    try:
        theirs(x, hx)
    except (ValueError, RuntimeError) as error:
        expected = type(error)
    with pytest.raises(expected):
        ours(x, hx)


BAD_ARGUMENTS = [
    {"hidden_size": 0},
    {"hidden_size": 2.5},
    {"input_size": 0},
    {"input_size": "3"},
    {"num_layers": 0},
    {"dropout": 1.5},
    {"dropout": True},
    {"bias": 1},
    {"batch_first": 1},
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", BAD_ARGUMENTS, ids=str)
def test_bad_arguments_raise_what_torch_raises(kind: str, bad: dict[str, Any]) -> None:
    options = {"input_size": 3, "hidden_size": 4, **bad}
    with pytest.raises((ValueError, TypeError)) as theirs:
        getattr(nn, kind)(**options)
    with pytest.raises(theirs.type) as ours:
        getattr(en, kind)(**options)
    assert next(iter(bad)) in str(ours.value)


def test_dropout_of_one_layer_warns() -> None:
    with pytest.warns(UserWarning, match="num_layers=1"):
        en.GRU(3, 4, dropout=0.5)


@pytest.mark.parametrize("bad", [{"proj_size": -1}, {"proj_size": 4}])
def test_bad_projection(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="proj_size"):
        en.LSTM(3, 4, **bad)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_alike_and_apart(kind: str) -> None:
    layer = getattr(en, kind)(3, 4, num_layers=2)
    x = torch.randn(5, 2, 3)
    expected = layer(x)
    for copied in (copy.deepcopy(layer), copy.copy(layer), pickle.loads(pickle.dumps(layer))):
        assert_same(copied(x), expected, {})
    apart = copy.deepcopy(layer)
    with torch.no_grad():
        apart.weight_hh_l1.zero_()
    assert not torch.equal(apart(x)[0], expected[0])
    assert_same(layer(x), expected, {})


@pytest.mark.parametrize("kind", KINDS)
def test_module_moves_and_meta(kind: str) -> None:
    layer = getattr(en, kind)(3, 4, device="meta")
    assert all(p.is_meta for p in layer.parameters())
    theirs, ours = pair(kind, {"input_size": 3, "hidden_size": 4})
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    assert_same(ours.double()(x), theirs.double()(x), {})


@pytest.mark.parametrize("kind", KINDS)
def test_pack_padded_with_enforce_sorted(kind: str) -> None:
    theirs, ours = pair(kind, {"input_size": 3, "hidden_size": 4, "batch_first": True})
    x = torch.randn(3, 5, 3)
    packed = pack_padded_sequence(x, torch.tensor([5, 3, 2]), batch_first=True)
    assert_same(ours(packed), theirs(packed), {})


def test_empty_batch() -> None:
    for kind in KINDS:
        ours = getattr(en, kind)(3, 4)
        y, _ = ours(torch.randn(5, 0, 3))
        assert y.shape == (5, 0, 4)
