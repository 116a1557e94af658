"""Whatever a step reads beside its inputs, from wherever, may change between calls; what it writes is the loop's."""

from __future__ import annotations

import argparse
import gc
import os
import random
import types
import warnings
from collections.abc import Callable
from configparser import ConfigParser
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import elman
from battery.cells_simple import H, I
from battery.probes import Net
from battery.registry import Case
from battery.running import Run, assert_matches
from elman.engine import EngineWarning, Scan
from elman.engine import scan as engine_scan
from elman.engine.watching.names import read_by
from tests.battery import reads

DRAWS, BLOCKS = 40, 4


@pytest.mark.parametrize("block", range(BLOCKS))
def test_drawn_reads(block: int) -> None:
    """A number from somewhere, changed between calls."""
    for seed in range(block * DRAWS // BLOCKS, (block + 1) * DRAWS // BLOCKS):
        drawn = reads.draw(seed)
        _, right = reads.run(drawn)
        assert right, drawn


@pytest.mark.slow
@pytest.mark.parametrize("block", range(40))
def test_many_drawn_reads(block: int) -> None:
    """More of them; `python -m tests.battery.reads` runs as many as one likes."""
    for seed in range(10**6 + 50 * block, 10**6 + 50 * (block + 1)):
        drawn = reads.draw(seed)
        _, right = reads.run(drawn)
        assert right, drawn


@pytest.mark.parametrize("name", reads.CONTAINERS)
def test_each_container(name: str) -> None:
    """Each kind alone, its content replaced, and it itself replaced."""
    for leaf in ("float", "tensor"):
        path, right = reads.run(
            reads.Drawn("attribute", [name], leaf, ["leaf", "nothing", "equal", "back"], 3)
        )
        assert right
        assert path == "native"


@pytest.mark.parametrize("name", reads.LEAVES)
def test_each_leaf(name: str) -> None:
    """Each kind of number in a list."""
    path, right = reads.run(
        reads.Drawn("global", ["list"], name, ["in place", "leaf", "equal", "nothing", "back"], 4)
    )
    assert right
    assert path == "native"


@pytest.mark.parametrize("name", reads.ROOTS)
def test_each_root(name: str) -> None:
    """Each place for a number and for a dictionary with one."""
    for nest in ([], ["dict"]):
        path, right = reads.run(reads.Drawn(name, nest, "float", ["leaf", "nothing", "level", "back"], 5))
        assert right
        assert path == "native"


@pytest.mark.parametrize("name", reads.WRITES)
def test_each_write(name: str) -> None:
    """What a step writes is written once a step, by the loop, and by nothing else."""
    for seed in range(2):
        path, right = reads.run_writer(name, seed)
        assert right
        assert path == "loop"


# ---- things that are no number in a nest


def _follows(
    read: Callable[[Any], Any], changes: list[Callable[[], Any]], path: str | None = "native"
) -> Scan:
    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + self.u(h) * read(self))
        return h, h

    case = Case(
        "reads", lambda: Net(body, None), lambda T, B: torch.randn(T, B, I), lambda B: torch.randn(B, H)
    )
    cell, twin = case.cell(), case.cell()
    run = Run(Scan(cell))
    for change in (lambda: None, *changes):
        change()
        assert_matches(run, cell, twin, case.inputs(3, 4))
        assert path is None or run.scan.path == path, run.warned
    return run.scan


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWN_GAIN", "1.0")
    monkeypatch.delenv("DRAWN_OTHER", raising=False)
    changes = [
        lambda: monkeypatch.setenv("DRAWN_GAIN", "0.25"),
        lambda: monkeypatch.setenv("DRAWN_OTHER", "2"),
    ]
    for read in (
        lambda _: float(os.environ["DRAWN_GAIN"]) * float(os.environ.get("DRAWN_OTHER", "1")),
        lambda _: float(os.getenv("DRAWN_GAIN", "")) * float(os.getenv("DRAWN_OTHER", "1")),
        lambda _: float(os.environ["DRAWN_GAIN"]) * (2 if "DRAWN_OTHER" in os.environ else 1),
    ):
        monkeypatch.setenv("DRAWN_GAIN", "1.0")
        monkeypatch.delenv("DRAWN_OTHER", raising=False)
        _follows(read, changes)


def test_config_parser() -> None:
    config = ConfigParser()
    config.read_string("[DEFAULT]\nshift = 0.5\n[cell]\ngain = 1.0\n")
    for read in (
        lambda _: float(config["cell"]["gain"]) * config.getfloat("cell", "shift"),
        lambda _: config["cell"].getfloat("gain") * float(config.get("cell", "shift")),
    ):
        _follows(read, [
            lambda: config.set("cell", "gain", "0.25"),
            lambda: config.set("DEFAULT", "shift", "0.75"),
            lambda: config.set("cell", "shift", "1.25"),
            lambda: config.remove_option("cell", "shift"),
            lambda: config.set("cell", "gain", "1.0"),
        ])  # fmt: skip


def test_switches_of_torch() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    threads = torch.get_num_threads()
    try:
        _follows(
            lambda _: 0.5 if torch.are_deterministic_algorithms_enabled() else 1.0,
            [
                lambda: torch.use_deterministic_algorithms(True),
                lambda: torch.use_deterministic_algorithms(False),
            ],
        )
        _follows(lambda _: 1.0 / torch.get_num_threads(), [lambda: torch.set_num_threads(threads + 1)])
    finally:
        torch.use_deterministic_algorithms(before)
        torch.set_num_threads(threads)
    enabled = torch.backends.mkldnn.enabled
    try:
        _follows(
            lambda _: 0.5 if torch.backends.mkldnn.enabled else 1.0,
            [lambda: setattr(torch.backends.mkldnn, "enabled", not enabled)],
        )
    finally:
        torch.backends.mkldnn.enabled = enabled


def test_gradient_that_is_there_or_not() -> None:
    p = torch.ones(H, dtype=torch.float64, requires_grad=True)
    _follows(
        lambda _: 1.0 if p.grad is None else 0.25,
        [lambda: setattr(p, "grad", torch.zeros_like(p)), lambda: setattr(p, "grad", None)],
    )
    _follows(
        lambda _: p if p.grad is None else p.grad,
        [
            lambda: setattr(p, "grad", torch.full_like(p, 0.5)),
            lambda: p.grad.fill_(0.25),
            lambda: setattr(p, "grad", None),
        ],
    )


def test_group_of_an_optimizer() -> None:
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    def step() -> None:
        weight.grad = torch.ones(1)
        optimizer.step()
        schedule.step()

    _follows(lambda _: optimizer.param_groups[0]["lr"], [step, step])
    _follows(lambda _: schedule.get_last_lr()[0], [step, step])


def test_attribute_of_a_tensor() -> None:
    p = nn.Parameter(torch.ones(H, dtype=torch.float64))
    _follows(lambda _: getattr(p, "gain", 1.0), [lambda: setattr(p, "gain", 0.5), lambda: delattr(p, "gain")])


def test_thread_of_objects() -> None:
    """Objects that refer to each other, in a circle, read by way of several."""
    first, second = types.SimpleNamespace(), argparse.Namespace()
    first.other, second.other, first.gain = second, first, 1.0
    _follows(lambda _: second.other.other.other.gain, [lambda: setattr(first, "gain", 0.25)])


def test_what_cannot_be_watched_is_named() -> None:
    """A file, an iterator, a clock, an array of many megabytes: the loop, with a word."""
    import time

    large = np.zeros(3 << 20)
    numbers = iter([1.0] * 1000)
    for read, word in (
        (lambda _: 1.0 + large[5], "large"),
        (lambda _: next(numbers), "numbers"),
        (lambda _: time.time() * 0 + 1, "time"),
    ):
        cell = Net(lambda self, x, h, read=read: (torch.tanh(self.w(x) + self.u(h) * read(self)),) * 2, None)
        with pytest.warns(EngineWarning, match=word):
            Scan(cell)(torch.randn(3, 2, I), torch.zeros(2, H))


def test_a_step_that_prints_does_so_at_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        print("step")
        return x + h, x + h

    scan = Scan(step)
    with pytest.warns(EngineWarning, match="print"):
        scan(torch.randn(5, 2, H), torch.zeros(2, H))
    assert capsys.readouterr().out.split() == ["step"] * 5


# ---- names


def test_names_are_told_apart() -> None:
    """Globals that are loaded as such, attributes of modules, and attributes of anything."""
    source = "def f(self, x):\n    import a.b\n    q = torch.nn.tanh(self.q) + G.z\n"
    source += "    return (x.y or TABLE[0].w), getattr(x, 'v')"
    space: dict[str, Any] = {}
    exec(source, space)
    read = read_by(space["f"].__code__)
    assert {("torch", "nn", "tanh"), ("G", "z"), ("TABLE",), ("getattr",)} == read.chains
    assert read.names >= {"q", "y", "w", "v"}
    assert not read.names & {"tanh", "torch", "z", "TABLE"}
    assert read.imports == {"a", "a.b"}
    assert not read.dynamic


@pytest.mark.parametrize(
    ("text", "dynamic"),
    [
        ("getattr(x, 'a')", False), ("getattr(x.y.z, 'a', None)", False), ("hasattr(x, 'a') and x.a", False),
        ("getattr(x, 'a' + y)", True), ("getattr(x, f'a{y}')", True), ("getattr(x, y)", True), ("vars(x)", True),
        ("x.__dict__", True), ("getattr(f(x), 'a')", True), ("map(getattr, x)", True),
    ],
)  # fmt: skip
def test_computed_names(text: str, dynamic: bool) -> None:
    code = compile(f"lambda x, y: {text}", "", "eval").co_consts[0]
    assert read_by(code).dynamic is dynamic


Q = 0


def test_a_loop_variable_does_not_trace_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A global with the name of an attribute of the cell is no business of the cell's."""
    traced = []
    trace = engine_scan.Scan._trace
    monkeypatch.setattr(engine_scan.Scan, "_trace", lambda self, *a: traced.append(1) or trace(self, *a))

    def body(self: Any, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + self.u(h) * self.Q)
        return h, h

    cell = Net(body, lambda n: setattr(n, "Q", 2.0))
    scan = Scan(cell)
    for number in range(5):
        monkeypatch.setitem(globals(), "Q", number)
        scan(torch.randn(3, 2, I), torch.zeros(2, H))
    assert len(traced) == 1


def test_equal_values_written_anew_do_not_trace_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []
    trace = engine_scan.Scan._trace
    monkeypatch.setattr(engine_scan.Scan, "_trace", lambda self, *a: traced.append(1) or trace(self, *a))

    def body(self: Any, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) * self.settings["gain"] + self.u(h) * self.weights[0])
        return h, h

    cell = Net(body, None)
    scan = Scan(cell)
    for _ in range(4):
        cell.settings, cell.weights = {"gain": float("0.5")}, [torch.rand(H)]
        x, h = torch.randn(3, 2, I), torch.zeros(2, H)
        torch.testing.assert_close(scan(x, h).y[0], cell(x[0], h)[0])
    assert len(traced) == 1


# ---- hooks and what tracing leaves behind


def _seen(layer: elman.Recurrent, cell: nn.Module, x: Tensor, path: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EngineWarning)
        layer(x)
    assert layer.path == path


def test_a_hook_that_watches_means_the_loop_until_it_is_gone() -> None:
    """An activation recorder for some calls: each step is seen, and then the fast path is back."""
    cell = Net(lambda self, x, h: (torch.tanh(self.w(x) + self.u(h)),) * 2, None)
    cell.hidden_size = H
    layer, x, seen = elman.Recurrent(cell), torch.randn(4, 2, I), []
    _seen(layer, cell, x, "native")
    handle = cell.u.register_forward_hook(lambda module, given, out: seen.append(out.shape))
    for call in range(1, 4):
        _seen(layer, cell, x, "loop")
        assert seen == [(2, H)] * 4 * call
    handle.remove()
    _seen(layer, cell, x, "native")


def test_a_hook_that_changes_is_traced() -> None:
    cell = Net(lambda self, x, h: (torch.tanh(self.w(x) + self.u(h)),) * 2, None)
    cell.hidden_size = H
    layer, x = elman.Recurrent(cell, fallback="error"), torch.randn(4, 2, I)
    cell.u.register_forward_hook(lambda module, given, out: out * 0.5)
    layer(x)
    assert layer.path == "native"


def test_a_silent_hook_means_the_loop() -> None:
    """One that hands what it sees to where nobody can look."""
    cell = Net(lambda self, x, h: (torch.tanh(self.w(x) + self.u(h)),) * 2, None)
    cell.u.register_forward_hook(lambda module, given, out: None)
    scan = Scan(cell)
    with pytest.warns(EngineWarning, match="only watches"):
        scan(torch.randn(3, 2, I), torch.zeros(2, H))


def test_a_recorder_of_gradients() -> None:
    """A backward hook that appends fires once a step; so does a hook on a tensor of the step."""
    for how in ("module", "tensor"):
        norms: list[int] = []

        def body(self: Net, x: Tensor, h: Tensor, how: str = how, norms: list[int] = norms) -> Any:
            h = torch.tanh(self.w(x) + self.u(h))
            if how == "tensor" and h.requires_grad:
                h.register_hook(lambda grad: norms.append(1))
            return h, h

        cell = Net(body, None)
        if how == "module":
            cell.u.register_full_backward_hook(lambda module, given, out, norms=norms: norms.append(1))
        scan = Scan(cell)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EngineWarning)
            y = scan(torch.randn(3, 2, I, requires_grad=True), torch.zeros(2, H, requires_grad=True)).y
        assert not norms
        y.sum().backward()
        assert len(norms) == 3


def test_a_recorder_on_a_parameter_sees_no_trace() -> None:
    """Its hook is called once, with the whole gradient; what tracing called it with is taken back."""
    cell = Net(lambda self, x, h: (torch.tanh(self.w(x) + self.u(h)),) * 2, None)
    norms: list[float] = []
    cell.u.weight.register_hook(lambda grad: norms.append(float(grad.norm())))
    scan = Scan(cell)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EngineWarning)
        y = scan(torch.randn(3, 2, I), torch.zeros(2, H)).y
    assert not norms
    y.sum().backward()
    assert len(norms) == 1


def test_objects_of_the_step_itself_are_no_side_effect() -> None:
    """Lists, objects and generators that a step makes and fills."""

    class Sum:
        def __init__(self) -> None:
            self.parts: list[Tensor] = []

        def add(self, part: Tensor) -> None:
            self.parts.append(part)

    def parts(self: Net, x: Tensor, h: Tensor) -> Any:
        yield self.w(x)
        yield self.u(h)

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        total, table = Sum(), {}
        for i, part in enumerate(parts(self, x, h)):
            total.add(part)
            table[i] = part
        h = torch.tanh(sum(total.parts) + table[0] * 0)
        return h, h

    case = Case(
        "own objects", lambda: Net(body, None), lambda T, B: torch.randn(T, B, I), lambda B: torch.randn(B, H)
    )
    cell, twin = case.cell(), case.cell()
    run = Run(Scan(cell))
    for _ in range(3):
        assert_matches(run, cell, twin, case.inputs(3, 4))
        assert run.scan.path != "loop", run.warned
        gc.collect()


def test_a_counter_is_not_traced_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []
    trace = engine_scan.Scan._trace
    monkeypatch.setattr(engine_scan.Scan, "_trace", lambda self, *a: traced.append(1) or trace(self, *a))

    def body(self: Any, x: Tensor, h: Tensor) -> Any:
        self.count += 1
        h = torch.tanh(self.w(x) + self.u(h))
        return h, h

    cell = Net(body, lambda n: setattr(n, "count", 0))
    scan = Scan(cell)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EngineWarning)
        for _ in range(8):
            scan(torch.randn(3, 2, I), torch.zeros(2, H))
    assert cell.count == 24
    assert len(traced) <= 3


def test_chance_of_python_stands_where_the_loop_leaves_it() -> None:
    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return x * random.random() + h, x

    random.seed(3)
    expected = [random.random() for _ in range(4)]
    random.seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EngineWarning)
        y = Scan(step)(torch.ones(3, 1, 1), torch.zeros(1, 1)).y
    assert y[0].item() == pytest.approx(expected[0])
    assert random.random() == expected[3]
