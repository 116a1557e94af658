"""A stream sees what changes under it; its rows begin anew one by one; a copy goes its own way."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from elman.nn import GRU, LSTM, RNN, GRUCell, LayerNormLSTMCell, Recurrent
from tests.nn import test_streaming
from tests.nn.test_streaming import Branch, whole
from tests.tolerances import assert_near

LAYERS = test_streaming.LAYERS | {
    "the reference": lambda: GRU(5, 7, backend="reference"),
    "the loop": lambda: GRU(5, 7, backend="loop"),
}


def made(name):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    return layer, torch.randn(6, 3, 7 if name == "residual" else 5, dtype=next(layer.parameters()).dtype)


def stepped(layer, x, state=None):
    """One step of the layer itself, from this state."""
    return whole(layer, x[None], state)[0][0]


def parameters(layer):
    return [p for p in layer.parameters() if p.numel()]


@torch.no_grad()
def in_place(layer):
    for p in parameters(layer):
        p.mul_(1.5)


def unseen_by_torch(layer):
    for p in parameters(layer):
        version = p._version
        p.data.mul_(1.5)
        assert p._version == version


def by_numpy(layer):
    for p in parameters(layer):
        p.detach().numpy()[...] *= 1.5


def other_memory(layer):
    for p in parameters(layer):
        p.data = 1.5 * p.data


def other_parameters(layer):
    for module in layer.modules():
        for name, p in list(module._parameters.items()):
            if p is not None:
                setattr(module, name, nn.Parameter(1.5 * p.detach()))


def loaded(layer):
    layer.load_state_dict({k: 1.5 * v for k, v in layer.state_dict().items()})


def assigned(layer):
    layer.load_state_dict({k: 1.5 * v for k, v in layer.state_dict().items()}, assign=True)


def learned(optimizer, **options):
    def update(layer):
        how = optimizer(layer.parameters(), lr=0.1, **options)
        layer(
            torch.randn(4, 2, 7 if getattr(layer, "residual", False) else 5, dtype=parameters(layer)[0].dtype)
        )[0].square().sum().backward()
        how.step()
        layer.zero_grad()

    return update


def averaged(layer):
    average = copy.deepcopy(layer)
    for p, q in zip(layer.parameters(), average.parameters(), strict=True):
        p.data.copy_(0.3 * q.data)


CHANGES = {
    "in place": in_place,
    "p.data in place": unseen_by_torch,
    "numpy": by_numpy,
    "p.data = ": other_memory,
    "other parameters": other_parameters,
    "load_state_dict": loaded,
    "load_state_dict, assigned": assigned,
    "sgd": learned(torch.optim.SGD),
    "adam, for each": learned(torch.optim.Adam, foreach=True),
    "adamw, fused": learned(torch.optim.AdamW, fused=True),
    "an average's values": averaged,
}


SOME = [*((name, "p.data in place") for name in LAYERS), *((name, "other parameters") for name in LAYERS)]
SOME += [(name, change) for name in ("lstm", "stack of cells", "double") for change in CHANGES]


@pytest.mark.parametrize(("name", "change"), sorted(set(SOME)))
def test_the_step_after_a_change_is_right(name, change):
    layer, x = made(name)
    stream = layer.stream()
    for x_t in x[:3]:
        stream(x_t)
    state = stream.state
    CHANGES[change](layer)
    y = stream(x[3])
    assert_near(y, stepped(layer, x[3], state), what=f"{name}, {change}")
    assert stream.path == layer.path


@given(
    kind=some.sampled_from([RNN, GRU, LSTM]),
    sizes=some.tuples(some.integers(1, 5), some.integers(1, 80), some.integers(1, 80)),
    which=some.integers(0, 3),
    place=some.integers(0, 10**6),
    batched=some.booleans(),
)
def test_one_number_that_torch_does_not_count_is_seen_within_a_period(kind, sizes, which, place, batched):
    B, I, H = sizes
    layer, x = kind(I, H), torch.randn(*([B] if batched else []), I)
    stream = layer.stream()
    stream(x)
    p = parameters(layer)[which].data.view(-1)
    p[place % p.numel()] += 1
    for _ in range(stream.period):
        stream(x)
    assert stream.period <= sum(q.numel() for q in parameters(layer)) / 128 + 3
    state = stream.state
    assert_near(stream(x), stepped(layer, x, state), what="after a period")


def test_steps_without_a_change_pack_nothing(monkeypatch):
    layer, x = made("lstm")
    stream = layer.stream()
    stream(x[0])
    reads = []
    stepper = stream._steppers[0]
    monkeypatch.setattr(type(stepper), "read", lambda self: reads.append(self))
    for x_t in x[1:].repeat(5, 1, 1):
        stream(x_t)
    stream.reset()
    assert_near(stream(x[0]), stepped(layer, x[0]), what="after a reset")
    assert not reads and stream.path == "native"


@given(
    kind=some.sampled_from([RNN, GRU, LSTM]),
    sizes=some.tuples(some.integers(1, 5), some.integers(1, 80), some.integers(1, 80)),
    which=some.integers(0, 3),
    place=some.integers(0, 10**6),
    learned=some.booleans(),
    given_state=some.booleans(),
)
def test_a_reset_sees_each_number(kind, sizes, which, place, learned, given_state):
    B, I, H = sizes
    layer, x = kind(I, H, learn_initial_state=learned), torch.randn(B, I)
    start = tree_map(torch.randn_like, layer(x[None])[1]) if given_state else None
    stream = layer.stream(start)
    stream(x)
    for _ in range(2):
        chosen = parameters(layer)
        p = chosen[which % len(chosen)].data.view(-1)
        p[place % p.numel()] += 1
        for name, q in layer.named_parameters():
            if name.startswith("initial_"):
                q.data += 1
        stream.reset()
        assert_near(stream(x), stepped(layer, x, start), what="after a reset")


class Scaled(nn.Module):
    """Reads a buffer, an attribute, and a tensor in a list."""

    hidden_size = 4

    def __init__(self):
        super().__init__()
        self.register_buffer("rate", torch.full((4,), 0.5))
        self.more, self.gain = [torch.ones(4)], 1.0

    def forward(self, x, h):
        h = self.gain * self.more[0] * torch.tanh(x + self.rate * h)
        return h, h


def test_buffers_tensors_elsewhere_and_attributes():
    layer, x = Recurrent(Scaled()), torch.randn(8, 2, 4)
    stream = layer.stream()
    stream(x[0])
    for t, change in enumerate(
        [
            lambda cell: cell.rate.mul_(0.5),
            lambda cell: setattr(cell, "rate", torch.rand(4)),
            lambda cell: cell.more[0].mul_(0.5),
            lambda cell: cell.more.__setitem__(0, torch.rand(4)),
        ]
    ):
        change(layer.cell)
        state = stream.state
        assert_near(stream(x[t + 1]), stepped(layer, x[t + 1], state), what=f"change {t}")
    layer.cell.gain = 0.5
    stream.reset()
    assert_near(stream(x[0]), stepped(layer, x[0]), what="an attribute, after reset()")
    assert stream.path == "native"


# ---- resets


@pytest.mark.parametrize("name", LAYERS)
def test_rows_begin_anew(name):
    """As a reset inside a sequence, for the layer over the whole of it."""
    layer, x = made(name)
    reset = torch.rand(6, 3) < 0.4
    reset[0, 1] = reset[3] = True
    with torch.no_grad():
        first = layer.batch_first
        y = layer(x.transpose(0, 1) if first else x, reset=reset.T if first else reset)[0]
        y = y.transpose(0, 1) if first else y
    stream, twin = layer.stream(), layer.stream()
    got = [stream(x_t, reset=mask) for x_t, mask in zip(x, reset, strict=True)]
    assert_near(torch.stack(got), y, what=name)
    for x_t, mask, same in zip(x, reset, got, strict=True):
        twin.reset(mask)
        assert torch.equal(twin(x_t), same)


def test_rows_go_back_to_the_state_that_was_given():
    layer, x = made("lstm")
    start = tuple(torch.randn(1, 3, 7) for _ in range(2))
    stream = layer.stream(start)
    kept = tree_map(torch.clone, start)
    start[0].fill_(99)
    for x_t in x[:3]:
        stream(x_t)
    before = stream.state
    stream.reset(torch.tensor([False, True, False]))
    for a, b, c in zip(stream.state, before, kept, strict=True):
        assert torch.equal(a[:, 1], c[:, 1])
        assert torch.equal(a[:, [0, 2]], b[:, [0, 2]])
    stream.reset()
    assert all(map(torch.equal, stream.state, kept))


def test_a_learned_start_is_what_it_is_now():
    layer, x = made("learned start")
    stream = layer.stream()
    stream(x[0])
    with torch.no_grad():
        layer.initial_h_l0.add_(1)
    stream.reset(torch.tensor([True, False, False]))
    assert torch.equal(stream.state[0][0, 0], layer.initial_h_l0)
    assert not torch.equal(stream.state[0][0, 1], layer.initial_h_l0)


def test_one_sequence_without_a_batch_axis_begins_anew():
    layer, x = made("gru")
    stream = layer.stream()
    first = stream(x[0, 0])
    stream(x[1, 0])
    assert torch.equal(stream(x[0, 0], reset=torch.tensor(True)), first)
    stream(x[1, 0], reset=torch.tensor(False))
    with pytest.raises(ValueError, match=r"expected a boolean tensor \(\)"):
        stream(x[0, 0], reset=torch.tensor([True]))


@pytest.mark.parametrize("wrong", [torch.ones(3), torch.ones(2, dtype=torch.bool), [True, False, True], True])
@pytest.mark.parametrize("begun", [True, False])
def test_what_a_reset_refuses(wrong, begun):
    layer, x = made("lstm")
    stream = layer.stream()
    if begun:
        stream(x[0])
    state = stream.state
    with pytest.raises(ValueError, match=r"expected a boolean tensor \(3,\)"):
        stream(x[1], reset=wrong)
    assert not begun or all(map(torch.equal, tree_leaves(stream.state), tree_leaves(state)))


def test_training_mode_with_dropout_is_refused_at_a_reset():
    layer, x = made("three layers")
    stream = layer.stream()
    stream(x[0])
    layer.train()
    with pytest.raises(ValueError, match=r"call eval\(\)"):
        stream.reset()


def test_inference_mode_may_come_and_go():
    layer, x = made("gru")
    with torch.inference_mode():
        stream = layer.stream()
        stream(x[0])
    stream(x[1])
    stream.reset(torch.tensor([True, False, True]))
    with torch.inference_mode():
        inside = stream(x[2]).clone()
    stream.state = whole(layer, x[:2])[1]
    stream.reset(torch.tensor([True, False, True]))
    assert torch.equal(stream(x[2]), inside)


# ---- copies, and the state


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("name", LAYERS)
def test_a_copy_goes_its_own_way(name, how):
    layer, x = made(name)
    stream = layer.stream()
    fresh, _ = how(stream), stream(x[0])
    twin, state = how(stream), stream.state
    y = stream(x[1])
    assert torch.equal(twin(x[1]), y)
    twin(x[2])
    assert_near(
        stream(x[3]), stepped(layer, x[3], whole(layer, x[1:2], state)[1]), what="not the twin's state"
    )
    twin.reset()
    stream.reset()
    assert torch.equal(twin(x[4]), stream(x[4]))
    assert torch.equal(fresh(x[4]), stepped(layer, x[4]))
    in_place(layer)
    for each in (stream, twin, fresh):
        each.reset()
    y = stream(x[4])
    assert torch.equal(y, twin(x[4])) is torch.equal(y, fresh(x[4])) is (how is copy.copy)


def test_a_stream_is_not_pickled():
    with pytest.raises(TypeError, match=r"stream\.state"):
        pickle.dumps(GRU(5, 7).stream())


def test_rows_of_a_state_are_picked():
    """As a beam search does: row 0 goes on three times."""
    layer, x = made("lstm")
    stream = layer.stream()
    stream(x[0])
    stream.state = tree_map(lambda part: part[:, [0, 0, 0]], stream.state)
    y = stream(x[1, :1].expand(3, -1))
    assert torch.equal(y[0], y[1]) and torch.equal(y[0], y[2])


@pytest.mark.parametrize(
    "make", [lambda: LSTM(5, 7), lambda: Recurrent(LayerNormLSTMCell(5, 7)), lambda: Recurrent(Branch())]
)
@pytest.mark.filterwarnings("ignore::elman.engine.EngineWarning")
def test_a_stream_that_its_layer_holds_goes_with_it(make):
    layer = make()
    x = torch.randn(2, 5 if hasattr(layer, "input_size") and layer.input_size else 4)
    layer.stepper = layer.stream()
    layer.stepper(x)
    layer.kept = [layer.stepper.copy()]
    layer.kept[0](x)
    refs = [weakref.ref(layer), *map(weakref.ref, layer.parameters())]
    del layer
    gc.collect()
    assert not [ref for ref in refs if ref() is not None]


def test_other_tensors_are_refused_not_read():
    layer, x = made("gru")
    stream = layer.stream()
    stream(x[0])
    with pytest.raises(RuntimeError, match="on meta"):
        stream(x[0].to("meta"))


def test_a_cell_in_two_layers():
    cells = Recurrent(GRUCell, 5, 7, num_layers=2)
    cells.cells[1].weight_hh = cells.cells[0].weight_hh
    x = torch.randn(4, 3, 5)
    stream = cells.stream()
    stream(x[0])
    state = stream.state
    with torch.no_grad():
        cells.cells[0].weight_hh.mul_(2)
    assert torch.equal(stream(x[1]), stepped(cells, x[1], state))
