"""Rule 4, for everyone who carries out calls: a fault planted in one of them is found at the first call that it would
answer, and the plain loop answers instead. Other values than the given ones are tried too; the user's stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from battery.cells_gated import GatesLSTM
from battery.cells_simple import H, I
from battery.registry import BY_NAME, Inputs
from battery.running import CORE, Run, assert_matches
from elman.engine import EngineError, EngineWarning, Scan, Stepper
from elman.engine.backends.reference import ReferenceLoops
from elman.engine.call.checkpoint import _Whole
from elman.engine.compiler import opaque
from elman.engine.lowering import passes
from elman.engine.program.rows import Layout

pytestmark = pytest.mark.skipif(not CORE, reason="the compiled core is not there")

Patch = Callable[[pytest.MonkeyPatch], None]


def _scaled(tree: Any) -> Any:
    """The first tensor of floats in a result, a little larger."""
    if isinstance(tree, Tensor):
        return tree * 1.05 if tree.is_floating_point() else tree
    if isinstance(tree, tuple | list):
        items = list(tree)
        for i, item in enumerate(items):
            if isinstance(item, Tensor | tuple | list):
                items[i] = _scaled(item)
                break
        return type(tree)(items)
    return tree


def _wrong(where: Any, name: str, only: Callable[..., bool] = lambda *a: True) -> Patch:
    """The method gives a little more than it should, in the calls that `only` picks."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        right = getattr(where, name)

        def wrong(*args: Any, **kwargs: Any) -> Any:
            result = right(*args, **kwargs)
            return _scaled(result) if only(*args) else result

        patch.setattr(where, name, wrong)

    return plant


def _native(name: str) -> Any:
    from elman.engine.backends import native, recipe

    return {"recipe": recipe.Recipe, "loops": native.NativeLoops}[name]


def _one_reset_less(patch: pytest.MonkeyPatch) -> None:
    from elman.engine.backends import native

    right = native._reset

    def wrong(rows: Layout, rests: list[Tensor]) -> Any:
        flags, sums = right(rows, rests)
        return None if flags is None else torch.zeros_like(flags), sums

    patch.setattr(native, "_reset", wrong)


def _rows_of_a_recipe(patch: pytest.MonkeyPatch, change: Callable[[Any, Any], tuple[Any, Any]]) -> None:
    from elman.engine.backends import recipe

    right = recipe.ragged_rows

    def wrong(T: int, B: int, reverse: bool, lengths: Any, reset: Any, mask: Any = None) -> Any:
        return right(T, B, reverse, *change(lengths, reset), mask)

    patch.setattr(recipe, "ragged_rows", wrong)


def _one_step_less(patch: pytest.MonkeyPatch) -> None:
    _rows_of_a_recipe(
        patch, lambda lengths, reset: (None if lengths is None else (lengths - 1).clamp(0), reset)
    )


def _no_reset(patch: pytest.MonkeyPatch) -> None:
    _rows_of_a_recipe(
        patch, lambda lengths, reset: (lengths, None if reset is None else torch.zeros_like(reset))
    )


@dataclass(frozen=True)
class Fault:
    """Where it is planted, the options of the calls that it makes wrong, and others that it leaves alone."""

    plant: Patch
    options: dict[str, Any]
    others: dict[str, Any] | None = None


STATES = {"return_states": True}
LENGTHS = {"lengths": torch.tensor([4, 2, 3])}
RESET = {"reset": torch.arange(12).reshape(4, 3) % 4 == 1}
FAULTS: dict[str, Fault] = {
    "recipe forward": Fault(lambda p: _wrong(_native("recipe"), "forward")(p), {}),
    "recipe backward": Fault(lambda p: _wrong(_native("recipe"), "backward")(p), {}),
    "recipe in reverse": Fault(
        lambda p: _wrong(_native("recipe"), "forward", lambda *a: a[2].reverse)(p), {"reverse": True}, {}
    ),
    "recipe for lengths": Fault(
        lambda p: _wrong(_native("recipe"), "forward", lambda *a: a[0]._ragged)(p), LENGTHS, RESET
    ),
    "recipe for resets": Fault(
        lambda p: _wrong(_native("recipe"), "backward", lambda *a: a[0]._resets)(p), RESET, LENGTHS
    ),
    "recipe for both": Fault(
        lambda p: _wrong(_native("recipe"), "backward", lambda *a: a[0]._resets and a[0]._ragged)(p),
        {**LENGTHS, **RESET}, RESET,
    ),
    "a length less": Fault(_one_step_less, LENGTHS, {}),
    "a reset less": Fault(_no_reset, RESET, LENGTHS),
    "loops forward": Fault(lambda p: _wrong(_native("loops"), "forward")(p), {**LENGTHS, **STATES}, LENGTHS),
    "loops backward": Fault(lambda p: _wrong(_native("loops"), "backward")(p), {**RESET, **STATES}, RESET),
    "all states": Fault(
        lambda p: _wrong(_native("loops"), "forward", lambda *a: a[-1])(p), {"return_states": True}, {}
    ),
    "rows of their lengths": Fault(
        _wrong(Layout, "unpack", lambda rows, v: rows.index is not None), {**LENGTHS, **STATES}, LENGTHS
    ),
    "resets": Fault(_one_reset_less, {**RESET, **STATES}, RESET),
    "chunks": Fault(_wrong(_Whole, "backward"), {"checkpoint_every": 2}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault, case = FAULTS[name], BY_NAME["lstm_gates"]
    inputs = case.inputs(4, 3)
    fault.plant(monkeypatch)
    run = Run(Scan(case.cell()))
    if fault.others is not None:
        run(inputs.x, inputs.state, **fault.others)
        assert run.scan.path == "native"
        assert not run.warned
    result = run(inputs.x, inputs.state, **fault.options)
    assert run.scan.path == "loop"
    assert "verification against the plain loop" in run.warned[0]
    expected = Scan(case.cell(), backend="loop")(inputs.x, inputs.state, **fault.options)
    assert torch.equal(result.y, expected.y)


@pytest.mark.parametrize("name", ["forward", "backward"])
def test_a_fault_of_a_named_backend_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _wrong(ReferenceLoops, name)(monkeypatch)
    case = BY_NAME["lstm_gates"]
    inputs = case.inputs(4, 3)
    with pytest.raises(EngineError, match="verification against the plain loop"):
        Scan(case.cell(), backend="reference")(inputs.x, inputs.state)


@pytest.mark.parametrize("options", [{}, {"lengths": True}, {"reset": True}, {"return_states": True}])
def test_a_fault_of_the_operator_is_found(options: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of that which a compiled graph calls in the place of the engine."""
    case = BY_NAME["lstm_gates"]
    inputs, step = case.inputs(5, 3), case.cell()
    given: dict[str, Any] = dict(options)
    if "lengths" in options:
        given["lengths"] = torch.tensor([5, 1, 3])
    if "reset" in options:
        given["reset"] = torch.arange(15).view(5, 3) % 4 == 1
    expected = Scan(step, backend="loop")(inputs.x, inputs.state, **given)
    _wrong(opaque, "run_forward")(monkeypatch)
    scan = Scan(step)
    with pytest.warns(EngineWarning, match="verification against the plain loop"):
        got = torch.compile(lambda: scan(inputs.x, inputs.state, **given), backend="eager")()
    assert torch.equal(got.y, expected.y)


def test_a_fault_of_a_stream_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernel is one of its own; without the fault it is taken."""
    from elman.engine.backends.kernel import Kernel

    case = BY_NAME["lstm_gates"]
    inputs = case.inputs(4, 3, torch.float32)
    right = Kernel.stream

    def wrong(self: Kernel, env: dict[str, Tensor], *rest: Any) -> Any:
        return right(self, {k: 1.05 * v for k, v in env.items()}, *rest)

    assert Stepper(Scan(case.cell(torch.float32)), inputs.x[0], inputs.state).path == "native"
    monkeypatch.setattr(Kernel, "stream", wrong)
    scan = Scan(case.cell(torch.float32))
    with pytest.warns(UserWarning, match="verification against the plain loop"):
        stepper = Stepper(scan, inputs.x[0], inputs.state)
    assert stepper.path == "loop"
    with torch.no_grad():
        expected = Scan(case.cell(torch.float32), backend="loop")(inputs.x, inputs.state)
        assert torch.equal(torch.stack([stepper(x) for x in inputs.x]), expected.y)


class Biased(nn.Module):
    """Sums of vectors that are zero at first, and a gain of ones."""

    def __init__(self) -> None:
        super().__init__()
        self.u = nn.Linear(4, 4, bias=False)
        self.a, self.b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(4))
        self.gain = nn.Parameter(torch.ones(4))
        self.register_buffer("shift", torch.zeros(4))

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(x + torch.sigmoid(self.gain * self.u(h) + self.a + self.b + self.shift))
        return h, h


def _first_shape(*shapes: Any) -> Any:
    return max(shapes, key=len) if len({len(s) for s in shapes}) > 1 else shapes[0]


def _without(tensor: Tensor) -> Callable[..., Any]:
    """A rewrite that loses a term of a sum."""

    def rewrite(graph: Any) -> None:
        lost = next(v for v, t in zip(graph.p, graph.externals, strict=True) if t is tensor)
        for node in graph.nodes:
            if node.op == "add.Tensor" and lost in node.args:
                kept = next(a for a in node.args if a is not lost)
                node.op, node.args = "expand.default", (kept, list(node.outs[0].shape))
                return

    return rewrite


def test_a_fault_that_the_given_values_hide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum in the shape of one of its terms is right as long as all terms are equal (as it once was)."""
    monkeypatch.setattr(passes, "broadcast_shape", _first_shape)
    run = Run(Scan(Biased()))
    x = torch.randn(3, 2, 4)
    with torch.no_grad():
        run(x, torch.zeros(2, 4))
    assert run.scan.path == "loop"
    assert "verification" in run.warned[0]


@pytest.mark.parametrize("name", ["a", "b", "shift"])
def test_a_lost_term_of_zeros_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parameter or buffer of zeros, forgotten."""
    cell = Biased()
    monkeypatch.setattr(passes, "PASSES", [_without(getattr(cell, name)), *passes.PASSES])
    run = Run(Scan(cell))
    with torch.no_grad():
        run(torch.randn(3, 2, 4), torch.zeros(2, 4))
    assert run.scan.path == "loop"
    assert "on other values than those given" in run.warned[0]


def _bits(module: nn.Module) -> list[Any]:
    tensors = [*module.parameters(), *module.buffers()]
    return [(id(t), t._version, t.data_ptr(), t.detach().clone(), t.grad, t.requires_grad) for t in tensors]


def _same_bits(before: Sequence[Any], after: Sequence[Any]) -> bool:
    return all(
        a[:3] == b[:3] and torch.equal(a[3], b[3]) and a[4:] == b[4:]
        for a, b in zip(before, after, strict=True)
    )


@pytest.mark.parametrize("fails", [False, True])
def test_parameters_are_left_alone(fails: bool) -> None:
    """To the bit, the version and the place; also where the step fails on other values."""

    class Cell(GatesLSTM):
        def forward(self, x: Tensor, state: Any) -> Any:
            y, state = super().forward(x, state)
            return (torch.linalg.cholesky(self.root) @ y.unsqueeze(-1)).squeeze(-1) if fails else y, state

    cell = Cell()
    cell.root = nn.Parameter(torch.eye(H) * 1e-3)
    before = _bits(cell)
    run = Run(Scan(cell))
    x, state = torch.randn(4, 3, I), (torch.randn(3, H), torch.randn(3, H))
    for options in ({}, LENGTHS, {"checkpoint_every": 2}):
        result = run(x, state, **options)
        assert _same_bits(before, _bits(cell))
    expected = Scan(cell, backend="loop")(x, state, checkpoint_every=2)
    torch.testing.assert_close(result.y, expected.y)


class Narrow(nn.Module):
    """What it reads has a range: a logarithm, a root, a probability, an index, a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.rate, self.chance = nn.Parameter(torch.full((4,), 1e-3)), nn.Parameter(torch.full((4,), 0.999))
        self.register_buffer("variance", torch.zeros(4))
        self.register_buffer("order", torch.tensor([3, 1, 0, 2]))
        self.register_buffer("seen", torch.tensor([True, False, False, False]))
        self.u = nn.Linear(4, 4)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.u(h)[:, self.order].masked_fill(~self.seen, -torch.inf)
        odds = torch.log(self.chance / (1 - self.chance))
        h = torch.tanh(
            x * torch.log(self.rate) + odds * h + torch.softmax(scores, 1) + torch.sqrt(self.variance)
        )
        return h, h


def test_values_with_a_range() -> None:
    """Other values are tried within the range of the given ones; the cell stays on its path."""
    cell, twin = Narrow().double(), Narrow().double()
    twin.load_state_dict(cell.state_dict())
    run = Run(Scan(cell))
    x, h = torch.randn(3, 2, 4).double(), torch.zeros(2, 4).double()
    inputs = Inputs(x.requires_grad_(), h.requires_grad_(), torch.zeros_like(h), None)
    assert_matches(run, cell, twin, inputs)
    assert run.scan.path != "loop", run.warned


class _Halved(torch.autograd.Function):
    """A parameter that goes into an autograd function itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: Tensor) -> Tensor:
        ctx.save_for_backward(x, p)
        return x * p

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, p = ctx.saved_tensors
        return grad * p, (grad * x).sum(0) * 0.5


class ByHand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p, self.u = nn.Parameter(torch.ones(4)), nn.Linear(4, 4)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(_Halved.apply(x, self.p) + self.u(h))
        return h, h


class _Handed(torch.autograd.Function):
    """Hands a parameter through as it is: what follows reads the parameter itself, whatever stands in its place."""

    @staticmethod
    def forward(ctx: Any, p: Tensor) -> Tensor:
        return p

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 0.5 * grad


class Through(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p, self.u = nn.Parameter(torch.zeros(4)), nn.Linear(4, 4)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(_Handed.apply(self.p) + x + self.u(h))
        return h, h


@pytest.mark.parametrize("make", [ByHand, Through, Biased])
def test_whoever_reads_a_parameter(make: type[nn.Module]) -> None:
    """A cell is not refused because others than torch's functions read its parameters."""
    cell = make().double()
    run = Run(Scan(cell))
    x, h = torch.randn(3, 2, 4).double(), torch.zeros(2, 4).double()
    assert_matches(run, cell, cell, Inputs(x.requires_grad_(), h.requires_grad_(), torch.zeros_like(h), None))
    assert run.scan.path == "native", run.warned
