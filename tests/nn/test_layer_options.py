"""Every option that torch.nn does not have, against the same layer written by hand, forward and backward."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import elman.nn as en
from nn import by_hand
from nn.by_hand import FAST, assert_same, unroll, weights_of

DOUBLE = torch.float64
I, H, T, B = 3, 4, 5, 3
LENGTHS = [5, 0, 3]


def make(kind: str, **options: Any) -> Any:
    """A layer in float64 whose gains, starts and biases are not what they start as."""
    layer = getattr(en, kind)(
        options.pop("input_size", I), options.pop("hidden_size", H), dtype=DOUBLE, **options
    )
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return layer


def sequences(width: int = I) -> Tensor:
    return torch.randn(T, B, width, dtype=DOUBLE, requires_grad=True)


def starts(layer: Any, sizes: tuple[int, ...] | None = None) -> tuple[Tensor, ...]:
    sizes = sizes or ((H, H) if isinstance(layer, en.LSTM) else (H,))
    return tuple(torch.randn(B, n, dtype=DOUBLE, requires_grad=True) for n in sizes)


def as_hx(state: tuple[Tensor, ...]) -> Any:
    """The state of one layer in torch's layout."""
    stacked = tuple(s[None] for s in state)
    return stacked if len(stacked) > 1 else stacked[0]


def step_of(layer: Any, suffix: str = "_l0", **masks: Tensor | None) -> by_hand.Step:
    """The layer's step by hand, zoneout in eval mode included."""
    w = weights_of(layer, suffix)
    if isinstance(layer, en.LSTM):
        step = by_hand.lstm_step(w, layer.coupled, **masks)
    elif isinstance(layer, en.GRU):
        step = by_hand.gru_step(w, layer.reset_after, **masks)
    else:
        step = by_hand.rnn_step(w, ACTIVATIONS[layer.nonlinearity], **masks)
    rates = layer.zoneout
    if not rates:
        return step
    rates = rates if isinstance(rates, dict) else dict.fromkeys("hc", rates)
    return by_hand.expected_zoneout(step, [rates.get(name, 0.0) for name in layer.state_names])


ACTIVATIONS: dict[Any, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": lambda a: torch.where(a > 0, a, 0.0),
    "sigmoid": by_hand.sigmoid,
    "identity": lambda a: a,
    "elu": lambda a: torch.where(a > 0, a, torch.exp(a) - 1),
    "gelu": lambda a: a * 0.5 * (1 + torch.erf(a / 2**0.5)),
    "hardsigmoid": lambda a: ((a + 3) / 6).clamp(0, 1),
    "hardtanh": lambda a: a.clamp(-1, 1),
    "leaky_relu": lambda a: torch.where(a > 0, a, 0.01 * a),
    "silu": lambda a: a * by_hand.sigmoid(a),
    "sin": torch.sin,
    "softmax": lambda a: torch.exp(a) / torch.exp(a).sum(-1, keepdim=True),
    "softplus": lambda a: torch.log(1 + torch.exp(a)),
    "softsign": lambda a: a / (1 + a.abs()),
}


def assert_by_hand(
    layer: Any, *, lengths: list[int] | None = None, sizes: tuple[int, ...] | None = None
) -> Any:
    """One layer in one direction equals its step by hand: values, and gradients of x, states and parameters."""
    x, start = sequences(), starts(layer, sizes)
    given_lengths = None if lengths is None else torch.tensor(lengths)
    actual = layer(x, as_hx(start), lengths=given_lengths, return_states=True)
    assert layer.path == FAST, layer.explain()
    y, final, states = unroll(step_of(layer), x, start, lengths=lengths)
    expected = (y, as_hx(final), tuple(s[None] for s in states))
    inputs = {"x": x, **{f"state {i}": s for i, s in enumerate(start)}, **dict(layer.named_parameters())}
    assert_same(actual, expected, inputs)
    return actual


def assert_effect(layer: Any, plain: Any, names: tuple[str, ...] = ()) -> None:
    """The option changes the result, and its parameters have gradients."""
    x = sequences()
    y = layer(x).y
    assert layer.path == FAST, layer.explain()
    plain.load_state_dict(layer.state_dict(), strict=False)
    assert not torch.allclose(y, plain(x).y)
    grads = torch.autograd.grad(y.square().sum(), [layer.get_parameter(name) for name in names] or [x])
    assert all(g.abs().max() > 0 for g in grads)


# ---- LSTM


@st.composite
def lstm_options(draw: st.DrawFn) -> dict[str, Any]:
    coupled = draw(st.booleans())
    options = {
        "bias": draw(st.booleans()),
        "proj_size": draw(st.sampled_from((0, 2))),
        "layer_norm": draw(st.sampled_from((None, "separate", "sum"))),
        "peephole": draw(st.booleans()),
        "coupled": coupled,
        "zoneout": draw(st.sampled_from((None, 0.3, {"c": 0.4}, {"h": 0.2, "c": 0.5}))),
    }
    if options["bias"] and not coupled and draw(st.booleans()):
        options["forget_bias"] = 1.0
    return options


@given(lstm_options(), st.sampled_from((None, LENGTHS)))
def test_lstm_options_together_equal_the_step_by_hand(
    options: dict[str, Any], lengths: list[int] | None
) -> None:
    layer = make("LSTM", **options).eval()
    assert_by_hand(layer, lengths=lengths, sizes=(options["proj_size"] or H, H))


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"layer_norm": "separate"}, ("gain_ih_l0", "gain_hh_l0", "gain_cell_l0", "bias_cell_l0")),
        ({"layer_norm": "sum"}, ("gain_sum_l0", "gain_cell_l0", "bias_cell_l0")),
        ({"peephole": True}, ("weight_ci_l0", "weight_cf_l0", "weight_co_l0")),
        ({"zoneout": 0.5}, ()),
        ({"learn_initial_state": True}, ("initial_h_l0", "initial_c_l0")),
    ],
    ids=str,
)
def test_lstm_option_has_an_effect(options: dict[str, Any], names: tuple[str, ...]) -> None:
    assert_effect(make("LSTM", **options).eval(), make("LSTM"), names)


def test_coupled_gates_have_three_blocks() -> None:
    layer = make("LSTM", coupled=True, peephole=True)
    assert layer.weight_ih_l0.shape == (3 * H, I)
    assert "weight_cf_l0" not in dict(layer.named_parameters())


@pytest.mark.parametrize("layers", [1, 2])
def test_forget_bias(layers: int) -> None:
    layer = en.LSTM(I, H, layers, bidirectional=True, forget_bias=1.5)
    plain = en.LSTM(I, H, layers, bidirectional=True)
    for name, p in layer.named_parameters():
        if name.startswith("bias_ih"):
            total = p + layer.get_parameter(name.replace("bias_ih", "bias_hh"))
            assert torch.equal(total[H : 2 * H], torch.full((H,), 1.5))
    plain.load_state_dict(layer.state_dict())
    layer.reset_parameters()
    assert torch.equal(layer.bias_ih_l0[H : 2 * H], torch.full((H,), 1.5)), "kept when drawn anew"
    for bad in ({"bias": False}, {"coupled": True}):
        with pytest.raises(ValueError, match="forget_bias"):
            en.LSTM(I, H, forget_bias=1.0, **bad)


# ---- GRU


@settings(max_examples=12)
@given(
    st.booleans(),
    st.sampled_from(((True, None), (True, "separate"), (False, None))),
    st.sampled_from((None, 0.3, {"h": 0.6})),
    st.sampled_from((None, LENGTHS)),
)
def test_gru_options_together_equal_the_step_by_hand(
    bias: bool, form: Any, zoneout: Any, lengths: Any
) -> None:
    layer = make("GRU", bias=bias, reset_after=form[0], layer_norm=form[1], zoneout=zoneout).eval()
    assert_by_hand(layer, lengths=lengths)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"layer_norm": "separate"}, ("gain_ih_l0", "gain_hh_l0")),
        ({"reset_after": False}, ("weight_hh_l0", "bias_hh_l0")),
        ({"zoneout": 0.5}, ()),
        ({"learn_initial_state": True}, ("initial_h_l0",)),
    ],
    ids=str,
)
def test_gru_option_has_an_effect(options: dict[str, Any], names: tuple[str, ...]) -> None:
    assert_effect(make("GRU", **options).eval(), make("GRU"), names)


def test_gru_says_what_it_does_not_have() -> None:
    with pytest.raises(ValueError, match="layer_norm='sum'"):
        en.GRU(I, H, layer_norm="sum")
    with pytest.raises(ValueError, match="reset_after"):
        en.GRU(I, H, layer_norm="separate", reset_after=False)


# ---- RNN


def test_the_table_of_activations_is_tested() -> None:
    assert set(ACTIVATIONS) == set(en.ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_rnn_activation(name: str) -> None:
    assert_by_hand(make("RNN", nonlinearity=name))


@settings(max_examples=12)
@given(
    st.booleans(),
    st.sampled_from(("tanh", "relu", "sin")),
    st.sampled_from((None, "separate", "sum")),
    st.sampled_from((None, 0.3)),
    st.sampled_from((None, LENGTHS)),
)
def test_rnn_options_together_equal_the_step_by_hand(
    bias: bool, f: str, layer_norm: Any, zoneout: Any, lengths: Any
) -> None:
    layer = make("RNN", bias=bias, nonlinearity=f, layer_norm=layer_norm, zoneout=zoneout).eval()
    assert_by_hand(layer, lengths=lengths)


def square_plus_one(a: Tensor) -> Tensor:
    return 1 / (1 + a * a)


def test_rnn_takes_a_callable() -> None:
    layer = make("RNN", nonlinearity=square_plus_one)
    x, start = sequences(), starts(layer)
    y, final, _ = unroll(by_hand.rnn_step(weights_of(layer, "_l0"), square_plus_one), x, start)
    inputs = {"x": x, **dict(layer.named_parameters())}
    assert_same(layer(x, as_hx(start)), (y, as_hx(final)), inputs)


class Slope(nn.Module):
    """An activation that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.3, dtype=DOUBLE))

    def forward(self, a: Tensor) -> Tensor:
        return torch.where(a > 0, a, self.slope * a)


def test_rnn_takes_a_module_with_parameters() -> None:
    layer = make("RNN", nonlinearity=Slope(), num_layers=2)
    x = sequences()
    h = x
    for suffix in ("_l0", "_l1"):
        step = by_hand.rnn_step(weights_of(layer, suffix), layer.nonlinearity)
        h, *_ = unroll(step, h, [torch.zeros(B, H, dtype=DOUBLE)])
    assert_same(layer(x).y, h, {"x": x, **dict(layer.named_parameters())})
    assert layer.path == FAST, layer.explain()
    assert "nonlinearity.slope" in layer.state_dict()
    copied = copy.deepcopy(layer)
    with torch.no_grad():
        copied.nonlinearity.slope.fill_(5.0)
    assert not torch.equal(copied(x).y, layer(x).y)


def test_unknown_activation() -> None:
    with pytest.raises(ValueError, match="did you mean 'tanh'"):
        en.RNN(I, H, nonlinearity="tahn")


# ---- dropout


@pytest.mark.parametrize(
    ("kind", "place", "options"),
    [
        ("RNN", "state", {}),
        ("LSTM", "state", {}),
        ("LSTM", "candidate", {}),
        ("LSTM", "state", {"proj_size": 2}),
        ("LSTM", "candidate", {"proj_size": 2}),
        ("GRU", "state", {}),
        ("GRU", "candidate", {}),
        ("GRU", "state", {"reset_after": False}),
        ("GRU", "candidate", {"reset_after": False}),
    ],
)
def test_recurrent_dropout_has_one_mask_a_sequence(kind: str, place: str, options: dict[str, Any]) -> None:
    where = {} if kind == "RNN" else {"recurrent_dropout_on": place}
    layer = make(kind, recurrent_dropout=0.5, **where, **options)
    P = options.get("proj_size", H)
    x, start = sequences(), starts(layer, (P, H)[: len(layer.state_names)])
    torch.manual_seed(5)
    mask = F.dropout(torch.ones(B, P if place == "state" else H, dtype=DOUBLE), 0.5)
    torch.manual_seed(5)
    actual = layer(x, as_hx(start))
    assert layer.path == FAST, layer.explain()
    name = "mask_h" if place == "state" else "mask_g"
    rows = []
    for b in range(B):
        step = step_of(layer, **{name: mask[b : b + 1]})
        rows.append(unroll(step, x[:, b : b + 1], [s[b : b + 1] for s in start])[:2])
    expected = (
        torch.cat([r[0] for r in rows], 1),
        as_hx(tuple(torch.cat(parts) for parts in zip(*(r[1] for r in rows), strict=True))),
    )
    assert_same(actual, expected, {"x": x, **dict(layer.named_parameters())})
    assert not torch.equal(layer(x).y, layer(x).y), "another mask at every call"
    layer.eval()
    assert_by_hand(layer, sizes=(P, H)[: len(layer.state_names)])


def test_recurrent_dropout_on_the_candidate_is_not_defined_for_rnn() -> None:
    with pytest.raises(TypeError):
        en.RNN(I, H, recurrent_dropout_on="candidate")


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_weight_dropout_has_one_mask_a_call(kind: str) -> None:
    layer = make(kind, weight_dropout=0.5)
    x, start = sequences(), starts(layer)
    torch.manual_seed(5)
    mask = F.dropout(torch.ones_like(layer.weight_hh_l0), 0.5)
    plain = {"RNN": by_hand.rnn_step, "LSTM": by_hand.lstm_step, "GRU": by_hand.gru_step}[kind]
    w = weights_of(layer, "_l0")
    y, final, _ = unroll(plain({**w, "weight_hh": w["weight_hh"] * mask}), x, start)
    torch.manual_seed(5)
    actual = layer(x, as_hx(start))
    assert layer.path == FAST, layer.explain()
    other = layer(x, as_hx(start))
    assert not torch.equal(actual.y, other.y), "another mask at every call"
    assert_same(actual, (y, as_hx(final)), {"x": x, **dict(layer.named_parameters())})
    assert not any(name.startswith("mask") for name in layer.state_dict())
    layer.eval()
    assert_by_hand(layer)
    copy.deepcopy(layer).train()(x)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_zoneout_in_training_holds_units(kind: str) -> None:
    layer = make(kind, zoneout=0.4)
    x, start = sequences(), starts(layer)
    y, _, states = layer(x, as_hx(start), return_states=True)
    assert layer.path == FAST, layer.explain()
    h = (states[0] if kind == "LSTM" else states)[0]
    assert torch.equal(y, h), "the output is the state after the zoneout"
    before = torch.cat((start[0][None], h[:-1]))
    held = h == before
    assert 0 < held.sum() < held.numel()
    whole = make(kind, zoneout=1.0)
    assert_same(whole(x, as_hx(start)).state, as_hx(start), {"x": x})
    none = make(kind, zoneout=0.0)
    assert_by_hand(none)


def test_zoneout_draws_anew_at_each_step_for_each_unit() -> None:
    layer = en.RNN(1, 200, zoneout=0.25)
    y, _ = layer(torch.randn(50, 4, 1))
    held = y[1:] == y[:-1]
    assert abs(held.float().mean() - 0.25) < 0.02
    assert not torch.equal(held[0], held[1])
    assert not torch.equal(held[:, 0], held[:, 1])


def test_zoneout_in_training_equals_the_loop_with_the_same_draws() -> None:
    layer = make("LSTM", zoneout={"h": 0.3, "c": 0.6}, backend="loop")
    x, start = sequences(), starts(layer)
    plain = by_hand.lstm_step(weights_of(layer, "_l0"))
    state, ys = start, []
    torch.manual_seed(9)
    for x_t in x:
        _, new = plain(x_t, state)
        kept = [torch.rand_like(s) < rate for s, rate in zip(new, (0.3, 0.6), strict=True)]
        state = tuple(torch.where(k, a, b) for k, a, b in zip(kept, state, new, strict=True))
        ys.append(state[0])
    torch.manual_seed(9)
    actual = layer(x, as_hx(start))
    inputs = {"x": x, **dict(layer.named_parameters())}
    assert_same(actual, (torch.stack(ys), as_hx(state)), inputs)


def test_zoneout_set_afterwards_has_its_effect() -> None:
    layer = make("GRU").eval()
    x = sequences()
    before = layer(x).y
    layer.zoneout = 0.5
    assert not torch.allclose(layer(x).y, before)
    assert_by_hand(layer)


@pytest.mark.parametrize("bad", [1.5, -0.1, {"h": 2.0}, {"c": 0.1}, {1: 0.1}])
def test_bad_zoneout(bad: Any) -> None:
    with pytest.raises(ValueError, match="zoneout"):
        en.GRU(I, H, zoneout=bad)


def test_sequence_dropout_between_layers_has_one_mask_a_sequence() -> None:
    layer = make("RNN", num_layers=2, dropout=0.5, sequence_dropout=True)
    with torch.no_grad():
        layer.weight_ih_l1.copy_(torch.eye(H, dtype=DOUBLE))
        layer.weight_hh_l1.zero_()
        layer.bias_ih_l1.zero_()
        layer.bias_hh_l1.zero_()
    y, _ = layer(sequences())
    dropped = y == 0
    assert 0 < dropped.sum() < dropped.numel()
    assert (dropped == dropped[0]).all()
    layer.sequence_dropout = False
    dropped = layer(sequences()).y == 0
    assert not (dropped == dropped[0]).all()


# ---- stacks


@pytest.mark.parametrize(
    ("kind", "merge"),
    [
        ("RNN", "concat"),
        ("RNN", "sum"),
        ("RNN", "mean"),
        ("RNN", "product"),
        ("LSTM", "concat"),
        ("GRU", "sum"),
    ],
)
def test_merge_by_each_rows_own_length(kind: str, merge: Any) -> None:
    layer = make(kind, bidirectional=True, merge=merge, num_layers=2)
    x = sequences()
    zeros = [torch.zeros_like(s) for s in starts(layer)]
    merged = x
    for layer_index in range(2):
        ways = [
            unroll(
                step_of(layer, f"_l{layer_index}{suffix}"),
                merged,
                zeros,
                lengths=LENGTHS,
                reverse=bool(suffix),
            )[0]
            for suffix in ("", "_reverse")
        ]
        merged = {
            "concat": torch.cat(ways, -1),
            "sum": ways[0] + ways[1],
            "mean": 0.5 * ways[0] + 0.5 * ways[1],
            "product": ways[0] * ways[1],
        }[merge]
    y, _ = layer(x, lengths=torch.tensor(LENGTHS))
    assert layer.path == FAST, layer.explain()
    assert_same(y, merged, {"x": x, **dict(layer.named_parameters())})


@pytest.mark.parametrize("first_too", [True, False])
def test_residual(first_too: bool) -> None:
    layer = make("GRU", input_size=H if first_too else I, num_layers=3, residual=True, dropout=0.0)
    x = sequences(layer.input_size)
    with torch.no_grad():
        x[3:, 2] = float("nan")
    zeros = [torch.zeros(B, H, dtype=DOUBLE)]
    h, alive = x, torch.arange(T)[:, None, None] < torch.tensor(LENGTHS)[None, :, None]
    for i in range(3):
        y, *_ = unroll(step_of(layer, f"_l{i}"), h, zeros, lengths=LENGTHS)
        h = y if i == 0 and not first_too else y + torch.where(alive, h, 0.0)
    actual = layer(x, lengths=torch.tensor(LENGTHS)).y
    assert actual.isfinite().all()
    assert_same(actual, h, {"x": x, **dict(layer.named_parameters())})


def test_residual_adds_what_is_not_dropped() -> None:
    layer = make("RNN", input_size=H, num_layers=2, residual=True, dropout=1.0)
    x = sequences(H)
    first = make("RNN", input_size=H, residual=True)
    first.load_state_dict({k: v for k, v in layer.state_dict().items() if k.endswith("l0")})
    second = make("RNN", input_size=H)
    second.load_state_dict(
        {k.replace("l1", "l0"): v for k, v in layer.state_dict().items() if k.endswith("l1")}
    )
    below = first(x).y
    assert_same(layer(x).y, below + second(torch.zeros_like(below)).y, {"x": x})


@pytest.mark.parametrize(
    "options",
    [{"num_layers": 1}, {"num_layers": 2, "bidirectional": True, "hidden_size": [4, 5]}],
)
def test_residual_needs_equal_widths(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="residual=True: layer"):
        en.RNN(3, options.pop("hidden_size", 4), residual=True, **options)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_width_for_each_layer(kind: str, bidirectional: bool) -> None:
    widths = [5, 2, 3]
    layer = make(kind, hidden_size=widths, bidirectional=bidirectional)
    D = 2 if bidirectional else 1
    names = 2 if kind == "LSTM" else 1
    x = sequences()
    start = [[torch.randn(D, B, n, dtype=DOUBLE, requires_grad=True) for n in widths] for _ in range(names)]
    h, finals, histories = x, [], []
    for i in range(3):
        ways, ends, steps = [], [], []
        for d, suffix in enumerate(("", "_reverse")[:D]):
            step = step_of(layer, f"_l{i}{suffix}")
            y, final, states = unroll(step, h, [s[i][d] for s in start], reverse=d == 1)
            ways.append(y)
            ends.append(final)
            steps.append(states)
        h = torch.cat(ways, -1)
        finals.append([torch.stack(parts) for parts in zip(*ends, strict=True)])
        histories.append([torch.stack(parts) for parts in zip(*steps, strict=True)])
    hx = tuple(map(tuple, start)) if names == 2 else tuple(start[0])
    actual = layer(x, hx, return_states=True)
    assert layer.path == FAST, layer.explain()
    expected = (h, [*zip(*finals, strict=True)], [*zip(*histories, strict=True)])
    given = {f"start {n} {i}": s for n, part in enumerate(start) for i, s in enumerate(part)}
    assert_same(actual, expected, {"x": x, **given, **dict(layer.named_parameters())})
    assert_same(layer(x, actual.state), layer(x, layer(x, hx).state), {"x": x})
    with pytest.raises(RuntimeError, match="expected"):
        layer(x, (hx[0],))


def test_widths_and_layers_must_agree() -> None:
    with pytest.raises(ValueError, match="2 widths"):
        en.RNN(3, [4, 5], 3)
    with pytest.raises(ValueError, match="0 widths"):
        en.RNN(3, [])
    assert en.RNN(3, [4, 5], 2).num_layers == 2
    one = en.RNN(3, [4])
    assert isinstance(one(torch.randn(2, 1, 3)).state, tuple), "a list of one is a list"


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_learned_start_is_also_where_a_reset_leads(kind: str) -> None:
    layer = make(kind, bidirectional=True, learn_initial_state=True)
    x = sequences()
    reset = torch.rand(T, B) < 0.3
    ways, finals = [], []
    for suffix in ("", "_reverse"):
        w = weights_of(layer, f"_l0{suffix}")
        start = [w[f"initial_{n}"].expand(B, H) for n in layer.state_names]
        y, final, _ = unroll(
            step_of(layer, f"_l0{suffix}"),
            x,
            start,
            reset=reset,
            target=start,
            reverse=bool(suffix),
            lengths=LENGTHS,
        )
        ways.append(y)
        finals.append(final)
    state = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
    actual = layer(x, lengths=torch.tensor(LENGTHS), reset=reset)
    assert layer.path == FAST, layer.explain()
    assert_same(actual, (torch.cat(ways, -1), state), {"x": x, **dict(layer.named_parameters())})
    zeros = torch.zeros(2, B, H, dtype=DOUBLE)
    other = layer(x, (zeros, zeros) if kind == "LSTM" else zeros)
    assert not torch.allclose(other.y, layer(x).y), "a given state takes its place"


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_the_same_seed_draws_the_same_weights_with_every_option(kind: str) -> None:
    options: dict[str, Any] = {"layer_norm": "separate", "learn_initial_state": True, "zoneout": 0.1}
    options |= {"peephole": True} if kind == "LSTM" else {}
    layers = []
    for extra in ({}, options):
        torch.manual_seed(4)
        layers.append(getattr(en, kind)(I, H, 2, bidirectional=True, **extra))
    for name, p in layers[0].named_parameters():
        assert torch.equal(p, layers[1].get_parameter(name))
    assert all((p == 1).all() for name, p in layers[1].named_parameters() if name.startswith("gain"))
    assert all((p == 0).all() for name, p in layers[1].named_parameters() if name.startswith("initial"))


OPTIONS: dict[str, list[dict[str, Any]]] = {
    "RNN": [{"nonlinearity": "sin", "layer_norm": "sum"}, {"hidden_size": (5, 3), "zoneout": 0.1}],
    "GRU": [{"reset_after": False, "merge": "sum", "bidirectional": True}, {"layer_norm": "separate"}],
    "LSTM": [
        {"peephole": True, "coupled": True, "layer_norm": "sum", "proj_size": 2},
        {"num_layers": 2, "residual": True, "learn_initial_state": True, "forget_bias": 1.0},
        {"recurrent_dropout": 0.2, "recurrent_dropout_on": "candidate", "sequence_dropout": True},
        {"weight_dropout": 0.4},
    ],
}


@pytest.mark.parametrize(("kind", "options"), [(k, o) for k, all_ in OPTIONS.items() for o in all_], ids=str)
def test_options_survive_state_dict_copy_and_pickle_and_show(kind: str, options: dict[str, Any]) -> None:
    layer = make(kind, **options).eval()
    x = sequences()
    expected = layer(x)
    twin = make(kind, **options).eval()
    twin.load_state_dict(layer.state_dict())
    for other in (twin, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_same(other(x), expected, {})
    for name, value in options.items():
        assert repr(value) in repr(layer), (name, repr(layer))


@pytest.mark.parametrize(
    "bad",
    [
        {"merge": "max"},
        {"merge": "sum"},
        {"layer_norm": True},
        {"recurrent_dropout": 2},
        {"weight_dropout": -1},
        {"recurrent_dropout_on": "x"},
    ],
    ids=str,
)
def test_bad_options(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        en.LSTM(I, H, **bad)


@settings(max_examples=6)
@given(lstm_options())
def test_no_option_changes_a_layer_without_it(options: dict[str, Any]) -> None:
    assume(not options["coupled"])
    layer = make("LSTM", **{**options, "zoneout": 0.0, "layer_norm": None, "peephole": False})
    theirs = nn.LSTM(I, H, bias=options["bias"], proj_size=options["proj_size"], dtype=DOUBLE)
    theirs.load_state_dict(layer.state_dict())
    x = sequences()
    assert_same(layer(x), theirs(x), {"x": x})
