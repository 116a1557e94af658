"""A frozen layer answers as the layer in eval mode does, bit for bit; it sees changes, and refuses to be trained."""

import copy
import pickle
import threading
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils._pytree import tree_leaves

from elman.engine import EngineWarning
from elman.engine import packed as engine_packed
from elman.nn import GRU, LSTM, RNN, GRUCell, GRUDCell, LayerNormLSTMCell, Recurrent
from elman.nn.freezing import Frozen
from tests.nn import test_stream_changes, test_streaming
from tests.tolerances import assert_near

LAYERS = test_streaming.LAYERS | {
    "both directions": lambda: GRU(5, 7, num_layers=2, bidirectional=True),
    "mean of both": lambda: LSTM(5, 7, bidirectional=True, merge="mean"),
    "reverse": lambda: Recurrent(GRUCell(5, 7), reverse=True),
    "widths": lambda: LSTM(5, [7, 4]),
    "one width": lambda: LSTM(5, [7]),
}
CHANGES = {
    name: getattr(test_stream_changes, name)
    for name in (
        "in_place",
        "unseen_by_torch",
        "by_numpy",
        "other_memory",
        "other_parameters",
        "loaded",
        "assigned",
    )
}


def made(name, T=6, B=1):
    torch.manual_seed(0)
    layer = LAYERS[name]().eval()
    dtype = next(layer.parameters()).dtype
    x = torch.randn(T, B, 7 if name == "residual" else 5, dtype=dtype)
    return layer, x.transpose(0, 1).contiguous() if layer.batch_first else x


@torch.no_grad()
def plain(layer, *args, **options):
    return layer(*args, **options)


def assert_same(got, expected):
    assert type(got) is type(expected)
    one, other = tree_leaves(tuple(got)), tree_leaves(tuple(expected))
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.shape == b.shape
        assert torch.equal(a, b)
        assert not a.requires_grad


@contextmanager
def by_the_core_alone(frozen):
    """Whoever asks Python fails."""

    def refuse(*args, **options):
        raise AssertionError("the core did not answer by itself")

    frozen.__dict__["_call"] = refuse
    try:
        yield
    finally:
        del frozen.__dict__["_call"]


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_answers_are_the_layers(name, B):
    layer, x = made(name, B=B)
    frozen = layer.freeze()
    expected = plain(layer, x)
    for _ in range(2):
        assert_same(frozen(x), expected)
    assert set(frozen.explain().splitlines()) == {"packed weights"}
    assert_same(frozen(x, expected.state), plain(layer, x, expected.state))
    layer.backend = "loop"
    for a, b in zip(tree_leaves(tuple(expected)), tree_leaves(tuple(plain(layer, x))), strict=True):
        assert_near(a, b, what=name)


@pytest.mark.parametrize(
    "name", ["rnn", "gru", "lstm", "projected", "layer norm", "double", "cell", "torch's cell"]
)
def test_one_layer_is_one_call_of_the_core(name):
    """With a state and, where the layer begins with zeros, without; any number of steps."""
    layer, x = made(name, T=40)
    frozen = layer.freeze()
    state = frozen(x).state
    calls = [(x[:1], state), (x, state), (x[:17], state)]
    calls += [(x,), (x[3:5], None)] if isinstance(layer, LSTM | GRU | RNN) else []
    with by_the_core_alone(frozen):
        for args in calls:
            assert_same(frozen(*args), plain(layer, *args))


def test_the_batch_first_where_there_is_one_row():
    layer, x = made("batch first")
    frozen = layer.freeze()
    frozen(x)
    with by_the_core_alone(frozen):
        assert_same(frozen(x[:, 2:]), plain(layer, x[:, 2:]))
    _, rows = made("batch first", B=3)
    assert_same(frozen(rows), plain(layer, rows))
    assert_same(frozen(x), plain(layer, x))


@settings(max_examples=6)
@given(some.data())
def test_drawn_calls(data):
    """Any layer, sizes, number of threads, state, and calls in any order on one frozen layer."""
    kind = data.draw(some.sampled_from([RNN, GRU, LSTM]))
    options = {
        "num_layers": data.draw(some.integers(1, 2)), "bidirectional": data.draw(some.booleans()),
        "batch_first": data.draw(some.booleans()), "bias": data.draw(some.booleans()),
    }  # fmt: skip
    I, H = data.draw(some.integers(1, 40)), data.draw(some.integers(1, 40))
    layer = kind(I, H, **options).eval()
    frozen = layer.freeze()
    threads = torch.get_num_threads()
    state = None
    try:
        for _ in range(4):
            torch.set_num_threads(data.draw(some.sampled_from([1, 1, 2])))
            T, B = data.draw(some.integers(1, 70)), data.draw(some.sampled_from([1, 1, 2, 5]))
            x = torch.randn(*((B, T) if layer.batch_first else (T, B)), I)
            if state is not None and (tree_leaves(state)[0].shape[-2] != B or data.draw(some.booleans())):
                state = None
            expected = plain(layer, x, state)
            assert_same(frozen(x, state), expected)
            state = expected.state
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("reverse", [False, True])
def test_long_calls_go_in_stretches(reverse):
    layer = Recurrent(GRUCell(3, 40), reverse=reverse).eval()
    frozen = layer.freeze()
    for T in (3, 1500, 700):
        x = torch.randn(T, 2, 3)
        assert_same(frozen(x), plain(layer, x))


def test_a_stretch_shared_by_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        layer = LSTM(20, 24).eval()
        frozen = layer.freeze()
        for T, B in ((300, 1), (60, 8), (2, 1), (9, 8)):
            x = torch.randn(T, B, 20)
            assert_same(frozen(x), plain(layer, x))
    finally:
        torch.set_num_threads(threads)


def test_several_tensors_and_a_context():
    layer = Recurrent(GRUDCell(4, 6)).eval()
    x = torch.randn(5, 2, 4), torch.ones(5, 2, 4), torch.rand(5, 2, 4)
    assert_same(layer.freeze()(x), plain(layer, x))

    class Biased(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.hidden_size = GRUCell(4, 6), 6

        def forward(self, x, h, bias):
            h = torch.tanh(self.inner(x, h)[1] + bias)
            return h, h

    layer = Recurrent(Biased()).eval()
    frozen = layer.freeze()
    for _ in range(3):
        x, context = torch.randn(5, 2, 4), torch.randn(2, 6)
        assert_same(frozen(x, context=context), plain(layer, x, context=context))
    assert frozen.explain() == "packed weights"


def test_what_is_not_packed_is_the_layers_own_way():
    layer, x = made("lstm", T=6, B=3)
    frozen = layer.freeze()
    frozen(x)
    generator = torch.Generator().manual_seed(0)
    mask, reset = (torch.rand(6, 3, generator=generator) < share for share in (0.7, 0.2))
    lengths = torch.tensor([6, 0, 3])
    for options in ({"lengths": lengths}, {"mask": mask}, {"reset": reset}, {"return_states": True}):
        assert_same(frozen(x, **options), plain(layer, x, **options))
        assert "packed" not in frozen.explain()
    rows = pack_sequence([x[:5, 0], x[:2, 1]], enforce_sorted=False)
    got, expected = frozen(rows), plain(layer, rows)
    assert torch.equal(got.y.data, expected.y.data)
    assert_same(frozen(x[:, 1]), plain(layer, x[:, 1]))  # without a batch axis
    assert_same(frozen(x), plain(layer, x))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["lstm", "gru", "cell", "three layers", "both directions", "layer norm"])
def test_a_change_is_seen_at_the_next_call(name, change):
    layer, x = made(name)
    frozen = layer.freeze()
    before = frozen(x)
    frozen(x)
    CHANGES[change](layer)
    after = plain(layer, x)
    assert not torch.equal(before.y, after.y)
    for _ in range(2):
        assert_same(frozen(x), after)


def test_one_number_is_seen_in_time():
    layer, x = made("lstm")
    frozen = layer.freeze()
    frozen(x)
    layer.weight_hh_l0.data[3, 2] += 1
    after = plain(layer, x)
    assert any(torch.equal(frozen(x).y, after.y) for _ in range(frozen.period + 1))
    assert_same(frozen(x), after)


def test_an_attribute_is_read_by_read():
    layer, x = made("rnn")
    frozen = layer.freeze()
    frozen(x)
    layer.nonlinearity = "tanh"
    frozen.read()
    assert_same(frozen(x), plain(layer, x))


def test_another_backend_and_another_cell():
    layer, x = made("cell")
    frozen = layer.freeze()
    frozen(x)
    frozen(x)
    layer.backend = "reference"
    assert_near(frozen(x).y, plain(layer, x).y)
    assert "packed" not in frozen.explain()
    layer.backend = None
    layer.cells[0] = LayerNormLSTMCell(5, 7).eval()
    frozen.read()
    assert_same(frozen(x), plain(layer, x))


@pytest.mark.parametrize("name", ["lstm", "three layers", "cell"])
def test_it_refuses_to_be_trained(name):
    layer, x = made(name)
    frozen = layer.freeze()
    frozen(x)
    for ask in (lambda: frozen.train(), lambda: layer.train().freeze(), lambda: frozen(x)):
        with pytest.raises(RuntimeError, match=rf"{type(layer).__name__}\.freeze\(\): .*forward only"):
            ask()
    layer.eval()
    assert_same(frozen(x), plain(layer, x))
    with pytest.raises(RuntimeError, match="wants a gradient"):
        frozen(x.clone().requires_grad_())
    with torch.no_grad():
        assert_same(frozen(x.clone().requires_grad_()), plain(layer, x))
    assert frozen.eval() is frozen.train(False) is frozen


def test_a_part_in_training_mode_is_seen():
    """Its random numbers cannot be packed: the layer itself draws them."""

    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.drop, self.hidden_size = GRUCell(5, 7), nn.Dropout(0.5), 7

        def forward(self, x, h):
            h = self.drop(self.inner(x, h)[1])
            return h, h

    layer, x = Recurrent(Dropping()).eval(), torch.randn(6, 1, 5)
    frozen, state = layer.freeze(), torch.zeros(1, 7)
    frozen(x, state)
    assert_same(frozen(x, state), plain(layer, x, state))
    layer.cells[0].drop.train()
    assert (frozen(x, state).y == 0).any()
    assert "random" in frozen.explain()


def test_modes_and_transforms():
    layer, x = made("gru")
    frozen = layer.freeze()
    state = frozen(x).state
    frozen(x)
    with torch.inference_mode():
        assert_same(frozen(x, state), plain(layer, x, state))
    with pytest.warns(EngineWarning, match="torch.func"):
        got = torch.func.vmap(lambda v: frozen(v, state).y)(torch.stack([x, 2 * x]))
    assert_near(got[1], plain(layer, 2 * x, state).y)
    with torch.autograd.forward_ad.dual_level():
        assert_near(frozen(x).y, plain(layer, x).y)
        assert "packed" not in frozen.explain()
    with torch.autocast("cpu", torch.bfloat16), pytest.warns(EngineWarning, match="autocast"):
        assert_same(frozen(x), plain(layer, x))
    assert_same(frozen(x.double().float()), plain(layer, x))
    with pytest.raises(Exception, match="float64"):
        frozen(x.double())
    wide = torch.randn(6, 1, 10)[..., ::2]
    assert_same(frozen(wide), plain(layer, wide))


def test_two_threads_at_once():
    layer = LSTM(64, 128).eval()
    frozen, x = layer.freeze(), torch.randn(50, 1, 64)
    expected = plain(layer, x)
    frozen(x)
    wrong = []

    def ask():
        for _ in range(20):
            got = frozen(x)
            if not torch.equal(got.y, expected.y) or not torch.equal(got.state[1], expected.state[1]):
                wrong.append(got)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_results_are_the_callers():
    layer, x = made("lstm")
    frozen = layer.freeze()
    frozen(x)
    first = frozen(x)
    kept = [t.clone() for t in tree_leaves(tuple(first))]
    frozen(2 * x, first.state)
    for a, b in zip(tree_leaves(tuple(first)), kept, strict=True):
        assert torch.equal(a, b)


def test_copies_and_pickles():
    layer, x = made("gru")
    frozen = layer.freeze()
    expected = plain(layer, x)
    twin = copy.deepcopy(frozen)
    test_stream_changes.in_place(layer)
    assert_same(twin(x), expected)
    assert_same(copy.copy(frozen)(x), plain(layer, x))
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(frozen)
    assert repr(frozen) == "Frozen(GRU)"
    assert isinstance(frozen, Frozen)


def test_a_fault_is_found_at_the_first_call(monkeypatch):
    """A packed call that gives something else than the step does not answer."""
    layer, x = made("gru")
    right = engine_packed.Packed.run

    def wrong(self, *args):
        result = right(self, *args)
        return result._replace(y=result.y * 1.05)

    monkeypatch.setattr(engine_packed.Packed, "run", wrong)
    frozen = layer.freeze()
    with pytest.warns(UserWarning, match="plain Python loop"):
        got = frozen(x)
    assert_near(got.y, plain(layer, x).y)
    assert "verification" in frozen.explain()
    assert frozen.steps is None


def test_the_core_refuses_what_does_not_fit():
    layer, x = made("gru")
    frozen = layer.freeze()
    frozen(x)
    core = frozen._scans[0].last.core
    for count in (0, 1):
        with pytest.raises(ValueError, match="another number of arrays"):
            core.run(1, [0] * count, [0] * count)
    recipe = frozen._scans[0].last._recipe
    for B, count in ((0, 0), (1, 0), (1, 40)):
        with pytest.raises(ValueError, match="expected"):
            type(core)(recipe, B, False, [0] * count, 1, torch.Tensor._version, torch.Tensor.data_ptr)
