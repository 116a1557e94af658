"""The cells: torch's where torch has them, their published equations where it has not."""

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import elman.nn as en
from nn import by_hand
from nn.by_hand import assert_same

DOUBLE = torch.float64
I, H, B = 3, 4, 5
CELLS: dict[str, dict[str, Any]] = {
    "ElmanCell": {},
    "LSTMCell": {},
    "PeepholeLSTMCell": {},
    "CoupledLSTMCell": {},
    "LayerNormLSTMCell": {},
    "ProjectedLSTMCell": {"proj_size": 2},
    "GRUCell": {},
    "LayerNormGRUCell": {},
    "OriginalGRUCell": {},
    "MinimalGatedCell": {},
    "GRUDCell": {},
}
TORCH = {"ElmanCell": nn.RNNCell, "LSTMCell": nn.LSTMCell, "GRUCell": nn.GRUCell}


def make(name: str, **options: Any) -> Any:
    cell = getattr(en, name)(I, H, dtype=DOUBLE, **{**CELLS[name], **options})
    with torch.no_grad():
        for p in cell.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return cell


def state_for(cell: Any) -> Any:
    start = cell.initial_state(B, None, DOUBLE)
    return tuple(_random(s) for s in start) if isinstance(start, tuple) else _random(start)


def _random(like: Tensor) -> Tensor:
    return torch.randn_like(like).requires_grad_()


def parts(state: Any) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def minimal_gated(w: dict[str, Tensor]) -> by_hand.Step:
    """Zhou et al. 2016, gate by gate."""

    def step(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        (h,) = state
        b = w["bias_ih"] + w["bias_hh"] if "bias_ih" in w else torch.zeros(2 * H, dtype=DOUBLE)
        f = by_hand.sigmoid(x @ w["weight_ih"][:H].T + h @ w["weight_hh"][:H].T + b[:H])
        n = torch.tanh(x @ w["weight_ih"][H:].T + (f * h) @ w["weight_hh"][H:].T + b[H:])
        new = (1 - f) * h + f * n
        return new, (new,)

    return step


def gru_d(w: dict[str, Tensor]) -> by_hand.Step:
    """Che et al. 2018, eqs. 10 to 16, gate by gate; the mean of the inputs is 0."""
    zero = torch.zeros((), dtype=DOUBLE)

    def step(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h, last = state
        value, m, since = x[:, :I], x[:, I : 2 * I], x[:, 2 * I :]
        decay_x = torch.exp(-torch.maximum(zero, w["weight_decay_x"] * since + w.get("bias_decay_x", zero)))
        decay_h = torch.exp(-torch.maximum(zero, since @ w["weight_decay_h"].T + w.get("bias_decay_h", zero)))
        last = m * value + (1 - m) * last
        filled = m * value + (1 - m) * decay_x * last
        h = decay_h * h
        b = w.get("bias_ih", torch.zeros(3 * H, dtype=DOUBLE))
        r, z, n = (
            filled @ W[:, :I].T + m @ W[:, I:].T + v
            for W, v in zip(w["weight_ih"].split(H), b.split(H), strict=True)
        )
        U_r, U_z, U_n = w["weight_hh"].split(H)
        r, z = by_hand.sigmoid(r + h @ U_r.T), by_hand.sigmoid(z + h @ U_z.T)
        new = (1 - z) * h + z * torch.tanh(n + (r * h) @ U_n.T)
        return new, (new, last)

    return step


def observed(x: Tensor) -> Tensor:
    """x with the middle third made a mask, and the last a time."""
    return torch.cat((x[:, :I], (x[:, I : 2 * I] > 0).to(x), x[:, 2 * I :].abs()), dim=1)


def step_by_hand(name: str, w: dict[str, Tensor]) -> by_hand.Step:
    if name == "MinimalGatedCell":
        return minimal_gated(w)
    if name == "GRUDCell":
        return gru_d(w)
    if name == "ElmanCell":
        return by_hand.rnn_step(w)
    if "GRU" in name:
        return by_hand.gru_step(w, reset_after=name != "OriginalGRUCell")
    return by_hand.lstm_step(w, coupled=name == "CoupledLSTMCell")


def test_every_cell_is_tested() -> None:
    elsewhere = {"Cell", "AttentionCell", "ChainCell"}  # of several tensors, or of another recursion
    cells = {n for n in en.__all__ if n.endswith("Cell")} - elsewhere
    assert cells == set(CELLS)


@given(st.sampled_from(sorted(CELLS)), st.booleans())
def test_one_step_is_the_equations(name: str, bias: bool) -> None:
    cell = make(name, bias=bias)
    x = torch.randn(B, cell.input_size, dtype=DOUBLE)
    x = (observed(x) if name == "GRUDCell" else x).requires_grad_()
    state = state_for(cell)
    y, new = step_by_hand(name, dict(cell.named_parameters()))(x, parts(state))
    inputs = {"x": x, **dict(cell.named_parameters()), **{f"s{i}": s for i, s in enumerate(parts(state))}}
    assert_same(cell(x, state), (y, new), inputs)


def test_the_other_variant_of_layer_normalization() -> None:
    cell = make("LayerNormLSTMCell", variant="sum")
    x, state = torch.randn(B, I, dtype=DOUBLE, requires_grad=True), state_for(cell)
    y, new = by_hand.lstm_step(dict(cell.named_parameters()))(x, state)
    assert_same(cell(x, state), (y, new), {"x": x, **dict(cell.named_parameters())})
    with pytest.raises(ValueError, match="variant='both'"):
        en.LayerNormLSTMCell(I, H, variant="both")


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_torchs_cells(name: str, bias: bool, dtype: torch.dtype) -> None:
    cells = []
    for kind in (TORCH[name], getattr(en, name)):
        torch.manual_seed(3)
        cells.append(kind(I, H, bias, dtype=dtype))
    theirs, ours = cells
    assert [*ours.state_dict()] == [*theirs.state_dict()]
    assert all(torch.equal(p, q) for p, q in zip(theirs.parameters(), ours.parameters(), strict=True))
    x = torch.randn(B, I, dtype=dtype, requires_grad=True)
    state = ours.initial_state(B, None, dtype)
    state = tuple(torch.randn_like(s) for s in state) if isinstance(state, tuple) else torch.randn_like(state)
    mine, other = dict(ours.named_parameters()) | {"x": x}, dict(theirs.named_parameters()) | {"x": x}
    assert_same(ours(x, state)[1], theirs(x, state), mine, other)
    assert_same(ours(x)[1], theirs(x), mine, other)
    one = tuple(s[0] for s in state) if isinstance(state, tuple) else state[0]
    assert_same(ours(x[0], one)[1], theirs(x[0], one), mine, other)
    assert_same(ours(x[0])[1], theirs(x[0]), mine, other)
    ours.reset_parameters()
    theirs.load_state_dict(ours.state_dict())
    assert_same(ours(x, state)[1], theirs(x, state), mine, other)


def test_projected_cell_is_a_layer_of_torch() -> None:
    cell = make("ProjectedLSTMCell")
    layer = nn.LSTM(I, H, proj_size=2, dtype=DOUBLE)
    layer.load_state_dict({f"{name}_l0": p for name, p in cell.state_dict().items()})
    x, state = torch.randn(B, I, dtype=DOUBLE, requires_grad=True), state_for(cell)
    _, expected = layer(x[None], tuple(s[None] for s in state))
    assert_same(cell(x, state)[1], tuple(s[0] for s in expected), {"x": x})
    for bad in (0, H):
        with pytest.raises(ValueError, match=f"proj_size={bad}"):
            en.ProjectedLSTMCell(I, H, proj_size=bad)


@pytest.mark.parametrize("name", sorted(CELLS))
def test_gradcheck(name: str) -> None:
    cell = make(name)
    names = [n for n, _ in cell.named_parameters()]
    state = state_for(cell)
    x = torch.randn(B, cell.input_size, dtype=DOUBLE, requires_grad=True)

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        states, weights = rest[: len(parts(state))], rest[len(parts(state)) :]
        given_state = states if isinstance(state, tuple) else states[0]
        y, new = torch.func.functional_call(cell, dict(zip(names, weights, strict=True)), (x, given_state))
        return (y, *parts(new))

    assert torch.autograd.gradcheck(run, (x, *parts(state), *cell.parameters()), fast_mode=True)


@pytest.mark.parametrize("name", sorted(CELLS))
def test_copies_and_what_is_shown(name: str) -> None:
    cell = make(name)
    x = torch.randn(B, cell.input_size, dtype=DOUBLE)
    for other in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
        assert_same(other(x), cell(x), {})
    assert repr(cell).startswith(f"{name}({I}, {H}")
    assert "bias=False" in repr(make(name, bias=False))
    assert all(p.is_meta for p in getattr(en, name)(I, H, device="meta", **CELLS[name]).parameters())


def test_elman_with_an_output_layer() -> None:
    cell = make("ElmanCell", nonlinearity="sigmoid", output_size=2, output_nonlinearity="softmax")
    assert cell.output_size == 2
    x, state = torch.randn(B, I, dtype=DOUBLE, requires_grad=True), state_for(cell)
    w = dict(cell.named_parameters())
    s = by_hand.sigmoid(x @ w["weight_ih"].T + w["bias_ih"] + state @ w["weight_hh"].T + w["bias_hh"])
    e = torch.exp(s @ w["weight_ho"].T + w["bias_ho"])
    assert_same(cell(x, state), (e / e.sum(1, keepdim=True), s), {"x": x, "s": state, **w})
    assert "output_size=2" in repr(cell)
    assert "bias_ho" not in dict(make("ElmanCell", output_size=2, bias=False).named_parameters())


def test_lstm_forget_bias() -> None:
    cell = en.LSTMCell(I, H, forget_bias=1.0)
    for _ in range(2):
        total = cell.bias_ih + cell.bias_hh
        assert torch.equal(total[H : 2 * H], torch.ones(H))
        cell.reset_parameters()
    with pytest.raises(ValueError, match="forget_bias"):
        en.LSTMCell(I, H, bias=False, forget_bias=1.0)


def test_gru_d_keeps_what_it_saw_last_and_lets_the_rest_fade() -> None:
    """After a long gap the input is the mean and the state is gone: the future is that of a cell that saw nothing."""
    mean = torch.randn(I, dtype=DOUBLE)
    cell = en.GRUDCell(I, H, mean=mean, dtype=DOUBLE)
    with torch.no_grad():
        for name in ("weight_decay_x", "weight_decay_h"):
            getattr(cell, name).fill_(1.0)
    start, nothing = state_for(cell), cell.initial_state(B, None, DOUBLE)
    gap = torch.full((B, I), 1e3, dtype=DOUBLE), torch.zeros(B, I, dtype=DOUBLE)
    y, (_, last) = cell((gap[0], gap[1], gap[0]), start)
    assert_same(y, cell((gap[0], gap[1], gap[0]), nothing)[0], {})
    assert torch.equal(last, start[1])
    value, seen = torch.randn(B, I, dtype=DOUBLE), torch.ones(B, I, dtype=DOUBLE)
    assert torch.equal(cell((value, seen, gap[1]), start)[1][1], value)
    # Between the two: the mean weighs as much as has decayed.
    filled = torch.exp(torch.tensor(-0.5, dtype=DOUBLE)) * (start[1] - mean) + mean
    half = torch.full_like(value, 0.5)
    hidden = start[0] * torch.exp(-cell.weight_decay_h.sum(1) * 0.5)
    expected = cell((filled, gap[1], gap[1]), (hidden, filled))[0]
    assert_same(cell((value, gap[1], half), start)[0], expected, {})


BAD = [
    (lambda: en.GRUDCell(I, H)(torch.zeros(B, I)), RuntimeError, "9 wide"),
    (lambda: en.GRUDCell(I, H)((torch.zeros(B, I),) * 2), RuntimeError, "3 features each"),
    (lambda: en.GRUDCell(I, H, mean=torch.zeros(2)), ValueError, "mean has shape"),
    (lambda: en.GRUCell(0, H), ValueError, "input_size must be greater than zero"),
    (lambda: en.GRUCell(I, 2.5), TypeError, "hidden_size should be of type int"),
    (lambda: en.ElmanCell(I, H, nonlinearity="thanh"), ValueError, "did you mean 'tanh'"),
    (lambda: en.ElmanCell(I, H, output_nonlinearity="softmax"), ValueError, "needs output_size"),
    (lambda: en.LSTMCell(I, H)(torch.zeros(B, I + 1)), RuntimeError, "input_size = 3"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[m for *_, m in BAD])
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
