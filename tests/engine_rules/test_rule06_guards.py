"""Rule 6, the cache and its guards: whatever the step reads may change between calls, and the next call follows."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from battery.cells_gated import GatesLSTM
from battery.cells_simple import Elman, H, I
from battery.probes import Net
from battery.registry import BY_NAME, Case
from battery.running import Run, assert_matches
from elman.engine import Scan
from tolerances import assert_near

SCALE = 1.0
TABLE = {"scale": 1.0}


def _case(body: Callable[..., Any], setup: Callable[[Net], None] | None = None) -> Case:
    return Case(
        "guarded", lambda: Net(body, setup), lambda T, B: torch.randn(T, B, I), lambda B: torch.randn(B, H)
    )


def assert_follows(
    case: Case, change: Callable[[Any], None], *, back: Callable[[Any], None] | None = None
) -> Run:
    """Right before a change, after it, and after the way back."""
    cell, twin = case.cell(), case.cell()
    run = Run(Scan(cell))
    assert_matches(run, cell, twin, case.inputs(3, 4))
    for step in (change, back):
        if step is not None:
            step(cell)
            if twin is not cell:
                step(twin)
            assert_matches(run, cell, twin, case.inputs(3, 4))
            assert_matches(run, cell, twin, case.inputs(2, 5), ("lengths", "reverse"))
    return run


class Settings:
    """A plain object with an attribute."""

    def __init__(self, scale: float) -> None:
        self.scale = scale


def _set(name: str, value: Any) -> Callable[[Net], None]:
    return lambda net: setattr(net, name, value() if isinstance(value, types.FunctionType) else value)


ATTRIBUTES: dict[str, tuple[Callable[[Net], None], Callable[[Net], Any], Callable[[Net], None]]] = {
    "number": (_set("k", 1.0), lambda n: n.k, _set("k", 0.5)),
    "integer": (_set("k", 1), lambda n: n.k, _set("k", 3)),
    "boolean": (_set("k", True), lambda n: 2.0 if n.k else 0.5, _set("k", False)),
    "equal_but_of_another_type": (_set("k", 1), lambda n: 0.3 if isinstance(n.k, bool) else 2.0, _set("k", True)),
    "text": (_set("k", "tanh"), lambda n: {"tanh": 1.0, "relu": 0.2}[n.k], _set("k", "relu")),
    "none": (_set("k", None), lambda n: 1.0 if n.k is None else n.k, _set("k", 0.4)),
    "list": (_set("k", lambda: [1.0, 2.0]), lambda n: n.k[1], lambda n: n.k.__setitem__(1, 0.3)),
    "dict": (_set("k", lambda: {"a": 1.0}), lambda n: n.k["a"], lambda n: n.k.update(a=0.3)),
    "nested": (_set("k", lambda: {"a": [{"b": 1.0}]}), lambda n: n.k["a"][0]["b"], lambda n: n.k["a"][0].update(b=0.2)),
    "tuple": (_set("k", (1.0, 2.0)), lambda n: n.k[0], _set("k", (0.3, 2.0))),
    "set": (_set("k", lambda: {1}), lambda n: len(n.k), lambda n: n.k.add(2)),
    "array": (_set("k", lambda: np.ones(2)), lambda n: float(n.k[0]), lambda n: n.k.__setitem__(0, 0.3)),
    "object": (_set("k", lambda: Settings(1.0)), lambda n: n.k.scale, lambda n: setattr(n.k, "scale", 0.3)),
    "tensor_in_place": (_set("k", lambda: torch.ones(())), lambda n: n.k, lambda n: n.k.fill_(0.3)),
    "tensor_replaced": (_set("k", lambda: torch.ones(())), lambda n: n.k, _set("k", lambda: torch.tensor(0.3))),
    "tensor_of_another_shape": (
        _set("k", lambda: torch.ones(())), lambda n: n.k, _set("k", lambda: torch.arange(H) / H),
    ),
    "tensor_in_a_list": (
        _set("k", lambda: [torch.ones(())]), lambda n: n.k[0], lambda n: n.k.__setitem__(0, torch.tensor(0.3)),
    ),
    "added_attribute": (_set("other", 0), lambda n: getattr(n, "k", 1.0), _set("k", 0.3)),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attribute(name: str) -> None:
    """An attribute of any kind that changes between calls."""
    setup, read, change = ATTRIBUTES[name]

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + self.u(h) * read(self))
        return h, h

    assert_follows(_case(body, setup), change)


def _plain(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h) * self.gain)
    return h, h


def test_function_attribute() -> None:
    """The nonlinearity itself replaced."""

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = self.f(self.w(x) + self.u(h))
        return h, h

    assert_follows(
        _case(body, lambda n: setattr(n, "f", torch.tanh)), lambda n: setattr(n, "f", torch.sigmoid)
    )


def test_attribute_of_a_submodule() -> None:
    """A dropout rate, an epsilon, a slope in a module inside."""

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.act(self.norm(self.w(x) + self.u(h))))
        return h, h

    def setup(net: Net) -> None:
        net.norm, net.act = nn.LayerNorm(H), nn.LeakyReLU(0.2)

    assert_follows(_case(body, setup), lambda n: setattr(n.act, "negative_slope", 0.7))
    assert_follows(_case(body, setup), lambda n: setattr(n.norm, "eps", 0.5))


def test_class_attribute() -> None:
    """A number on the class."""

    class Own(Net):
        level = 1.0

    def body(self: Any, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + self.u(h) * type(self).level)
        return h, h

    case = Case(
        "class", lambda: Own(body, None), lambda T, B: torch.randn(T, B, I), lambda B: torch.randn(B, H)
    )
    assert_follows(case, lambda net: setattr(type(net), "level", 0.3))


def test_global_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module-level name rebound, and a module-level dict changed."""

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + self.u(h) * SCALE * TABLE["scale"])
        return h, h

    assert_follows(_case(body), lambda _: monkeypatch.setitem(globals(), "SCALE", 0.3))
    assert_follows(_case(body), lambda _: monkeypatch.setitem(TABLE, "scale", 0.3))


def test_rebound_closure() -> None:
    """A variable of the enclosing function, rebound between calls: a number, then a tensor."""
    scale: Any = 1.0
    shift = torch.zeros(H, dtype=torch.float64)

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + self.u(h) * scale + shift)
        return h, h

    case = _case(body)
    cell, twin = case.cell(), case.cell()
    run = Run(Scan(cell))
    assert_matches(run, cell, twin, case.inputs(3, 4))
    scale = 0.3
    assert_matches(run, cell, twin, case.inputs(3, 4))
    shift = torch.rand(H, dtype=torch.float64)
    assert_matches(run, cell, twin, case.inputs(3, 4))
    shift.mul_(2)
    assert_matches(run, cell, twin, case.inputs(3, 4))


def test_rebound_closure_of_a_function() -> None:
    """The same where the step is a bare function."""
    scale: Any = 1.0

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(x + h * scale)
        return h, h

    case = Case("function", lambda: step, lambda T, B: torch.randn(T, B, H), lambda B: torch.randn(B, H))
    run = Run(Scan(step))
    assert_matches(run, step, step, case.inputs(3, 4))
    scale = 0.25
    assert_matches(run, step, step, case.inputs(3, 4))


def test_default_argument_and_partial() -> None:
    """functools.partial over a function, with a keyword that holds a number."""
    from functools import partial

    def step(x: Tensor, h: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        h = torch.tanh(x + h * scale)
        return h, h

    case = Case("partial", lambda: step, lambda T, B: torch.randn(T, B, H), lambda B: torch.randn(B, H))
    for part in (partial(step, scale=0.5), partial(step)):
        run = Run(Scan(part))
        assert_matches(run, part, part, case.inputs(3, 4))
        assert run.scan.path != "loop"


HOOKS: dict[str, Callable[[nn.Module], Any]] = {
    "forward_hook": lambda m: m.register_forward_hook(lambda mod, args, out: out * 0.5),
    "forward_pre_hook": lambda m: m.register_forward_pre_hook(lambda mod, args: (args[0] * 0.5,)),
    "full_backward_hook": lambda m: m.register_full_backward_hook(
        lambda mod, gi, go: tuple(g * 0.5 for g in gi)
    ),
    "full_backward_pre_hook": lambda m: m.register_full_backward_pre_hook(
        lambda mod, go: tuple(g * 0.5 for g in go)
    ),
}


@pytest.mark.parametrize("kind", HOOKS)
def test_hook_added_and_removed(kind: str) -> None:
    """A hook on a module inside that changes what flows, added after the first call, and taken away again."""

    def add(net: Net) -> None:
        net.handle = HOOKS[kind](net.u)

    def remove(net: Net) -> None:
        net.handle.remove()

    assert_follows(_case(_plain), add, back=remove)


def test_hook_on_a_parameter() -> None:
    """A tensor hook on a weight is called once, with the whole gradient, as autograd does."""
    case = _case(_plain)
    cell, twin = case.cell(), case.cell()
    run = Run(Scan(cell))
    assert_matches(run, cell, twin, case.inputs(3, 4))
    for module in (cell, twin):
        module.u.weight.register_hook(lambda grad: grad.clamp(-0.1, 0.1))
    assert_matches(run, cell, twin, case.inputs(3, 4))


def test_hook_exchanged() -> None:
    """One hook taken away and another added: as many as before."""
    case = _case(_plain)
    cell, twin = case.cell(), case.cell()
    run = Run(Scan(cell))
    for factor in (0.5, 0.25, 2.0):
        handles = [m.u.register_forward_hook(lambda mod, args, out, k=factor: out * k) for m in (cell, twin)]
        assert_matches(run, cell, twin, case.inputs(3, 4))
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("inside", [False, True])
def test_hook_around_the_step(kind: str, inside: bool) -> None:
    """A hook on a module that the step does not call as one (the layer that it is a part of) is no reason to trace
    anew, and changes nothing."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.u, self.other = nn.Linear(H, H), nn.Linear(H, H), nn.Linear(H, H)

        def step(self, x: Tensor, h: Tensor) -> Any:
            h = torch.tanh(self.w(x) + self.u(h) + self.other.weight[0])
            return h, h

        def forward(self, x: Tensor) -> Any:
            return scan(x, torch.zeros(4, H)).y

    layer = Layer()
    scan = Scan(layer.step, owner=layer)
    x = torch.randn(3, 4, H)
    expected = layer(x * 0.5 if kind == "forward_pre_hook" and not inside else x)
    expected = expected * 0.5 if kind == "forward_hook" and not inside else expected
    entries = list(scan._entries)
    HOOKS[kind](layer.other if inside else layer)
    assert_near(layer(x), expected)
    assert scan._entries == entries
    assert scan.path != "loop"


def test_hook_on_all_modules() -> None:
    """A global module hook."""
    case = _case(_plain)
    cell, twin = case.cell(), case.cell()
    run = Run(Scan(cell))
    assert_matches(run, cell, twin, case.inputs(3, 4))
    handle = nn.modules.module.register_module_forward_hook(
        lambda mod, args, out: out * 0.5 if isinstance(mod, nn.Linear) else None
    )
    try:
        assert_matches(run, cell, twin, case.inputs(3, 4))
    finally:
        handle.remove()
    assert_matches(run, cell, twin, case.inputs(3, 4))


def test_nested_deeply() -> None:
    """A number far down in containers."""

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + self.u(h) * self.k[0]["a"][1]["b"][0])
        return h, h

    setup = _set("k", lambda: [{"a": (0, {"b": [1.0]})}])
    assert_follows(_case(body, setup), lambda n: n.k[0]["a"][1]["b"].__setitem__(0, 0.3))


def _in_the_same_place(net: Net, name: str, make: Callable[[], Any]) -> None:
    """Replace an attribute by another object at the same address, where the allocator allows it."""
    place = id(getattr(net, name))
    setattr(net, name, None)
    kept = []
    for _ in range(300):
        new = make()
        if id(new) == place:
            break
        kept.append(new)
    setattr(net, name, new)


def test_address_used_again() -> None:
    """Another object where the old one was: a numpy number, a lambda, a module."""

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = self.f(self.w(x) + self.u(h) * float(self.k))
        return h, h

    def setup(net: Net) -> None:
        net.k, net.f = np.float32(1.0), lambda a: torch.tanh(a)

    assert_follows(_case(body, setup), lambda n: _in_the_same_place(n, "k", lambda: np.float32(0.3)))
    assert_follows(
        _case(body, setup), lambda n: _in_the_same_place(n, "f", lambda: lambda a: torch.sigmoid(a))
    )


def test_module_at_the_same_address() -> None:
    """A module replaced by a new one that lies where the old one lay."""

    def linear() -> nn.Linear:
        with torch.random.fork_rng():
            torch.manual_seed(11)
            return nn.Linear(H, H).double()

    assert_follows(_case(_plain), lambda n: _in_the_same_place(n, "u", linear))


def test_default_dtype() -> None:
    """Tensors that the step makes follow torch's default dtype."""

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + self.u(h))
        return (h.float() * torch.ones(x.size(0), 1), torch.zeros(x.size(0), 2)), h

    case = _case(body)
    cell, twin = case.cell(), case.cell()
    run = Run(Scan(cell))
    for dtype in (torch.float32, torch.float64, torch.float32):
        torch.set_default_dtype(dtype)
        assert_matches(run, cell, twin, case.inputs(3, 4))


class Stateless:
    """A callable that is no module and holds some."""

    def __init__(self) -> None:
        self.k = 1.0
        self.lin = nn.Linear(I, H)
        self.more = {"u": nn.Linear(H, H)}

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"w": self.lin.weight, "u": self.more["u"].weight, "b": self.more["u"].bias}

    def __call__(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.lin(x) + self.scaled(h))
        return h, h

    def scaled(self, h: Tensor) -> Tensor:
        return self.k * self.more["u"](h)


def _new_weight(module: nn.Linear) -> None:
    module.weight = nn.Parameter(module.weight.detach().flip(0) * 0.5)


OBJECT: dict[str, Callable[[Stateless], Any]] = {
    "number": lambda s: setattr(s, "k", 0.3),
    "parameter": lambda s: _new_weight(s.lin),
    "parameter_in_a_dict": lambda s: _new_weight(s.more["u"]),
    "parameter_in_place": lambda s: s.lin.weight.data.mul_(0.5),
    "frozen": lambda s: s.lin.weight.requires_grad_(False),
    "module": lambda s: s.more.update(
        u=nn.Linear(H, H, bias=True).double().requires_grad_(True).apply(_fill)
    ),
}


_slow = [pytest.param(how, marks=pytest.mark.slow) for how in ("method", "global", "list")]


@pytest.mark.parametrize("how", ["object", "closure", *_slow])
@pytest.mark.parametrize("what", OBJECT)
def test_callable_object(what: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step is an object, its method, or a function that reaches it by a closure, a global or a list."""
    case = Case("object", Stateless, lambda T, B: torch.randn(T, B, I), lambda B: torch.randn(B, H))
    cell, twin = case.cell(), case.cell()
    monkeypatch.setitem(globals(), "HELD", cell)
    several = [cell]
    step = {
        "object": cell, "method": cell.__call__, "closure": lambda x, h: cell(x, h),
        "global": lambda x, h: HELD(x, h), "list": lambda x, h: several[0](x, h),
    }[how]  # fmt: skip
    run = Run(Scan(step))
    assert_matches(run, cell, twin, case.inputs(3, 4))
    OBJECT[what](cell), OBJECT[what](twin)
    assert_matches(run, cell, twin, case.inputs(3, 4))


HELD: Any = None


def test_global_read_by_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """A global that only a method, or a function called by the step, reads."""

    class Own(Net):
        def helper(self) -> float:
            return SCALE * _from_the_module()

    def body(self: Any, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + self.u(h) * self.helper())
        return h, h

    case = Case(
        "method", lambda: Own(body, None), lambda T, B: torch.randn(T, B, I), lambda B: torch.randn(B, H)
    )
    assert_follows(case, lambda _: monkeypatch.setitem(globals(), "SCALE", 0.3))
    assert_follows(case, lambda _: monkeypatch.setitem(TABLE, "scale", 0.3))


def _from_the_module() -> float:
    return TABLE["scale"]


def test_method_of_the_class_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Monkeypatching: forward of a class inside, or a function of a module that the step calls."""
    assert_follows(_case(_plain), lambda _: monkeypatch.setattr(nn.Linear, "forward", _half_linear))
    monkeypatch.undo()

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + self.u(h) * _from_the_module())
        return h, h

    assert_follows(_case(body), lambda _: monkeypatch.setitem(globals(), "_from_the_module", lambda: 0.3))


def test_buffer_replaced() -> None:
    """A buffer assigned anew, of another shape, and taken away."""

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + (self.u(h) if self.mask is None else self.u(h) * self.mask))
        return h, h

    case = _case(body, lambda n: n.register_buffer("mask", torch.ones(H)))
    cell, twin = case.cell(), case.cell()
    run = Run(Scan(cell))
    for mask in (torch.ones(H), torch.arange(H) / H, torch.full((1, 1), 0.5), None, torch.zeros(H)):
        cell.mask = twin.mask = mask
        assert_matches(run, cell, twin, case.inputs(3, 4))


def test_modules_added() -> None:
    """A ModuleList that grows and shrinks, a ParameterList with an item replaced."""

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        for layer in self.layers:
            h = torch.tanh(self.w(x) + layer(h))
        return h * self.scales[0], h

    def setup(net: Net) -> None:
        net.layers = nn.ModuleList([nn.Linear(H, H)])
        net.scales = nn.ParameterList([torch.ones(H)])

    def grow(net: Net) -> None:
        net.layers.append(nn.Linear(H, H).double().apply(_fill))
        net.scales[0] = nn.Parameter(torch.full((H,), 0.5, dtype=torch.float64))

    assert_follows(_case(body, setup), grow, back=lambda n: n.layers.pop(0))


def test_parametrization_added() -> None:
    """A parametrization registered after the first call."""

    class Half(nn.Module):
        def forward(self, W: Tensor) -> Tensor:
            return 0.5 * torch.sin(W)

    assert_follows(
        _case(_plain),
        lambda net: nn.utils.parametrize.register_parametrization(net.u, "weight", Half()),
        back=lambda net: nn.utils.parametrize.remove_parametrizations(net.u, "weight"),
    )


CHANGES: dict[str, Callable[[Net], None]] = {
    "module_replaced": lambda n: setattr(
        n, "u", nn.Linear(H, H, bias=False).double().requires_grad_(False).apply(_fill)
    ),
    "bias_taken_away": lambda n: setattr(n.u, "bias", None),
    "forward_replaced": lambda n: setattr(n, "body", _other),
    "method_replaced": lambda n: setattr(n.u, "forward", types.MethodType(_half_linear, n.u)),
    "weight_of_another_layout": lambda n: setattr(n.u.weight, "data", n.u.weight.data.t().contiguous().t()),
    "data_of_nan": lambda n: n.u.bias.data.fill_(torch.nan),
}


def _fill(module: nn.Module) -> None:
    for p in module.parameters():
        p.data.fill_(0.1)


def _other(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.sigmoid(self.w(x) - self.u(h))
    return h * 2, h


def _half_linear(self: nn.Linear, a: Tensor) -> Tensor:
    return 0.5 * F.linear(a, self.weight)


@pytest.mark.parametrize("name", CHANGES)
def test_module_changed(name: str) -> None:
    """The module itself rebuilt in part."""
    assert_follows(_case(_plain), CHANGES[name])


def test_modes_one_after_the_other() -> None:
    """Training, eval, grad off, autocast, float32, and each again, in one scan."""

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + self.u(h) * (1.0 if self.training else 0.5))
        return (h, torch.ones_like(h) * torch.is_grad_enabled()), h

    case = _case(body)
    cell, twin = case.cell(), case.cell()
    run = Run(Scan(cell))
    for _ in range(2):
        for training in (True, False):
            cell.train(training), twin.train(training)
            assert_matches(run, cell, twin, case.inputs(3, 4), ("lengths",))
            with torch.no_grad():
                assert_matches(run, cell, twin, case.inputs(3, 4), ("lengths",))
        cell.float(), twin.float()
        assert_matches(run, cell, twin, case.inputs(3, 4, torch.float32), ("lengths",))
        with torch.autocast("cpu", torch.bfloat16):
            assert_matches(run, cell, twin, case.inputs(3, 4, torch.float32), dtype=torch.bfloat16)
        cell.double(), twin.double()
        assert_matches(run, cell, twin, case.inputs(3, 4))


def test_submodule_mode() -> None:
    """One module inside put into eval alone."""

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + self.u(h) * (2.0 if self.v.training else 0.5))
        return h, h

    assert_follows(_case(body), lambda n: n.v.eval(), back=lambda n: n.v.train())


def test_two_scans_over_one_cell() -> None:
    """Scans of one module do not disturb each other, and a function may share it."""
    case = BY_NAME["lstm_gates"]
    cell, twin = case.cell(), case.cell()
    runs = [
        Run(Scan(cell)),
        Run(Scan(lambda x, s: cell(x, s), owner=cell)),
        Run(Scan(cell, backend="reference")),
    ]
    for run in (*runs, *runs):
        assert_matches(run, cell, twin, case.inputs(3, 4), ("lengths",))


def test_cache_is_no_part_of_the_module() -> None:
    """State dict, attributes and pickled size are those of a module that was never scanned."""
    import pickle

    cell, fresh = GatesLSTM(), GatesLSTM()
    size = len(pickle.dumps(fresh))
    keys = set(vars(cell))
    Scan(cell)(torch.randn(3, 2, I), (torch.randn(2, H), torch.randn(2, H)))
    assert set(vars(cell)) == keys
    assert len(pickle.dumps(cell)) == size
    assert list(cell.state_dict()) == list(fresh.state_dict())


def test_scan_lets_its_module_go() -> None:
    """Nothing global keeps a cell alive."""
    import gc
    import weakref

    cell = Elman()
    scan = Scan(cell)
    result = scan(torch.randn(3, 2, I), torch.randn(2, H))
    result.y.sum().backward()
    seen = weakref.ref(cell)
    del cell, scan, result
    gc.collect()
    assert seen() is None


def test_saved_tensors_are_freed() -> None:
    """After backward a second one is refused as torch refuses it."""
    cell = Elman()
    result = Scan(cell)(torch.randn(3, 2, I), torch.randn(2, H))
    loss = result.y.sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_untied_and_tied() -> None:
    """One weight under two names; then two; then one again."""

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + self.u(h))
        return self.v(h), h

    def tie(net: Net) -> None:
        net.v.weight = net.u.weight

    def untie(net: Net) -> None:
        net.u.weight = nn.Parameter(net.u.weight.detach() * 0.5)

    assert_follows(_case(body, tie), untie, back=tie)
    assert_follows(_case(body), tie, back=untie)


def test_guards_are_cheap() -> None:
    """Large plain attributes and tangled objects cost no minutes at the first call and no tenths at the next."""

    class Node:
        def __init__(self) -> None:
            self.others: list[Node] = []

    nodes = [Node() for _ in range(40)]
    for node in nodes:
        node.others = nodes

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + self.u(h) * self.k["scale"])
        return h, h

    def setup(net: Net) -> None:
        net.k = {"scale": 1.0, "words": {f"word{k}": k for k in range(20000)}, "graph": nodes[0]}

    case = _case(body, setup)
    scan, inputs = Scan(case.cell()), case.inputs(3, 4)
    begun = time.perf_counter()
    scan(inputs.x, inputs.state)
    first = time.perf_counter() - begun
    begun = time.perf_counter()
    for _ in range(5):
        scan(inputs.x, inputs.state)
    later = (time.perf_counter() - begun) / 5
    assert first < 20
    assert later < 0.25


def test_objects_are_not_asked() -> None:
    """Watching runs no code of the objects that a step touches: an attribute hook that fails, a property."""

    class Prickly:
        def __init__(self) -> None:
            self.asked = 0

        def __getattr__(self, name: str) -> Any:
            raise RecursionError(name)

        @property
        def counted(self) -> int:
            self.asked += 1
            return self.asked

        def scale(self) -> float:
            return 0.5

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + self.u(h) * self.k.scale())
        return h, h

    case = _case(body, _set("k", lambda: Prickly()))
    cell, twin = case.cell(), case.cell()
    run = Run(Scan(cell))
    assert_matches(run, cell, twin, case.inputs(3, 4))
    assert run.scan.path != "loop", run.warned
    assert cell.k.asked == 0


@pytest.mark.slow
@pytest.mark.parametrize("op", ["F.group_norm(h, 1)", "F.gelu(h)", "torch.sign(h) * h", "F.hardswish(h)"])
def test_in_a_fresh_process(op: str) -> None:
    """A first call where nothing of torch is loaded beyond torch itself: what the trace imports does not disturb it."""
    script = f"""
    import warnings; warnings.simplefilter("error")
    import torch, torch.nn.functional as F
    from elman.engine import Scan
    x, h = torch.randn(3, 4, 7, requires_grad=True), torch.randn(4, 7, requires_grad=True)
    scan = Scan(lambda x, h: (lambda h: {op})(torch.tanh(x + h)), fallback="error")
    scan(x, h).y.sum().backward()
    assert scan.path != "loop"
    """
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=root / "src",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not done.stderr, done.stderr


def test_an_import_within_the_step_is_not_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module's body, and what it calls, runs once: what it read there is no part of the step."""
    body = "".join(f"A{i} = {i}\ndef f{i}():\n    return A{i} + 1\nf{i}()\n" for i in range(300))
    (tmp_path / "imported_by_a_step.py").write_text(body + "SCALE = 2.0\ndef scale():\n    return SCALE\n")
    monkeypatch.syspath_prepend(tmp_path)

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        import imported_by_a_step as late  # type: ignore[import-not-found]

        h = torch.tanh(x * late.scale() + h)
        return h, h

    try:
        scan, x, h = Scan(step, backend="native"), torch.randn(3, 4, H), torch.zeros(4, H)
        first = scan(x, h).y
        watched = scan._entries[0].guard.places
        assert scan.path == "native"
        assert len(watched) < 100
        sys.modules["imported_by_a_step"].SCALE = 3.0  # read by a function that the step itself calls
        assert not torch.equal(scan(x, h).y, first)
    finally:
        sys.modules.pop("imported_by_a_step", None)
