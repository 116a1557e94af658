"""What is seen inside recurrent layers, against plain loops: gates, states, gradients over time, saturation, units."""

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from elman.nn import (
    GRU,
    LSTM,
    RNN,
    Embedding,
    LSTMCell,
    Recurrent,
    SequenceClassifier,
    Tagger,
    recurrent_stack,
)
from elman.nn.inspection import (
    HALF_LIFE,
    Track,
    alike_together,
    decays,
    most_varying,
    saturation,
    stretches,
    watch,
    watching,
)
from examples import inside
from tests.nn.by_hand import sums
from tolerances import assert_near


def turned(size: int) -> Tensor:
    """An orthogonal matrix."""
    return torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))[0]


def plain_rnn(weight: Tensor, nonlinearity: str) -> RNN:
    layer = RNN(3, len(weight), nonlinearity=nonlinearity, dtype=torch.float64)  # type: ignore[arg-type]
    with torch.no_grad():
        layer.weight_hh_l0.copy_(weight)
        layer.bias_ih_l0.zero_()
        layer.bias_hh_l0.zero_()
    return layer


# ---- the gradient over time


def test_half_the_gradient_is_left_at_each_step_where_the_recurrent_matrix_halves() -> None:
    """J_t = diag(1 − s_t²) W with W = Q / 2: its singular values lie between (1 − max s²) / 2 and 1 / 2."""
    layer = plain_rnn(turned(8) / 2, "tanh")
    x = 1e-4 * torch.randn(25, 4, 3, dtype=torch.float64)
    most = float(layer(x)[0].detach().square().max())
    assert most < 1e-6
    (decay,) = decays(layer, x)
    assert len(decay.norms) == 24
    factors = decay.norms[1:] / decay.norms[:-1]
    assert bool((factors <= 0.5 * (1 + 1e-12)).all())
    assert bool((factors >= 0.5 * (1 - most) * (1 - 1e-12)).all())
    assert decay.rate == pytest.approx(0.5, rel=1e-5)
    assert decay.half_life == pytest.approx(1.0, rel=1e-5)
    assert decay.word == "vanishing"
    assert decay.left == pytest.approx(0.5**23, rel=1e-4)


def test_an_orthogonal_linear_network_hands_the_whole_gradient_back() -> None:
    (decay,) = decays(plain_rnn(turned(8), "identity"), torch.randn(40, 2, 3, dtype=torch.float64))
    assert_near(decay.norms, decay.norms[:1].expand(39), gradient=True)
    assert decay.rate == pytest.approx(1.0, abs=1e-12)
    assert decay.word == "neither"
    assert "stays" in str(decay)


@pytest.mark.parametrize(
    ("steps", "word"), [(0.8, "exploding"), (1.2, "neither"), (-1.2, "neither"), (-0.8, "vanishing")]
)
def test_the_words_have_their_limit_at_twenty_steps(steps: float, word: str) -> None:
    """A factor that doubles (halves) in 20 / 0.8 or 20 / 1.2 steps."""
    factor = 2 ** (math.copysign(1, steps) / (HALF_LIFE * abs(steps)))
    (decay,) = decays(plain_rnn(factor * turned(4), "identity"), torch.randn(12, 1, 3, dtype=torch.float64))
    assert decay.word == word
    assert abs(decay.half_life) == pytest.approx(HALF_LIFE * abs(steps), rel=1e-6)
    assert (decay.half_life > 0) == (steps < 0)


def by_nudges(cells: Any, x: Tensor, weight: Tensor, *, residual: bool) -> list[list[float]]:
    """The norms of both layers at distances 1 .. T − 1: each state that is handed on is nudged, one loop for all."""
    T, B, _ = x.shape
    nudges = [
        [tuple(torch.zeros(B, 6, dtype=x.dtype, requires_grad=True) for _ in range(2)) for _ in range(T + 1)]
        for _ in cells
    ]
    states = [tuple(torch.zeros(B, 6, dtype=x.dtype) for _ in range(2)) for _ in cells]
    for t in range(T):
        below = x[t]
        for n, cell in enumerate(cells):
            before = tuple(s + e for s, e in zip(states[n], nudges[n][t], strict=True))
            y, states[n] = cell(below, before)
            below = y + below if residual and y.shape == below.shape else y
    (below @ weight).square().sum().backward()
    return [
        [
            float(
                torch.stack([torch.cat([e.grad[b] for e in own[t]]).norm() for b in range(B)])  # type: ignore[index]
                .mean()
                .item()
            )
            for t in range(T - 1, 0, -1)
        ]
        for own in nudges
    ]


@pytest.mark.parametrize("residual", [False, True])
def test_the_norms_are_those_of_nudged_states(residual: bool) -> None:
    layer = Recurrent(LSTMCell, 3, 6, 2, residual=residual).double()
    x, weight = torch.randn(7, 3, 3).double(), torch.randn(6).double()
    expected = by_nudges(layer.cells, x, weight, residual=residual)
    found = decays(layer, lambda own: (own(x).y @ weight).square().sum())
    assert [decay.track for decay in found] == ["layer 1", "layer 2"]
    for decay, norms in zip(found, expected, strict=True):
        assert_near(decay.norms, torch.tensor(norms, dtype=torch.float64), gradient=True)
        assert not decay.probed


def test_a_direction_that_reads_backwards_is_looked_at_from_its_own_end() -> None:
    """One layer in two directions is two layers: the second on the turned input."""
    layer = GRU(3, 5, bidirectional=True).double()
    alone = GRU(3, 5).double()
    alone.load_state_dict({name: layer.state_dict()[f"{name}_reverse"] for name in alone.state_dict()})
    x, weight = torch.randn(9, 2, 3).double(), torch.randn(5).double()

    def loss(own: Any) -> Tensor:
        return (own(x).y[..., 5:] @ weight).square().sum()

    forwards, backwards = decays(layer, loss)
    (expected,) = decays(alone, lambda own: (own(x.flip(0)).y @ weight).square().sum())
    assert_near(backwards.norms, expected.norms, gradient=True)
    # What the loss does not read has no gradient of it, so the direction is drawn.
    assert not backwards.probed and forwards.probed


def test_of_a_pooled_answer_only_the_last_output_counts() -> None:
    """Mean pooling hands each output 1 / T of its gradient: that of the last one is 1 / T of its own."""
    model = SequenceClassifier(Embedding(5, 4), GRU(4, 6), 3, pooling="mean").double()
    tokens = torch.randint(5, (8, 2))
    (pooled,) = decays(model, lambda own: own(tokens)[:, 0].sum())
    head = model.head.weight[0].detach()
    (last,) = decays(model.recurrent, lambda own: own(model.embedding(tokens).detach()).y[-1] @ head / 8)
    assert_near(pooled.norms, last.norms, gradient=True)


def test_an_output_layer_of_zeros_lets_a_drawn_direction_through() -> None:
    model = Tagger(Embedding(5, 4), GRU(4, 6), 3)
    nn.init.zeros_(model.head.weight)
    tokens = torch.randint(5, (8, 2))
    found = [decays(model, lambda own: own(tokens).logits.sum(), seed=seed)[0] for seed in (0, 0, 1)]
    assert all(decay.probed and bool((decay.norms > 0).all()) for decay in found)
    assert torch.equal(found[0].norms, found[1].norms) and not torch.equal(found[0].norms, found[2].norms)


def test_rows_of_several_lengths_have_no_common_last_step() -> None:
    layer, x = GRU(3, 5), torch.randn(6, 2, 3)
    with pytest.raises(ValueError, match="one length"):
        decays(layer, lambda own: own(x, lengths=torch.tensor([6, 4])).y.sum())


# ---- gates and states


def gates_by_hand(cell: str, w: dict[str, Tensor], x: Tensor, h: Tensor) -> dict[str, Tensor]:
    H = h.shape[-1]
    if cell == "lstm":
        a = sums(w, x, h)
        made = {name: a[..., n * H : (n + 1) * H] for n, name in enumerate("ifgo")}
        return {name: torch.tanh(v) if name == "g" else 1 / (1 + torch.exp(-v)) for name, v in made.items()}
    if "gain_ih" in w:
        return {}
    from_x, from_h = x @ w["weight_ih"].T + w["bias_ih"], h @ w["weight_hh"].T + w["bias_hh"]
    r, z = (1 / (1 + torch.exp(-(from_x + from_h)[..., n * H : (n + 1) * H])) for n in range(2))
    return {"r": r, "z": z, "n": torch.tanh(from_x[..., 2 * H :] + r * from_h[..., 2 * H :])}


@given(
    cell=st.sampled_from(["lstm", "gru"]),
    layers=st.integers(1, 2),
    bidirectional=st.booleans(),
    norm=st.sampled_from([None, "separate", "sum"]),
    residual=st.booleans(),
    ragged=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_gates_and_states_are_those_of_the_equations(
    cell: str, layers: int, bidirectional: bool, norm: Any, residual: bool, ragged: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    T, B, H, D = 5, 3, 4, 2 if bidirectional else 1
    norm = None if cell == "gru" else norm
    kind: Any = LSTM if cell == "lstm" else GRU
    options = {"bidirectional": bidirectional, "layer_norm": norm, "residual": residual}
    layer = kind(H * D, H, layers, backend="loop", **options)
    x = torch.randn(T, B, H * D)
    lengths = torch.randint(0, T + 1, (B,)) if ragged else None
    tracks = watch(layer, x, lengths=lengths)
    *_, states = layer(x, lengths=lengths, return_states=True)
    states = dict(zip(("h", "c"), states if cell == "lstm" else (states,), strict=False))
    real = torch.arange(T).unsqueeze(1) < (torch.full((B,), T) if lengths is None else lengths)
    below = x
    for n, track in enumerate(tracks):
        number, direction = divmod(n, D)
        assert (track.layer, track.direction) == (number, direction)
        own = {name: values[n] for name, values in states.items()}
        for name, values in own.items():
            assert_near(track.states[name][real], values[real])
            assert bool(track.states[name][~real].isnan().all())
        suffix = f"_l{number}" + "_reverse" * direction
        w = {name.removesuffix(suffix): p for name, p in layer.named_parameters() if name.endswith(suffix)}
        blank = torch.zeros(1, B, H)
        # What is behind a row's end is zero here, as its start is.
        h = torch.where(real.unsqueeze(-1), own["h"], 0.0)
        before = torch.cat((h[1:], blank)) if direction else torch.cat((blank, h[:-1]))
        found = {**track.gates, **track.candidates}
        expected = gates_by_hand(cell, w, below, before)
        assert list(track.gates) == (["i", "f", "o"] if cell == "lstm" else ["r", "z"])
        assert set(found) == set(expected)
        for name, values in expected.items():
            assert_near(found[name][real], values[real].detach(), what=name)
        if direction == D - 1:
            y = torch.cat(
                [torch.where(real.unsqueeze(-1), states["h"][n - d], 0.0) for d in range(D)][::-1], -1
            )
            below = y + torch.where(real.unsqueeze(-1), below, 0.0) if residual else y


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_layer_of_torch_is_seen_as_ours(kind: str) -> None:
    theirs = getattr(nn, kind)(3, 4, 2, bidirectional=True)
    ours = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}[kind](3, 4, 2, bidirectional=True)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(5, 2, 3)
    model = nn.Sequential(theirs)
    for found, expected in zip(watch(model, x), watch(ours, x), strict=True):
        assert found.name == expected.name
        for name, values in {**expected.states, **expected.gates}.items():
            assert torch.equal({**found.states, **found.gates}[name], values)


def test_torchs_own_cells_have_their_gates_named() -> None:
    cell = nn.LSTMCell(3, 4)
    layer = LSTM(3, 4)
    layer.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    x = torch.randn(5, 2, 3)
    (found,), (expected,) = watch(Recurrent(cell), x), watch(layer, x)
    assert list(found.states) == ["h", "c"]
    for name in ("i", "f", "o"):
        assert_near(found.gates[name], expected.gates[name])


class OddCell(nn.Module):
    """Gates in all ways in which one may write them: in parts, by a module, in a function, without a name, 1 − gate."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.hidden_size, self.inner = size, nn.Sequential(nn.Linear(size, size), nn.Sigmoid())
        self.weight = nn.Parameter(torch.randn(3 * size, size))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        keep, write = torch.sigmoid(x @ self.weight.T).split([self.hidden_size, 2 * self.hidden_size], -1)
        write, _ = write.chunk(2, -1)
        door = self.inner(x)
        new = torch.tanh(x + state)
        mixed = mix(keep, state, new) + door * write * torch.sigmoid(x)
        forget = 1 - door
        return mixed, mixed * forget


def mix(share: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return share * a + (1 - share) * b


def test_gates_of_ones_own_cell_have_the_names_of_its_code() -> None:
    cell, x = OddCell(4), torch.randn(5, 3, 4)
    (track,) = watch(Recurrent(cell), x)
    assert set(track.gates) == {"keep", "write", "door", "gate 1", "forget"}
    assert list(track.states) == ["state"] and list(track.candidates) == ["new"]
    before = torch.cat((torch.zeros(1, 3, 4), track.states["state"][:-1]))
    whole = torch.sigmoid(x @ cell.weight.detach().T)
    door = cell.inner(x).detach()
    expected = {"keep": whole[..., :4], "write": whole[..., 4:8], "door": door, "forget": 1 - door}
    for name, values in {**expected, "gate 1": torch.sigmoid(x)}.items():
        assert_near(track.gates[name], values, what=name)
    assert_near(track.candidates["new"], torch.tanh(x + before))


def test_layers_of_several_parts_are_told_apart() -> None:
    model = nn.ModuleDict({"first": LSTM(3, 4), "second": GRU(4, 4, bidirectional=True)})
    x = torch.randn(5, 2, 3)
    with watching(model) as (own, tracks):
        own["second"](own["first"](x).y)
    names = ["first, layer 1", "second, layer 1", "second, layer 1, backwards"]
    assert [track.name for track in tracks] == names
    in_a_row = nn.ModuleList([LSTM(3, 4), GRU(4, 4)])
    with watching(in_a_row) as (own, tracks):
        own[1](own[0](x).y)
    assert [track.name for track in tracks] == ["layer 1", "layer 2"]


def test_calls_one_after_the_other_are_one_reading() -> None:
    layer, x = LSTM(3, 4, 2), torch.randn(7, 2, 3)
    whole = watch(layer, x)
    with watching(layer) as (own, tracks):
        _, state = own(x[:3])
        own(x[3:], state)
    for found, expected in zip(tracks, whole, strict=True):
        for name, values in {**expected.states, **expected.gates}.items():
            assert_near({**found.states, **found.gates}[name], values)


def test_the_network_is_left_as_it_is() -> None:
    model = Tagger(Embedding(5, 4), recurrent_stack("lstm", 4, 6, engine="torch"), 3, dropout=0.5).train()
    tokens, before = torch.randint(5, (8, 2)), {k: v.clone() for k, v in model.state_dict().items()}
    threads, generator = torch.get_num_threads(), torch.get_rng_state()
    assert not torch.equal(model(tokens).logits, model(tokens).logits)
    torch.set_rng_state(generator)
    first, second = watch(model, tokens), watch(model, tokens)
    decays(model, lambda own: own(tokens).logits.sum())
    assert torch.equal(first[0].states["h"], second[0].states["h"])
    assert model.training and type(model.recurrent) is nn.LSTM
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), generator)


def test_there_must_be_something_to_look_at() -> None:
    for look in (
        lambda: watch(nn.Linear(3, 4), torch.ones(2, 3)),
        lambda: decays(nn.Linear(3, 4), torch.ones(2)),
    ):
        with pytest.raises(ValueError, match="no recurrent layer"):
            look()


@pytest.mark.slow
def test_the_example_draws_its_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside.main(tmp_path / "inside.svg")
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["before", "after"]
    ElementTree.fromstring((tmp_path / "inside.svg").read_text(encoding="utf-8"))


# ---- measures


@given(st.integers(0, 1000))
def test_saturation_is_counted(seed: int) -> None:
    torch.manual_seed(seed)
    values = torch.rand(6, 3, 4)
    values[torch.rand(6, 3) < 0.3] = torch.nan
    values[0, 0] = torch.tensor([0.05, 0.95, 0.5, 0.1])
    (found,) = saturation([Track("layer 1", 0, 0, gates={"f": values})])
    rows = [values[t, b].tolist() for t in range(6) for b in range(3) if not values[t, b].isnan().any()]
    low = [sum(row[u] < 0.1 for row in rows) / len(rows) for u in range(4)]
    high = [sum(row[u] > 0.9 for row in rows) / len(rows) for u in range(4)]
    assert (found.track, found.gate) == ("layer 1", "f")
    assert found.units_low.tolist() == pytest.approx(low) and found.units_high.tolist() == pytest.approx(high)
    assert found.low == pytest.approx(sum(low) / 4) and found.high == pytest.approx(sum(high) / 4)
    assert found.always_low == pytest.approx(sum(share > 0.9 for share in low) / 4)


def test_the_units_that_vary_most() -> None:
    values = torch.randn(50, 2, 3) * torch.tensor([0.1, 3.0, 1.0])
    values[-1] = torch.nan
    assert most_varying(values, 2) == [1, 2]
    assert most_varying(values, 9) == [1, 2, 0]


def test_units_that_move_alike_stand_together() -> None:
    one, other = torch.randn(40), torch.randn(40)
    order = alike_together(torch.stack((one, other, 2 * one, 1 - other, 3 * other), 1))
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert abs(order.index(0) - order.index(2)) == 1 and abs(order.index(1) - order.index(4)) == 1
    assert alike_together(torch.randn(1, 2)) == [0, 1]


@given(st.integers(0, 1000), st.booleans())
def test_stretches_are_the_extremes_and_do_not_overlap(seed: int, lowest: bool) -> None:
    torch.manual_seed(seed)
    values = torch.randn(20, 3)
    values[12:, 1] = torch.nan
    found = stretches(values, 4, before=3, after=2, lowest=lowest)
    signed = -values if lowest else values
    assert found[0].value == float(values.flatten()[signed.nan_to_num(-9).flatten().argmax()])
    for place, one in enumerate(found):
        assert one.value == float(values[one.peak, one.row])
        assert one.start == max(0, one.peak - 3)
        assert one.end == min(12 if one.row == 1 else 20, one.peak + 3)
        for other in found[:place]:
            assert other.row != one.row or one.end <= other.start or other.end <= one.start
    # No other place that could stand with them has a more extreme value.
    for t in range(20):
        for b in range(3):
            free = all(b != s.row or t + 3 <= s.start or t - 3 >= s.end for s in found)
            assert not free or not bool(signed[t, b] > min((-s.value if lowest else s.value) for s in found))
