"""Profilers, tracers, modes and odd tensors: a layer runs as torch's would, and leaves them as they were."""

import copy
import cProfile
import gc
import io
import profile
import pstats
import subprocess
import sys
import threading
import warnings

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import elman
from elman.engine import EngineError, EngineWarning, Scan
from elman.engine.call import surroundings
from elman.nn import GRU, LSTM, RNN, GRUCell, Recurrent
from tests.tolerances import assert_near

T, B, I, H = 6, 3, 4, 5


class Blend(nn.Module):
    """A cell of the user's own."""

    def __init__(self, inward=None, around=None):
        super().__init__()
        self.hidden_size = H
        self.inward, self.around = inward or nn.Linear(I, H), around or nn.Linear(H, H)

    def forward(self, x, h):
        h = torch.tanh(self.inward(x) + self.around(h))
        return h, h


LAYERS = {
    "rnn": lambda: RNN(I, H),
    "gru": lambda: GRU(I, H, bidirectional=True),
    "lstm": lambda: LSTM(I, H, num_layers=2),
    "cell": lambda: Recurrent(Blend()),
    "checkpointed": lambda: Recurrent(GRUCell(I, H), checkpoint_every=4),
}


def by_loop(layer, *arguments):
    twin = copy.deepcopy(layer)
    twin.backend = "loop"
    return twin(*arguments)[0]


def later():
    return sum(range(10))


# ---- profilers and tracers


def seen_by(profiler, call):
    """What a profiler of Python's own saw of `call` and of `later`, one after the other."""
    profiler.enable() if hasattr(profiler, "enable") else None
    if hasattr(profiler, "enable"):
        call(), later()
        profiler.disable()
    else:
        profiler.runcall(lambda: (call(), later()))
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).print_stats()
    return text.getvalue()


@pytest.fixture
def no_callbacks():
    """Nobody listens to the collector: Python's `profile` takes a listener (hypothesis has one) that is called while a
    function is being entered for a call out of order, and stops."""
    kept = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks.extend(kept)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kind", [cProfile.Profile, profile.Profile])
def test_a_profiler_goes_on(name, kind, no_callbacks):
    layer, x = LAYERS[name](), torch.randn(T, B, I)
    text = seen_by(kind(), lambda: layer(x)[0].sum().backward())
    assert layer.path == "native"
    assert "(later)" in text and "(backward)" in text
    assert "recurrent.py" in text or "stock.py" in text


@pytest.mark.parametrize("collecting", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_the_collector_is_left_as_it_was(collecting, fails):
    layer = GRU(I, H)
    gc.enable() if collecting else gc.disable()
    try:
        if fails:
            with pytest.raises(RuntimeError, match="input_size"):
                layer(torch.randn(T, B, I + 1))
        else:
            layer(torch.randn(T, B, I))
        assert gc.isenabled() == collecting
    finally:
        gc.enable()


@pytest.mark.parametrize("put", [sys.setprofile, sys.settrace, threading.setprofile])
def test_a_function_of_ones_own_is_there_afterwards(put):
    seen = []

    def watch(frame, event, argument):
        seen.append(frame.f_code.co_name)
        return watch if put is sys.settrace else None

    layer, x = Recurrent(Blend()), torch.randn(T, B, I)
    ask = sys.gettrace if put is sys.settrace else sys.getprofile
    before = ask()
    put(watch)
    try:
        layer(x)
        later()
        during = ask()
    finally:
        put(before if put is not threading.setprofile else None)
    assert during is (watch if put is not threading.setprofile else before)
    assert layer.path == "native"
    assert put is threading.setprofile or "later" in seen


def test_torch_s_profiler_with_stacks():
    layer, x = Recurrent(Blend()), torch.randn(T, B, I)
    with torch.profiler.profile(with_stack=True) as profiler:
        layer(x)
        later()
    assert layer.path == "native"
    assert any("later" in event.name for event in profiler.events())


class Profiling(Blend):
    """A step that profiles itself, and so blinds what watches it."""

    def forward(self, x, h):
        before = sys.getprofile()
        sys.setprofile(None)
        out = super().forward(x, h)
        sys.setprofile(before)
        return out


class ProfilingInC(Blend):
    def forward(self, x, h):
        with cProfile.Profile():
            return super().forward(x, h)


@pytest.mark.parametrize(
    ("kind", "reason"), [(Profiling, r"calls getprofile\(\)"), (ProfilingInC, "profile function of its own")]
)
def test_a_step_with_a_profiler_of_its_own_runs_on_the_loop(kind, reason):
    layer, x = Recurrent(kind()), torch.randn(T, B, I)
    with pytest.warns(EngineWarning, match=reason):
        y = layer(x)[0]
    assert torch.equal(y, by_loop(layer, x))
    assert sys.getprofile() is None


def test_hooks_on_saved_tensors_are_there_afterwards():
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t.detach(), lambda t: t):
        LSTM(I, H)(torch.randn(T, B, I))
        count = len(packed)
        torch.ones(2, requires_grad=True).sin()
    assert count and len(packed) == count + 1
    with torch.autograd.graph.disable_saved_tensors_hooks("none here"):
        layer = LSTM(I, H)
        layer(torch.randn(T, B, I))
    assert layer.path == "native"


# ---- modes


class Passive(TorchDispatchMode):
    def __torch_dispatch__(self, func, kinds, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Doubling(TorchDispatchMode):
    """Changes what an operation gives."""

    def __torch_dispatch__(self, func, kinds, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        return 2 * out if func is torch.ops.aten.tanh.default else out


class Sines(TorchFunctionMode):
    """Puts one function in the place of another."""

    def __torch_function__(self, func, kinds, args=(), kwargs=None):
        return (torch.sin if func is torch.tanh else func)(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [Passive, Doubling, Sines])
@pytest.mark.parametrize("warm", [0, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_a_mode_acts_as_on_the_loop(name, mode, warm):
    layer, x = LAYERS[name](), torch.randn(T, B, I)
    for _ in range(warm):
        layer(x)
    plain = by_loop(layer, x)
    with mode():
        got, expected = layer(x)[0], by_loop(layer, x)
        assert layer.path == "loop"
    assert torch.equal(got, expected)
    assert_near(layer(x)[0], plain, what=name)
    assert layer.path == "native"


@pytest.mark.parametrize("where", ["cpu", "meta"])
def test_a_default_device(where):
    layer, x = LSTM(I, H), torch.randn(T, B, I)
    expected = by_loop(layer, x)
    with torch.device(where):
        assert_near(layer(x)[0], expected, what="in a context")
        made = LSTM(I, H)
        y, _ = made(torch.zeros(T, B, I))
    assert y.device.type == where and y.shape == (T, B, H)
    assert layer.path == ("native" if where == "cpu" else "loop")
    assert made.path == layer.path


@pytest.mark.filterwarnings("ignore:bfloat16 on the CPU")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_default_dtype(dtype):
    torch.set_default_dtype(dtype)
    layer, x = GRU(I, H), torch.randn(T, B, I)
    assert_near(layer(x)[0], by_loop(layer, x), what="gru")
    assert layer(x)[0].dtype == dtype


# ---- tensors without values, classes of tensors, modules half made


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("grad", [True, False])
def test_meta_tensors(name, grad):
    layer, x = LAYERS[name]().to("meta"), torch.zeros(T, B, I, device="meta")
    with torch.set_grad_enabled(grad):
        y, _ = layer(x)
    assert y.is_meta and y.shape == LAYERS[name]()(torch.zeros(T, B, I))[0].shape
    if grad:
        y.sum().backward()
        assert all(p.grad.is_meta for p in layer.parameters())


@pytest.mark.parametrize("name", LAYERS)
def test_fake_tensors(name):
    layer, x = LAYERS[name](), torch.randn(T, B, I)
    with FakeTensorMode(allow_non_fake_inputs=True):
        fake = LAYERS[name]()(torch.zeros(T, B, I))[0]
        mixed = layer(torch.zeros(T, B, I))[0]
    assert isinstance(fake, FakeTensor) and isinstance(mixed, FakeTensor)
    assert fake.shape == mixed.shape == layer(x)[0].shape
    assert layer.path == "native"


def test_lazy_modules_are_made_by_the_first_call():
    torch.manual_seed(3)
    layer, x = Recurrent(Blend(nn.LazyLinear(H)), fallback="error"), torch.randn(T, B, I)
    y = layer(x)[0]
    assert layer.path == "loop" and "lazy" in str(layer.explain())
    assert_near(layer(x)[0], y, what="the second call")
    assert layer.path == "native"


class Tagged(torch.Tensor):
    """A subclass that torch hands on to results."""


class Wrapped(torch.Tensor):
    """A subclass with operations of its own: it holds another tensor."""

    @staticmethod
    def __new__(cls, inside):
        return torch.Tensor._make_wrapper_subclass(cls, inside.shape, dtype=inside.dtype)

    def __init__(self, inside):
        self.inside = inside

    @classmethod
    def __torch_dispatch__(cls, func, kinds, args=(), kwargs=None):
        args, kwargs = torch.utils._pytree.tree_map_only(cls, lambda t: t.inside, (args, kwargs or {}))
        return torch.utils._pytree.tree_map_only(torch.Tensor, cls, func(*args, **kwargs))


@pytest.mark.parametrize("kind", [Tagged, Wrapped])
@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_subclasses_of_tensors(name, kind):
    layer, x = LAYERS[name](), torch.randn(T, B, I)
    layer(x)
    odd = x.as_subclass(Tagged) if kind is Tagged else Wrapped(x)
    with pytest.warns(EngineWarning, match=kind.__name__):
        y = layer(odd)[0]
    assert type(y) is kind
    plain = y.as_subclass(torch.Tensor) if kind is Tagged else y.inside
    assert torch.equal(plain, by_loop(layer, x))
    layer.fallback = "error"
    with pytest.raises(EngineError, match=kind.__name__):
        layer(odd)


class Weight(nn.Parameter):
    """A parameter with a class of its own, and nothing else."""


def test_a_parameter_of_its_own_class_is_a_parameter():
    layer, x = Recurrent(Blend(), fallback="error"), torch.randn(T, B, I)
    layer.cell.around.weight = Weight(layer.cell.around.weight.detach())
    assert_near(layer(x)[0], by_loop(layer, x), what="y")
    assert layer.path == "native"


@torch.no_grad()
@pytest.mark.parametrize("warm", [0, 1, 3])
def test_a_parameter_whose_place_a_tensor_with_operations_of_its_own_takes(warm):
    layer, x = Recurrent(Blend()), torch.randn(T, B, I)
    around, expected = layer.cell.around, by_loop(layer, x)
    for _ in range(warm):
        layer(x)
    plain = around.weight
    around.weight = nn.Parameter(Wrapped(plain.detach()))
    with pytest.warns(EngineWarning, match="Wrapped"):
        y = layer(x)[0]
    assert torch.equal(y.inside, expected)
    around.weight = plain
    assert_near(layer(x)[0], expected, what="back")
    assert layer.path == "native"


def test_a_part_in_torchscript():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(nn.Linear(H, H))
    layer, x = Recurrent(Blend(around=scripted)), torch.randn(T, B, I)
    with pytest.warns(EngineWarning, match="TorchScript"):
        y = layer(x)[0]
    h = torch.zeros(B, H)
    for t in range(T):
        h = layer.cell(x[t], h)[0]
        assert_near(y[t], h, what=f"step {t}")


def test_trouble_in_the_inspection_is_the_loop(monkeypatch):
    def broken(*_):
        raise LookupError("not now")

    layer, x = Recurrent(Blend()), torch.randn(T, B, I)
    monkeypatch.setattr("elman.engine.scan.reach", broken)
    with pytest.warns(EngineWarning, match="could not look at the step .LookupError: not now"):
        y = layer(x)[0]
    assert torch.equal(y, by_loop(layer, x))


# ---- what writes a model down


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("backend", [None, "loop"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_jit_trace_is_refused(name, backend):
    layer, x = LAYERS[name](), torch.randn(T, B, I)
    layer.backend = backend
    with pytest.raises(EngineError, match=r"torch\.export"):
        torch.jit.trace(layer, (x,))
    with pytest.raises(EngineError, match=r"torch\.export"):
        torch.jit.trace(nn.Sequential(layer), (x,))
    with pytest.raises(EngineError, match=r"torch\.export"):
        torch.jit.script(layer)
    assert_near(layer(x)[0], by_loop(layer, x), what="afterwards")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_jit_trace_of_a_scan_is_refused():
    scan = Scan(Blend())
    x, h = torch.randn(T, B, I), torch.zeros(B, H)
    for _ in range(2):
        with pytest.raises(EngineError, match=r"torch\.export"):
            torch.jit.trace(lambda v: scan(v, h).y, (x,))
        scan(x, h)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_graph_to_look_at_is_written_down(name):
    """As counters of operations ask for one: the plain loop's, with a product a step."""
    layer, x = LAYERS[name](), torch.randn(T, B, I)
    before = layer(x)[0]
    path = layer.path
    graph, _ = torch.jit._get_trace_graph(nn.Sequential(layer), (x,))
    torch._C._jit_pass_inline(graph)
    kinds = [node.kind() for node in graph.nodes()]
    assert sum(kind in ("aten::linear", "aten::matmul", "aten::addmm") for kind in kinds) >= T
    assert_near(layer(x)[0], before, what="afterwards")
    assert layer.path == path


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_onnx_is_refused(monkeypatch):
    """Under either exporter, as both say that they are at work."""
    layer, x = elman.LSTM(I, H).eval(), torch.randn(T, B, I)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    monkeypatch.setattr(surroundings, "_translated", [])
    for export in (torch.jit.trace, torch.export.export):
        with pytest.raises(EngineError, match=r"torch\.onnx\.export"):
            export(layer, (x,))
    assert_near(layer(x)[0], by_loop(layer, x), what="not under way")


@pytest.mark.slow
def test_a_first_call_loads_no_symbolic_algebra():
    code = (
        "import sys, torch, elman.nn\n"
        "y, _ = elman.nn.LSTM(3, 4)(torch.randn(2, 1, 3))\n"
        "y.sum().backward()\n"
        "assert 'sympy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
