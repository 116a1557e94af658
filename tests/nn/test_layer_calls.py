"""The call of RNN, LSTM and GRU beyond torch's: lengths, resets, all states, chunks, layouts, other parameters."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.rnn import pack_padded_sequence

import elman.nn as en
from elman.engine import EngineError, Scan
from elman.nn.layout import lay_out
from elman.nn.vendor import run_vendor
from nn import by_hand
from nn.by_hand import FAST, assert_same, leaves, unroll, weights_of
from tolerances import assert_near

DOUBLE = torch.float64
KINDS = ("RNN", "LSTM", "GRU")
I, H = 3, 4
STEPS = {"RNN": by_hand.rnn_step, "LSTM": by_hand.lstm_step, "GRU": by_hand.gru_step}


def make(kind: str, **options: Any) -> Any:
    return getattr(en, kind)(I, H, dtype=DOUBLE, fallback="error", **options)


def random_state(layer: Any, B: int) -> Any:
    n = layer.num_layers * layer.num_directions
    parts = tuple(torch.randn(n, B, H, dtype=DOUBLE, requires_grad=True) for _ in layer.state_names)
    return parts if len(parts) > 1 else parts[0]


def parts_of(hx: Any) -> tuple[Tensor, ...]:
    return hx if isinstance(hx, tuple) else (hx,)


def by_hand_stack(layer: Any, x: Tensor, hx: Any, target: Any, lengths: Any, reset: Any) -> Any:
    """The whole stack by hand: (y, state, states) as the layer gives them, time first."""
    finals, histories, k = [], [], 0
    for i in range(layer.num_layers):
        ways = []
        for suffix in ("", "_reverse")[: layer.num_directions]:
            step = STEPS[type(layer).__name__](weights_of(layer, f"_l{i}{suffix}"))
            y, final, states = unroll(
                step,
                x,
                [s[k] for s in parts_of(hx)],
                lengths=lengths,
                reset=reset,
                target=None if target is None else [s[k] for s in parts_of(target)],
                reverse=bool(suffix),
            )
            ways.append(y)
            finals.append(final)
            histories.append(states)
            k += 1
        x = torch.cat(ways, -1)
    stacked = [tuple(torch.stack(p) for p in zip(*each, strict=True)) for each in (finals, histories)]
    return (x, *stacked)


@settings(max_examples=14)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
    st.integers(1, 5),
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.sampled_from(("none", "zeros", "given")),
    st.booleans(),
)
def test_lengths_resets_and_states_by_hand(
    kind: str,
    layers: int,
    both: bool,
    batch_first: bool,
    T: int,
    ends: list[int],
    resets: str,
    with_lengths: bool,
) -> None:
    torch.manual_seed(sum(ends) + T)
    B, ends = len(ends), [min(n, T) for n in ends]
    layer = make(kind, num_layers=layers, bidirectional=both, batch_first=batch_first)
    x = torch.randn(T, B, I, dtype=DOUBLE, requires_grad=True)
    hx, target = random_state(layer, B), random_state(layer, B)
    reset = None if resets == "none" else torch.rand(T, B) < 0.3
    own_target = target if resets == "given" else None
    lengths = ends if with_lengths else None
    turned = (lambda v: v.transpose(0, 1)) if batch_first else (lambda v: v)
    actual = layer(
        turned(x),
        hx,
        lengths=None if lengths is None else torch.tensor(lengths, dtype=torch.int32),
        reset=None if reset is None else turned(reset),
        initial_state=own_target,
        return_states=True,
    )
    y, state, states = by_hand_stack(layer, x, hx, own_target, lengths, reset)
    states = tuple(s.transpose(1, 2) if batch_first else s for s in states)
    inputs = {"x": x, **dict(layer.named_parameters())}
    inputs |= {f"hx {i}": s for i, s in enumerate(parts_of(hx))}
    inputs |= {f"target {i}": s for i, s in enumerate(parts_of(target))}
    assert_same(actual, (turned(y), state, states), inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_initial_state_is_the_start_where_no_state_is_given(kind: str) -> None:
    layer = make(kind)
    x, start = torch.randn(5, 2, I, dtype=DOUBLE), random_state(layer, 2)
    assert_same(layer(x, initial_state=start), layer(x, start), {})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("both", [False, True])
def test_nan_in_the_padding_reaches_nothing(kind: str, both: bool) -> None:
    layer = make(kind, num_layers=2, bidirectional=both)
    ends = [5, 0, 2]
    x = torch.randn(5, 3, I, dtype=DOUBLE)
    results = []
    for filler in (0.0, float("nan")):
        filled = x.clone()
        for b, n in enumerate(ends):
            filled[n:, b] = filler
        filled.requires_grad_()
        out = layer(filled, lengths=torch.tensor(ends), return_states=True)
        grads = by_hand.gradients(leaves(out), {"x": filled, **dict(layer.named_parameters())})
        assert all(leaf.isfinite().all() for leaf in leaves(out))
        assert all((out.y[n:, b] == 0).all() for b, n in enumerate(ends))
        assert all((grads["x"][n:, b] == 0).all() for b, n in enumerate(ends))
        results.append((out, grads))
    assert_same(results[1][0], results[0][0], {})
    for name, grad in results[0][1].items():
        assert_near(results[1][1][name], grad, gradient=True, what=name)


@pytest.mark.parametrize("kind", KINDS)
def test_padded_batch_is_each_sequence_alone(kind: str) -> None:
    layer = make(kind, num_layers=2, bidirectional=True, batch_first=True)
    ends = [4, 1, 5]
    x = torch.randn(3, 5, I, dtype=DOUBLE)
    y, state = layer(x, lengths=torch.tensor(ends))
    for b, n in enumerate(ends):
        alone = layer(x[b, :n])
        assert_near(y[b, :n], alone.y)
        assert_same(tuple(s[:, b] for s in parts_of(state)), parts_of(alone.state), {})


@pytest.mark.parametrize("kind", KINDS)
def test_zero_lengths_only(kind: str) -> None:
    layer = make(kind)
    hx = random_state(layer, 2)
    y, state = layer(
        torch.full((3, 2, I), float("nan"), dtype=DOUBLE), hx, lengths=torch.zeros(2, dtype=torch.long)
    )
    assert torch.equal(y, torch.zeros(3, 2, H, dtype=DOUBLE))
    assert_same(state, hx, {f"hx {i}": s for i, s in enumerate(parts_of(hx))})


@settings(max_examples=8)
@given(st.sampled_from(KINDS), st.lists(st.integers(1, 4), min_size=1, max_size=4), st.booleans())
def test_chunks_with_the_state_carried_over_equal_the_whole(
    kind: str, chunks: list[int], batch_first: bool
) -> None:
    layer = make(kind, num_layers=2, batch_first=batch_first)
    axis = 1 if batch_first else 0
    shape = (2, sum(chunks)) if batch_first else (sum(chunks), 2)
    x = torch.randn(*shape, I, dtype=DOUBLE, requires_grad=True)
    state, ys = random_state(layer, 2), []
    whole = layer(x, state)
    carried = state
    for piece in x.split(chunks, axis):
        y, carried = layer(piece, carried)
        ys.append(y)
    inputs = {"x": x, **dict(layer.named_parameters()), **{f"h{i}": s for i, s in enumerate(parts_of(state))}}
    assert_same((torch.cat(ys, axis), carried), whole, inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_of_all_steps_is_a_start(kind: str) -> None:
    layer = make(kind, num_layers=2)
    x = torch.randn(6, 2, I, dtype=DOUBLE)
    y, _, states = layer(x, return_states=True)
    middle = tuple(s[:, 3] for s in parts_of(states))
    assert_near(layer(x[4:], middle if kind == "LSTM" else middle[0]).y, y[4:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_packed_with_resets_and_states(kind: str, batch_first: bool) -> None:
    layer = make(kind, bidirectional=True, batch_first=batch_first)
    ends = torch.tensor([2, 5, 3])
    shape = (3, 5) if batch_first else (5, 3)
    x = torch.randn(*shape, I, dtype=DOUBLE, requires_grad=True)
    reset = torch.rand(shape) < 0.4
    hx, target = random_state(layer, 3), random_state(layer, 3)
    packed = pack_padded_sequence(x, ends, batch_first=batch_first, enforce_sorted=False)
    y, state, states = layer(packed, hx, reset=reset, initial_state=target, return_states=True)
    expected = layer(x, hx, lengths=ends, reset=reset, initial_state=target, return_states=True)
    wanted = pack_padded_sequence(expected.y, ends, batch_first=batch_first, enforce_sorted=False)
    inputs = {"x": x, **dict(layer.named_parameters())}
    assert_same((y.data, state, states), (wanted.data, *expected[1:]), inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_one_sequence_with_resets_and_states(kind: str) -> None:
    layer = make(kind, bidirectional=True, batch_first=True)
    x, reset = torch.randn(5, I, dtype=DOUBLE), torch.rand(5) < 0.5
    y, state, states = layer(x, reset=reset, return_states=True)
    batch = layer(x[None], reset=reset[None], return_states=True)
    assert_near(y, batch.y[0])
    assert_same(state, tuple(s[:, 0] for s in parts_of(batch.state)), {})
    assert_same(states, tuple(s[:, 0] for s in parts_of(batch.states)), {})


BAD = {
    "lengths of another batch": (
        {"lengths": torch.ones(3, dtype=torch.long)},
        ValueError,
        "lengths has shape",
    ),
    "float lengths": ({"lengths": torch.ones(2)}, TypeError, "lengths is torch.float32"),
    "reset of another shape": ({"reset": torch.zeros(2, 4, dtype=torch.bool)}, ValueError, "reset is"),
    "reset of another dtype": ({"reset": torch.zeros(4, 2)}, ValueError, "reset is torch.float32"),
    "initial state of another shape": (
        {"initial_state": torch.zeros(1, 3, H)},
        RuntimeError,
        "initial_state is",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_call(bad: str) -> None:
    arguments, error, message = BAD[bad]
    with pytest.raises(error, match=message):
        en.GRU(I, H)(torch.randn(4, 2, I), **arguments)


def test_lengths_only_with_padded_input() -> None:
    layer, x = en.GRU(I, H), torch.randn(4, 2, I)
    ends = torch.tensor([4, 2])
    with pytest.raises(ValueError, match="PackedSequence"):
        layer(pack_padded_sequence(x, ends), lengths=ends)
    with pytest.raises(ValueError, match="one sequence"):
        layer(x[:, 0], lengths=ends[:1])
    with pytest.raises(TypeError, match="list"):
        layer([x])


# ---- parameters are read live


def assert_like_copied_weights(layer: Any, weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> None:
    """The layer equals one by hand that uses `weights`; gradients flow through them to `inputs`."""
    kind = type(layer).__name__.removeprefix("Parametrized")
    x = torch.randn(5, 2, I, dtype=DOUBLE, requires_grad=True)
    zeros = [torch.zeros(2, H, dtype=DOUBLE) for _ in layer.state_names]
    y, *_ = unroll(STEPS[kind](weights), x, zeros)
    assert_same(layer(x).y, y, {"x": x, **inputs})


@pytest.mark.parametrize("kind", KINDS)
def test_weight_norm_trains_what_it_should(kind: str) -> None:
    layer = make(kind)
    layer(torch.randn(5, 2, I, dtype=DOUBLE))
    parametrizations.weight_norm(layer, "weight_hh_l0")
    with torch.no_grad():
        layer.parametrizations.weight_hh_l0.original0.mul_(1.7)
    weights = weights_of(layer, "_l0") | {"weight_hh": layer.weight_hh_l0}
    assert_like_copied_weights(layer, weights, dict(layer.named_parameters()))
    copied = copy.deepcopy(layer)
    with torch.no_grad():
        copied.parametrizations.weight_hh_l0.original0.mul_(2.0)
    weights = weights_of(copied, "_l0") | {"weight_hh": copied.weight_hh_l0}
    assert_like_copied_weights(copied, weights, dict(copied.named_parameters()))


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


@pytest.mark.parametrize("kind", KINDS)
def test_parametrization_comes_and_goes(kind: str) -> None:
    layer = make(kind)
    x = torch.randn(5, 2, I, dtype=DOUBLE)
    before = layer(x).y
    parametrize.register_parametrization(layer, "weight_ih_l0", Doubled())
    changed = layer(x).y
    assert not torch.allclose(changed, before)
    weights = {**weights_of(layer, "_l0"), "weight_ih": layer.weight_ih_l0}
    assert_like_copied_weights(layer, weights, dict(layer.named_parameters()))
    parametrize.remove_parametrizations(layer, "weight_ih_l0", leave_parametrized=True)
    assert_near(layer(x).y, changed)


@pytest.mark.parametrize("kind", KINDS)
def test_replaced_tied_and_functional_parameters(kind: str) -> None:
    layer = make(kind)
    x = torch.randn(5, 2, I, dtype=DOUBLE)
    before = layer(x).y
    layer.bias_hh_l0 = nn.Parameter(layer.bias_hh_l0 + 1.0)
    assert_like_copied_weights(layer, weights_of(layer, "_l0"), dict(layer.named_parameters()))
    layer.bias_ih_l0 = layer.bias_hh_l0
    tied = weights_of(layer, "_l0") | {"bias_ih": layer.bias_hh_l0, "bias_hh": layer.bias_hh_l0}
    assert_like_copied_weights(layer, tied, dict(layer.named_parameters()))
    with torch.no_grad():
        layer.weight_hh_l0.data.mul_(0.5)
    assert_like_copied_weights(layer, tied, dict(layer.named_parameters()))

    fresh = make(kind)
    others = {name: torch.randn_like(p).requires_grad_() for name, p in fresh.named_parameters()}
    y = torch.func.functional_call(fresh, others, (x,)).y
    zeros = [torch.zeros(2, H, dtype=DOUBLE) for _ in fresh.state_names]
    weights = {name.removesuffix("_l0"): p for name, p in others.items()}
    assert_same(y, unroll(STEPS[kind](weights), x, zeros)[0], others)
    assert not torch.allclose(before, y)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_parameters(kind: str) -> None:
    layer = make(kind, num_layers=2)
    x = torch.randn(5, 2, I, dtype=DOUBLE)
    expected = by_hand.gradients([layer(x).y], dict(layer.named_parameters()))
    layer.weight_hh_l0.requires_grad_(False)
    layer.bias_ih_l1.requires_grad_(False)
    kept = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    actual = by_hand.gradients([layer(x).y], kept)
    assert len(actual) == len(expected) - 2
    for name, grad in actual.items():
        assert_near(grad, expected[name], gradient=True, what=name)


@pytest.mark.parametrize("kind", KINDS)
def test_without_gradients(kind: str) -> None:
    layer = make(kind)
    x = torch.randn(5, 2, I, dtype=DOUBLE)
    expected = layer(x)
    with torch.no_grad():
        out = layer(x)
        assert not out.y.requires_grad
        assert_same(out, expected, {})
    with torch.inference_mode():
        assert_same(layer(x), expected, {})


@pytest.mark.filterwarnings("ignore:(autocast|bfloat16) on the CPU")
@pytest.mark.parametrize("kind", KINDS)
def test_autocast(kind: str) -> None:
    layer = getattr(en, kind)(I, H)
    x = torch.randn(5, 2, I)
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = layer(x)
        again, _ = layer(x.bfloat16(), state)
    assert_near(y.float(), expected.y, dtype=torch.bfloat16)
    assert again.shape == y.shape
    y.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())


def test_training_with_an_optimizer_learns() -> None:
    torch.manual_seed(0)
    layer, head = en.LSTM(1, 8), nn.Linear(8, 1)
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], lr=0.03)
    x = torch.randn(6, 16, 1)
    target = x.cumsum(0)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (head(layer(x).y) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


# ---- what is said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_the_fast_path_is_taken(kind: str, dtype: torch.dtype) -> None:
    layer = getattr(en, kind)(I, H, 2, fallback="error", dtype=dtype)
    x = torch.randn(4, 3, I, dtype=dtype, requires_grad=True)
    ends, reset = torch.tensor([4, 0, 2]), torch.rand(4, 3) < 0.5
    both = {"lengths": ends, "reset": reset}
    for arguments in ({}, {"lengths": ends}, {"reset": reset}, {**both, "return_states": True}):
        for p in (x, x.detach()):
            out = layer(p, **arguments)
            assert layer.path == FAST, layer.explain()
            by_hand.gradients([out.y], dict(layer.named_parameters()))
    with torch.no_grad():
        layer.eval()(x)
    assert layer.path == FAST
    found = layer.check(x, layer(x).state)
    assert [*found] == ["l0", "l1"]
    assert all(e.path == FAST for e in found.values())


@pytest.mark.parametrize("make_layer", [lambda: en.LSTM(I, H, 2), lambda: en.Recurrent(en.GRUCell, I, H, 2)])
def test_only_the_first_call_traces(make_layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    traces = []
    trace = Scan._trace
    monkeypatch.setattr(Scan, "_trace", lambda self, *call: traces.append(self) or trace(self, *call))
    layer = make_layer()
    for B in (2, 3, 1):
        layer(torch.randn(5, B, I), lengths=torch.full((B,), 4))
        layer.path, layer.explain()
    assert len(traces) == 2
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(2):
        layer(torch.randn(5, 2, I)).y.sum().backward()
        optimizer.step()
    assert len(traces) == 2


def test_path_and_explanation() -> None:
    layer = en.LSTM(I, H, 2, bidirectional=True, backend="loop")
    assert layer.path is None
    layer(torch.randn(4, 2, I))
    assert layer.path == "loop"
    assert [*layer.explain()] == ["l0", "l0_reverse", "l1", "l1_reverse"]
    assert "l1_reverse: " in str(layer.explain())
    layer.backend = None
    assert layer.path is None
    layer(torch.randn(4, 2, I))
    assert layer.path is not None


def test_repr_is_torchs_where_the_layer_is() -> None:
    options: dict[str, Any] = {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.5}
    options["bidirectional"] = True
    assert repr(en.GRU(3, 4, **options)) == repr(nn.GRU(3, 4, **options))
    assert repr(en.LSTM(3, 4, proj_size=2)) == repr(nn.LSTM(3, 4, proj_size=2))
    assert repr(en.RNN(3, 4)) == repr(nn.RNN(3, 4))
    assert en.LSTM(3, 4).flatten_parameters() is None


# ---- torch's kernels, which the layers use on other devices, tried on this one


VENDORS = {"RNN": torch.rnn_tanh, "LSTM": torch.lstm, "GRU": torch.gru}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("form", "training"), [("dense", True), ("dense", False), ("lengths", True), ("packed", True)]
)
def test_vendor_kernels_compute_the_same(
    kind: str, form: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = make(kind, num_layers=2, bidirectional=True).train(training)
    x = torch.randn(5, 3, I, dtype=DOUBLE, requires_grad=True)
    ends = torch.tensor([1, 0, 5]) if form == "lengths" else torch.tensor([2, 1, 5])
    hx = random_state(layer, 3)
    arguments: dict[str, Any] = {"lengths": ends} if form == "lengths" else {}
    given_x = pack_padded_sequence(x, ends, enforce_sorted=False) if form == "packed" else x
    expected = layer(given_x, hx, **arguments)
    assert layer.path != "vendor"
    monkeypatch.setattr("elman.nn.stock.VENDOR_DEVICES", ("cpu",))
    actual = layer(given_x, hx, **arguments)
    assert layer.path == "vendor"
    assert "vendor" in str(layer.explain())
    inputs = {"x": x, **dict(layer.named_parameters()), **{f"h{i}": s for i, s in enumerate(parts_of(hx))}}
    assert_same(actual, expected, inputs)


def test_vendor_kernels_never_see_the_padding() -> None:
    x = torch.randn(4, 2, I)
    x[2:, 0] = float("nan")
    x[:, 1] = float("nan")
    layer = en.GRU(I, H)
    rows = lay_out(x, lengths=torch.tensor([2, 0]), reset=None, batch_first=False)
    weights = [w for part in layer.all_weights for w in part]
    y, (h,) = run_vendor(
        torch.gru,
        rows,
        (torch.zeros(1, 2, H),),
        weights,
        bias=True,
        num_layers=1,
        dropout=0.0,
        bidirectional=False,
    )
    assert y.isfinite().all()
    assert h.isfinite().all()
    grads = torch.autograd.grad(y.sum() + h.sum(), weights)
    assert all(g.isfinite().all() for g in grads)


@pytest.mark.parametrize(
    "options",
    [
        {"layer_norm": "separate"},
        {"peephole": True},
        {"coupled": True},
        {"zoneout": 0.1},
        {"recurrent_dropout": 0.1},
    ],
    ids=str,
)
def test_only_torchs_own_layers_go_to_the_vendor(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elman.nn.stock.VENDOR_DEVICES", ("cpu",))
    layer = en.LSTM(I, H, **options)
    layer(torch.randn(3, 2, I))
    assert layer.path != "vendor"


def test_lengths_outside_of_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = en.GRU(I, H), torch.randn(4, 2, I)
    for devices in ((), ("cpu",)):
        monkeypatch.setattr("elman.nn.stock.VENDOR_DEVICES", devices)
        for bad in ([4, 5], [-1, 2]):
            with pytest.raises(EngineError, match="expected 0 to 4"):
                layer(x, lengths=torch.tensor(bad))
    assert_same(layer(x, lengths=[4, 2]), layer(x, lengths=torch.tensor([4, 2])), {})


def test_resets_and_all_states_do_not_go_to_the_vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.nn.stock.VENDOR_DEVICES", ("cpu",))
    layer, x = en.LSTM(I, H), torch.randn(3, 2, I)
    for arguments in ({"reset": torch.zeros(3, 2, dtype=torch.bool)}, {"return_states": True}):
        layer(x)
        assert layer.path == "vendor"
        layer(x, **arguments)
        assert layer.path != "vendor"
    reference = en.LSTM(I, H, backend="loop")
    reference(x)
    assert reference.path == "loop", "a named backend is the one that runs"
