"""Recurrent: any cell, one layer or a stack, whatever the structure of its state."""

import copy
import pickle
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import elman.nn as en
from elman.engine import EngineError
from nn.by_hand import FAST, assert_same, gradients, leaves, unroll

DOUBLE = torch.float64
I, H, T, B = 3, 4, 5, 3
LENGTHS = [5, 0, 3]
CELLS = [
    en.ElmanCell,
    en.LSTMCell,
    en.PeepholeLSTMCell,
    en.CoupledLSTMCell,
    en.LayerNormLSTMCell,
    en.GRUCell,
    en.LayerNormGRUCell,
    en.OriginalGRUCell,
    en.MinimalGatedCell,
]


class Memory(NamedTuple):
    fast: Tensor
    slow: Tensor


class LeakyCell(nn.Module):
    """A user's cell: a named state of two widths, an output of a third, a context, no `hidden_size`."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_size = 2
        self.width = hidden_size
        self.mix = nn.Linear(input_size + hidden_size, hidden_size, dtype=DOUBLE)
        self.read = nn.Linear(2 * hidden_size, 2, dtype=DOUBLE)

    def initial_state(self, batch: int, device: Any, dtype: Any) -> Memory:
        ones = torch.ones(batch, self.width, device=device, dtype=dtype)
        return Memory(0.1 * ones, 0.2 * ones)

    def forward(self, x: Tensor, state: Memory, context: Tensor | None = None) -> tuple[Tensor, Memory]:
        fast = torch.tanh(self.mix(torch.cat((x, state.fast), 1)))
        slow = 0.9 * state.slow + 0.1 * fast
        slow = slow if context is None else slow + context
        return self.read(torch.cat((fast, slow), 1)), Memory(fast, slow)


def sequences(width: int = I) -> Tensor:
    return torch.randn(T, B, width, dtype=DOUBLE, requires_grad=True)


def as_step(cell: nn.Module, structure: Any) -> Any:
    """The cell as a step over a flat tuple of states."""

    def step(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        given_state = (
            structure(*state) if structure is Memory else (state if structure is tuple else state[0])
        )
        y, new = cell(x, given_state)
        return y, tuple(leaves(new))

    return step


def structure_of(state: Any) -> Any:
    return Memory if isinstance(state, Memory) else tuple if isinstance(state, tuple) else Tensor


def random_like(start: Any) -> list[Tensor]:
    return [torch.randn_like(s).requires_grad_() for s in leaves(start)]


def rebuilt(flat: Any, structure: Any) -> Any:
    flat = list(flat)
    return Memory(*flat) if structure is Memory else tuple(flat) if structure is tuple else flat[0]


@given(
    st.sampled_from([*CELLS, LeakyCell]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from((None, LENGTHS)),
    st.booleans(),
)
def test_instance_equals_its_own_loop(
    kind: Any, batch_first: bool, reverse: bool, with_reset: bool, lengths: Any, return_states: bool
) -> None:
    cell = kind(I, H).double()
    layer = en.Recurrent(cell, batch_first=batch_first, reverse=reverse)
    start = cell.initial_state(B, None, DOUBLE)
    structure, flat = structure_of(start), random_like(start)
    target = random_like(start)
    x = sequences()
    reset = torch.rand(T, B) < 0.4 if with_reset else None
    turned = (lambda v: v.transpose(0, 1)) if batch_first else (lambda v: v)
    actual = layer(
        turned(x),
        rebuilt(flat, structure),
        initial_state=rebuilt(target, structure),
        lengths=None if lengths is None else torch.tensor(lengths),
        reset=None if reset is None else turned(reset),
        return_states=return_states,
    )
    assert layer.path == FAST, layer.explain()
    assert structure_of(actual.state) is structure
    y, final, states = unroll(
        as_step(cell, structure), x, flat, lengths=lengths, reset=reset, target=target, reverse=reverse
    )
    expected = (turned(y), final, tuple(turned(s) for s in states)) if return_states else (turned(y), final)
    inputs = {"x": x, **dict(cell.named_parameters())}
    inputs |= {f"s{i}": s for i, s in enumerate((*flat, *target))}
    assert_same(actual, expected, inputs)


@pytest.mark.parametrize("theirs", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_torchs_own_cells(theirs: type[nn.Module]) -> None:
    cell = theirs(I, H, dtype=DOUBLE)
    kind = {nn.RNNCell: nn.RNN, nn.LSTMCell: nn.LSTM, nn.GRUCell: nn.GRU}[theirs]
    expected = kind(I, H, dtype=DOUBLE)
    expected.load_state_dict({f"{n}_l0": p for n, p in cell.state_dict().items()})
    x = sequences()
    y, state = en.Recurrent(cell)(x)
    wanted, final = expected(x)
    assert_same((y, state), (wanted, tuple(s[0] for s in leaves(final))), {"x": x})


@pytest.mark.parametrize(
    ("cell", "layer", "options"),
    [
        (en.ElmanCell, en.RNN, {}),
        (en.LSTMCell, en.LSTM, {}),
        (en.PeepholeLSTMCell, en.LSTM, {"peephole": True}),
        (en.CoupledLSTMCell, en.LSTM, {"coupled": True}),
        (en.LayerNormLSTMCell, en.LSTM, {"layer_norm": "separate"}),
        (en.GRUCell, en.GRU, {}),
        (en.OriginalGRUCell, en.GRU, {"reset_after": False}),
        (en.LayerNormGRUCell, en.GRU, {"layer_norm": "separate"}),
    ],
)
@pytest.mark.parametrize("merge", ["concat", "mean"])
def test_a_stack_of_cells_equals_the_layer(
    cell: Any, layer: Any, options: dict[str, Any], merge: Any
) -> None:
    shape: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "merge": merge}
    ours = en.Recurrent(cell, I, H, **shape).double()
    other = layer(I, H, **shape, **options).double()
    suffixes = ("_l0", "_l0_reverse", "_l1", "_l1_reverse")
    other.load_state_dict(
        {f"{n}{suffixes[i]}": p for i, c in enumerate(ours.cells) for n, p in c.state_dict().items()}
    )
    x, ends = sequences(), torch.tensor(LENGTHS)
    y, state = ours(x, lengths=ends)
    assert isinstance(state, tuple)
    assert len(state) == 4
    wanted, final = other(x, lengths=ends)
    stacked = [torch.stack(part) for part in zip(*(leaves(s) for s in state), strict=True)]
    assert_same((y, stacked), (wanted, final), {"x": x})


def test_a_stack_with_widths_residual_dropout_and_a_users_factory() -> None:
    made: list[tuple[int, int]] = []

    def factory(input_size: int, hidden_size: int) -> nn.Module:
        made.append((input_size, hidden_size))
        return en.ElmanCell(input_size, hidden_size, output_size=3, dtype=DOUBLE)

    layer = en.Recurrent(
        factory, I, [4, 5], bidirectional=True, merge="sum", residual=True, dropout=0.5
    ).eval()
    assert made == [(3, 4), (3, 4), (3, 5), (3, 5)]
    x = sequences()
    h = x
    for i in range(2):
        ways = [
            unroll(
                as_step(layer.cells[2 * i + d], Tensor),
                h,
                [torch.zeros(B, 4 + i, dtype=DOUBLE)],
                reverse=d == 1,
            )
            for d in (0, 1)
        ]
        h = ways[0][0] + ways[1][0] + h
    assert_same(layer(x).y, h, {"x": x, **dict(layer.named_parameters())})
    layer.train()
    assert not torch.allclose(layer(x).y, layer(x).y)


def test_several_inputs_a_step_and_a_context() -> None:
    class Cell(nn.Module):
        hidden_size = H

        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(I, H, dtype=DOUBLE))

        def forward(self, x: tuple[Tensor, Tensor], h: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.tanh(x[0] @ self.w + h * x[1] + memory)
            return h, h

    cell = Cell()
    a, b = sequences(), sequences(1)
    memory = torch.randn(B, H, dtype=DOUBLE, requires_grad=True)
    h, ys = torch.zeros(B, H, dtype=DOUBLE), []
    for t in range(T):
        _, h = cell((a[t], b[t]), h, memory)
        ys.append(h)
    inputs = {"a": a, "b": b, "memory": memory, "w": cell.w}
    assert_same(en.Recurrent(cell)((a, b), context=memory), (torch.stack(ys), h), inputs)
    first = en.Recurrent(cell, batch_first=True)
    turned = (a.transpose(0, 1), b.transpose(0, 1))
    assert_same(first(turned, context=memory), (torch.stack(ys, 1), h), inputs)
    with pytest.raises(ValueError, match="equal T and B"):
        en.Recurrent(cell)((a, b[:2]), context=memory)


def test_packed_one_sequence_and_context() -> None:
    cell = LeakyCell(I, H)
    layer = en.Recurrent(cell, batch_first=True)
    x = torch.randn(B, T, I, dtype=DOUBLE, requires_grad=True)
    ends = torch.tensor([3, 5, 1])
    memory = torch.randn(B, H, dtype=DOUBLE, requires_grad=True)
    reset = torch.rand(B, T) < 0.4
    start = Memory(*random_like(cell.initial_state(B, None, DOUBLE)))
    expected = layer(x, start, context=memory, lengths=ends, reset=reset, return_states=True)
    packed = pack_padded_sequence(x, ends, batch_first=True, enforce_sorted=False)
    y, state, states = layer(packed, start, context=memory, reset=reset, return_states=True)
    wanted = pack_padded_sequence(expected.y, ends, batch_first=True, enforce_sorted=False)
    inputs = {"x": x, "memory": memory, "fast": start.fast, "slow": start.slow}
    assert_same((y.data, state, states), (wanted.data, *expected[1:]), inputs)

    one = Memory(start.fast[1], start.slow[1])
    alone = layer(x[1], one, context=memory[1], reset=reset[1], return_states=True)
    assert isinstance(alone.state, Memory)
    assert_same(alone, tuple(_row(part, 1) for part in expected), inputs)


def _row(tree: Any, b: int) -> Any:
    return Memory(*(s[b] for s in tree)) if isinstance(tree, Memory) else tree[b]


def test_token_cells_and_images() -> None:
    class Tokens(nn.Module):
        hidden_size = H

        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(7, H)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return torch.tanh(self.table(x) + h)

    layer = en.Recurrent(Tokens())
    ids = torch.randint(7, (T, B))
    h, ys = torch.zeros(B, H), []
    for row in ids:
        h = layer.cell(row, h)
        ys.append(h)
    assert_same(layer(ids), (torch.stack(ys), h), dict(layer.named_parameters()))

    class Image(nn.Module):
        def __init__(self, channels: int, hidden: int) -> None:
            super().__init__()
            self.hidden_size = hidden
            self.conv = nn.Conv2d(channels + hidden, hidden, 3, padding=1)

        def initial_state(self, batch: int, device: Any, dtype: Any) -> Tensor:
            return torch.zeros(batch, self.hidden_size, 4, 4, device=device, dtype=dtype)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.tanh(self.conv(torch.cat((x, h), 1)))
            return h, h

    images = en.Recurrent(Image, 2, 3, num_layers=2, bidirectional=True, backend="loop")
    y, state = images(torch.randn(3, 2, 2, 4, 4), lengths=torch.tensor([3, 1]))
    assert y.shape == (3, 2, 6, 4, 4)
    assert [s.shape for s in state] == [(2, 3, 4, 4)] * 4


@given(st.sampled_from([en.LSTMCell, en.GRUCell, LeakyCell]), st.booleans())
def test_learned_start(kind: Any, with_reset: bool) -> None:
    cell = kind(I, H).double()
    layer = en.Recurrent(cell, learn_initial_state=True)
    default = cell.initial_state(B, None, DOUBLE)
    names = {en.LSTMCell: ("h", "c"), en.GRUCell: ("h",), LeakyCell: ("fast", "slow")}[kind]
    parameters = [layer.get_parameter(f"initial_{n}_l0") for n in names]
    for p, s in zip(parameters, leaves(default), strict=True):
        assert torch.equal(p, s[0]), "learning starts from the cell's own start"
        with torch.no_grad():
            p.add_(torch.randn_like(p))
    x = sequences()
    reset = torch.rand(T, B) < 0.4 if with_reset else None
    start = [p.expand(B, -1) for p in parameters]
    y, final, _ = unroll(as_step(cell, structure_of(default)), x, start, reset=reset, target=start)
    assert_same(layer(x, reset=reset), (y, final), {"x": x, **dict(layer.named_parameters())})
    assert_same(layer(x, default), en.Recurrent(cell)(x), {"x": x})


@pytest.mark.parametrize("rates", [0.3, {"fast": 0.2, "slow": 0.7}, {"slow": 0.5}, {0: 0.4}])
def test_zoneout_in_eval_mode_mixes_named_states(rates: Any) -> None:
    cell = LeakyCell(I, H)
    layer = en.Recurrent(cell, zoneout=rates).eval()
    each = (
        [rates] * 2
        if isinstance(rates, float)
        else [rates.get("fast", rates.get(0, 0.0)), rates.get("slow", rates.get(1, 0.0))]
    )

    def step(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        y, new = cell(x, Memory(*state))
        return y, tuple(p * a + (1 - p) * b for p, a, b in zip(each, state, new, strict=True))

    x = sequences()
    y, final, _ = unroll(step, x, leaves(cell.initial_state(B, None, DOUBLE)), lengths=LENGTHS)
    actual = layer(x, lengths=torch.tensor(LENGTHS))
    assert layer.path == FAST, layer.explain()
    assert isinstance(actual.state, Memory)
    assert_same(actual, (y, final), {"x": x, **dict(cell.named_parameters())})


@pytest.mark.parametrize("kind", [en.LSTMCell, en.GRUCell, nn.LSTMCell, nn.GRUCell])
def test_zoneout_of_a_cell_whose_output_is_its_state(kind: Any) -> None:
    cell = kind(I, H, dtype=DOUBLE)
    layer = en.Recurrent(cell, zoneout=0.4)
    other = {"LSTMCell": en.LSTM, "GRUCell": en.GRU}[kind.__name__](I, H, zoneout=0.4, dtype=DOUBLE)
    other.load_state_dict({f"{n}_l0": p for n, p in cell.state_dict().items()})
    x = sequences()
    y, _, states = layer(x, return_states=True)
    assert layer.path == FAST, layer.explain()
    assert torch.equal(y, leaves(states)[0])
    held = y[1:] == y[:-1]
    assert 0 < held.sum() < held.numel()
    assert_same(layer.eval()(x), _without_layers(other.eval()(x)), {"x": x})


def _without_layers(out: Any) -> Any:
    return out.y, tuple(s[0] for s in leaves(out.state))


def test_zoneout_by_name_of_a_cells_states() -> None:
    layer = en.Recurrent(en.LSTMCell, I, H, zoneout={"c": 1.0})
    y, ((_, c),) = layer(torch.randn(T, B, I))
    assert (c == 0).all()
    assert not (y == 0).all()
    with pytest.raises(AttributeError):
        layer.zoneout = 0.5
    for bad in ({"z": 0.1}, {2: 0.1}, 1.5, {"h": -1}):
        with pytest.raises(ValueError, match="zoneout"):
            en.Recurrent(en.LSTMCell, I, H, zoneout=bad)(torch.randn(T, B, I))


@pytest.mark.parametrize("kind", [*CELLS, LeakyCell])
def test_copies_pickles_and_state_dicts(kind: Any) -> None:
    shape: dict[str, Any] = {"bidirectional": True, "learn_initial_state": True}
    layer = en.Recurrent(kind, I, H, **shape).double()
    x = sequences()
    expected = layer(x)
    twin = en.Recurrent(kind, I, H, **shape).double()
    twin.load_state_dict(layer.state_dict())
    for other in (twin, copy.deepcopy(layer), copy.copy(layer), pickle.loads(pickle.dumps(layer))):
        assert_same(other(x), expected, {})
    apart = copy.deepcopy(layer)
    with torch.no_grad():
        for p in apart.parameters():
            p.zero_()
    assert not torch.equal(apart(x).y, expected.y)
    assert_same(layer(x), expected, {})


def test_nan_in_the_padding_reaches_nothing() -> None:
    layer = en.Recurrent(LeakyCell, I, H, num_layers=2, bidirectional=True, merge="mean")
    x = torch.randn(T, B, I, dtype=DOUBLE)
    for b, n in enumerate(LENGTHS):
        x[n:, b] = float("nan")
    x.requires_grad_()
    out = layer(x, lengths=torch.tensor(LENGTHS), return_states=True)
    assert all(leaf.isfinite().all() for leaf in leaves(out))
    grads = gradients(leaves(out), {"x": x, **dict(layer.named_parameters())})
    assert all(g.isfinite().all() for g in grads.values())


def test_a_changed_cell_is_seen() -> None:
    cell = en.ElmanCell(I, H, dtype=DOUBLE)
    layer = en.Recurrent(cell)
    x = sequences()
    before = layer(x).y
    cell.nonlinearity = "relu"
    assert_same(layer(x).y, en.Recurrent(cell)(x).y, {"x": x})
    assert not torch.allclose(layer(x).y, before)


def test_check_says_what_is_outside_the_rules() -> None:
    class Mixing(en.GRUCell):
        def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return super().forward(x - x.mean(0), state)

    x = torch.randn(T, B, I)
    layer = en.Recurrent(Mixing(I, H), fallback="error")
    for call in (layer, layer.check):
        with pytest.raises(EngineError, match="runs on the plain Python loop"):
            call(x)
    found = en.Recurrent(en.GRUCell, I, H, 2).check(x)
    assert [*found] == ["l0", "l1"]
    assert all(e.path == FAST for e in found.values())


def test_backend_and_fallback_are_handed_on() -> None:
    layer = en.Recurrent(en.GRUCell, I, H, 2, backend="loop")
    layer(torch.randn(T, B, I))
    assert layer.path == "loop"
    assert [*layer.explain()] == ["l0", "l1"]


class Pair(en.GRUCell):
    """A cell that gives two tensors."""

    def forward(self, x: Tensor, state: Tensor | None = None) -> Any:
        _, h = super().forward(x, state)
        return (h, 2 * h), h


def test_outputs_of_any_structure() -> None:
    cell = Pair(I, H)
    (y, doubled), state = en.Recurrent(cell, batch_first=True)(torch.randn(B, T, I))
    assert y.shape == (B, T, H)
    assert torch.equal(doubled, 2 * y)
    assert torch.equal(y[:, -1], state)
    for options in ({"num_layers": 2}, {"bidirectional": True}):
        with pytest.raises(TypeError, match="y_t is a tuple"):
            en.Recurrent(Pair, I, H, **options)(torch.randn(T, B, I))


def test_a_replica_uses_its_own_cells() -> None:
    layer = en.Recurrent(en.GRUCell, I, H, 2)
    replica = layer._replicate_for_data_parallel()
    with torch.no_grad():
        cells = copy.deepcopy(layer.cells)
        for p in cells.parameters():
            p.zero_()
    replica._modules["cells"] = cells
    assert (replica(torch.randn(T, B, I)).y == 0).all()
    assert not (layer(torch.randn(T, B, I)).y == 0).all()


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "layers of an instance": (lambda: en.Recurrent(en.GRUCell(I, H), num_layers=2), ValueError, "factory"),
    "directions of an instance": (
        lambda: en.Recurrent(en.GRUCell(I, H), bidirectional=True),
        ValueError,
        "factory",
    ),
    "factory without sizes": (
        lambda: en.Recurrent(en.GRUCell),
        ValueError,
        "needs input_size and hidden_size",
    ),
    "no cell": (lambda: en.Recurrent("lstm", I, H), TypeError, "cell is str"),
    "factory of something else": (lambda: en.Recurrent(lambda i, h: h, I, H), TypeError, "returned int"),
    "merge of one direction": (
        lambda: en.Recurrent(en.GRUCell, I, H, merge="sum"),
        ValueError,
        "merge='sum'",
    ),
    "residual of other widths": (
        lambda: en.Recurrent(en.GRUCell(I, H), residual=True),
        ValueError,
        "residual",
    ),
    "residual of unknown widths": (
        lambda: en.Recurrent(nn.Identity(), residual=True),
        ValueError,
        "None features",
    ),
    "residual of a tuple": (
        lambda: en.Recurrent(en.GRUCell(H, H), residual=True)((torch.zeros(T, B, H),)),
        TypeError,
        "adds the input",
    ),
    "input of another width": (
        lambda: en.Recurrent(en.GRUCell, I, H)(torch.zeros(T, B, 9)),
        RuntimeError,
        "input_size",
    ),
    "no tensor": (lambda: en.Recurrent(en.GRUCell, I, H)(["a"]), TypeError, "str"),
    "no steps": (
        lambda: en.Recurrent(en.GRUCell, I, H)(torch.zeros(0, B, I)),
        RuntimeError,
        "sequence length",
    ),
    "one state for many": (
        lambda: en.Recurrent(en.GRUCell, I, H, 2)(torch.zeros(T, B, I), torch.zeros(B, H)),
        RuntimeError,
        "tuple of 2 cell states",
    ),
    "state of another batch": (
        lambda: en.Recurrent(en.GRUCell(I, H))(torch.zeros(T, B, I), torch.zeros(1, H)),
        RuntimeError,
        "3 rows",
    ),
    "no start": (
        lambda: en.Recurrent(nn.Bilinear(2, 3, 4))(torch.zeros(T, B, I)),
        ValueError,
        "initial_state",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input(bad: str) -> None:
    call, error, message = BAD[bad]
    with pytest.raises(error, match=message):
        call()


def test_sequence_dropout_module() -> None:
    drop = en.SequenceDropout(0.5)
    x = torch.ones(6, 4, 50)
    y = drop(x)
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert (y == y[:1]).all()
    assert not (y[:, :1] == y).all()
    first = en.SequenceDropout(0.5, batch_first=True)(x)
    assert (first == first[:, :1]).all()
    assert torch.equal(drop.eval()(x), x)
    with pytest.raises(ValueError, match="3-D"):
        drop(x[0])
    with pytest.raises(ValueError, match="p=2"):
        en.SequenceDropout(2)


@pytest.mark.parametrize(
    "cell", [nn.LSTM(3, 4), nn.GRU, en.GRU(3, 4), en.LSTM, en.Recurrent(en.GRUCell(3, 4))]
)
def test_a_layer_is_not_a_cell(cell):
    with pytest.raises(TypeError, match="is a layer, not a cell"):
        en.Recurrent(cell, 3, 4)
