"""The engine among torch's other machinery, at other sizes, with poisoned memory, and forced onto each backend."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from battery.cells_gated import GatesLSTM, LayerNormLSTM, MinGRU
from battery.cells_simple import ElmanCat, ElmanOutput
from battery.oracle import unfold
from battery.registry import BY_NAME, FEW, Case
from battery.running import (
    CORE,
    EVERYWHERE,
    Run,
    assert_matches,
    assert_outcomes_agree,
    leaves_of,
    loss_of,
    measure,
    named_leaves,
    path_of,
)
from elman.engine import EngineError, Scan
from elman.nn import GRU
from tolerances import assert_near

ROOT = Path(__file__).parents[2]
SOME = ["elman_cat", "lstm_layer_norm", "gru_original", "attention_additive", "gru_d"]


@pytest.mark.slow
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", SOME)
def test_inside_checkpoint(name: str, reentrant: bool) -> None:
    """torch.utils.checkpoint around a scan."""
    case = BY_NAME[name]
    if reentrant and name == "gru_d":
        pytest.skip("the reentrant form sees no tensors inside a tuple")
    cell, twin, inputs = case.cell(), case.cell(), case.inputs(5, 3)
    scan = Scan(cell)

    def call(x: Any, state: Any) -> Any:
        return tuple(named_leaves(scan(x, state, context=inputs.context), ("y", "state")).values())

    outs = checkpoint(call, inputs.x, inputs.state, use_reentrant=reentrant)
    expected = unfold(twin, inputs.x, inputs.state, context=inputs.context)
    named = dict(zip(named_leaves(expected, ("y", "state")), outs, strict=True))
    leaves = [p for k, p in leaves_of(inputs._replace(initial=None), cell).items() if p.requires_grad]
    mates = leaves_of(inputs._replace(initial=None), twin)
    loss_of(named).backward()
    found = [p.grad for p in leaves]
    others = torch.autograd.grad(
        loss_of(named_leaves(expected, ("y", "state"))), list(mates.values()), allow_unused=True
    )
    for (label, p), g, e in zip(mates.items(), found, others, strict=True):
        zero = torch.zeros_like(p)
        assert_near(zero if g is None else g, zero if e is None else e, gradient=True, what=label)


@pytest.mark.parametrize("name", SOME)
def test_saved_tensor_hooks(name: str) -> None:
    """Everything that is kept for the backward goes through torch's hooks: packed as copies, dropped from sight."""
    case = BY_NAME[name]
    cell, inputs = case.cell(), case.inputs(5, 3)
    scan = Scan(cell)
    leaves = leaves_of(inputs, cell)
    plain = measure(scan(inputs.x, inputs.state, context=inputs.context, return_states=True), leaves)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone().numpy(), torch.from_numpy):
        hooked = scan(inputs.x, inputs.state, context=inputs.context, return_states=True)
    assert_outcomes_agree(measure(hooked, leaves), plain)


@pytest.mark.parametrize("name", ["gru", "lstm_cat"])
def test_one_tensor_in_two_roles(name: str) -> None:
    """The carry-in is the target of resets too; both states are one tensor; x is the context's memory."""
    case = BY_NAME[name]
    cell, twin, inputs = case.cell(), case.cell(), case.inputs(5, 3)
    h = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    state = h if name == "gru" else (h, h)
    reset = torch.tensor([[0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)
    outcomes, seconds = [], []
    for unfolding, module in ((Scan(cell), cell), (lambda *a, **k: unfold(twin, *a, **k), twin)):
        result = unfolding(inputs.x, state, initial_state=state, reset=reset)
        leaves = {"x": inputs.x, "h": h} | dict(module.named_parameters())
        outcomes.append(measure(result, leaves, ("y", "state")))
        result = unfolding(inputs.x, state, initial_state=state, reset=reset)
        (g,) = torch.autograd.grad(loss_of(named_leaves(result, ("y", "state"))), h, create_graph=True)
        seconds.append(torch.autograd.grad((g * g).sum(), [h, inputs.x, *module.parameters()]))
    assert_outcomes_agree(*outcomes)
    for a, e in zip(*seconds, strict=True):
        assert_near(a, e, gradient=True, what="second derivative")


def test_training_ends_in_the_same_place() -> None:
    """Twenty steps of Adam with clipping and truncated BPTT: the parameters of the oracle."""
    cells = [LayerNormLSTM().double() for _ in range(2)]
    cells[1].load_state_dict(cells[0].state_dict())
    x = torch.randn(40, 3, 5, dtype=torch.float64)
    for cell, unfolding in ((cells[0], Scan(cells[0])), (cells[1], lambda *a: unfold(cells[1], *a))):
        optimiser = torch.optim.Adam(cell.parameters(), lr=0.02)
        state = (torch.zeros(3, 7, dtype=torch.float64),) * 2
        for k in range(10):
            result = unfolding(x[4 * k : 4 * k + 4], tuple(s.detach() for s in state))
            state = result.state
            loss = (result.y - x[4 * k : 4 * k + 4, :, :1]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(cell.parameters(), 0.3)
            optimiser.step()
    for (name, p), q in zip(cells[0].named_parameters(), cells[1].parameters(), strict=True):
        assert_near(p, q, gradient=True, what=name)


def test_functional_jacobian() -> None:
    """torch.autograd.functional.jacobian: a backward for each output."""
    case = BY_NAME["gru"]
    cell, inputs = case.cell(), case.inputs(2, 2)
    scan = Scan(cell)
    found = torch.autograd.functional.jacobian(lambda h: scan(inputs.x, h).state, inputs.state)
    expected = torch.autograd.functional.jacobian(lambda h: unfold(cell, inputs.x, h).state, inputs.state)
    assert_near(found, expected, gradient=True)


def test_empty_batch() -> None:
    """No rows: shapes of the loop, zero gradients of parameters."""
    for name in ("lstm_gates", "gru"):
        case = BY_NAME[name]
        cell, inputs = case.cell(), case.inputs(3, 2)
        scan = Scan(cell)
        scan(inputs.x, inputs.state)
        x = inputs.x.detach()[:, :0]
        state = torch.utils._pytree.tree_map(lambda s: s.detach()[:0], inputs.state)
        result = scan(x, state, return_states=True)
        assert result.y.shape == (3, 0, 7)
        result.y.sum().backward()
        assert all(p.grad is None or not p.grad.any() for p in cell.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("H", [1, 2, 3, 8, 15, 16, 17, 33, 64, 130, 257])
@pytest.mark.parametrize("B", [1, 2, 8, 9, 33])
def test_sizes(H: int, B: int, dtype: torch.dtype) -> None:
    """Widths and batches on both sides of every block: vectors, panels, row blocks."""

    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin, self.norm = nn.Linear(H + 3, 3 * H), nn.LayerNorm(H)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            z, r, n = self.lin(torch.cat([x, h], -1)).chunk(3, -1)
            n = torch.tanh(self.norm(n) + torch.sigmoid(r) * h) if H > 1 else torch.tanh(n + r * h)
            h = h + torch.sigmoid(z) * (n - h)
            return torch.softmax(h, -1), h

    case = Case("sized", Sized, lambda T, B: torch.randn(T, B, 3), lambda B: torch.randn(B, H))
    cell, twin = case.cell(dtype), case.cell(dtype)
    run = Run(Scan(cell))
    assert_matches(run, cell, twin, case.inputs(4, B, dtype), ())
    assert_matches(run, cell, twin, case.inputs(3, B, dtype), ("lengths", "reset", "reverse", "initial"))
    assert run.scan.path == path_of(case, None)


@pytest.mark.slow
@pytest.mark.parametrize("make", [ElmanCat, GatesLSTM, MinGRU, ElmanOutput])
def test_long_sequence(make: type[nn.Module]) -> None:
    """Six hundred steps, uneven rows."""
    cell = make().double()
    x = torch.randn(600, 5, 5, dtype=torch.float64, requires_grad=True)
    h = torch.zeros(5, 7, dtype=torch.float64)
    state = (h, h) if make is GatesLSTM else h
    lengths = torch.tensor([600, 1, 599, 300, 0])
    leaves = {"x": x} | dict(cell.named_parameters())
    actual = measure(Scan(cell)(x, state, lengths=lengths), leaves, ("y", "state"))
    assert_outcomes_agree(actual, measure(unfold(cell, x, state, lengths=lengths), leaves, ("y", "state")))


@pytest.mark.parametrize("backend", ["native", "reference", "loop"])
@pytest.mark.parametrize("how", ["argument", "environment"])
def test_backend_is_forced(backend: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the argument or by ELMAN_BACKEND, and `path` says so."""
    if backend == "native" and not CORE:
        pytest.skip("the core is not built")
    case = BY_NAME["lstm_gates"]
    cell, twin = case.cell(), case.cell()
    if how == "environment":
        monkeypatch.setenv("ELMAN_BACKEND", backend)
    run = Run(Scan(cell, backend=backend if how == "argument" else None))
    assert_matches(run, cell, twin, case.inputs(3, 4), ("lengths",))
    assert run.scan.path == backend
    assert not run.warned


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # as the compiler loads
@pytest.mark.parametrize("how", ["call", "stream", "compiled"])
def test_no_such_backend_is_an_error(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the layer is run, a name in ELMAN_BACKEND that is none is not passed over."""
    layer, x = GRU(3, 4), torch.randn(5, 2, 3)
    runs = {"call": layer, "stream": lambda x: layer.stream()(x[0]), "compiled": torch.compile(layer)}
    monkeypatch.setenv("ELMAN_BACKEND", "nativ")
    with pytest.raises(EngineError, match=r"ELMAN_BACKEND='nativ'; expected one of"):
        runs[how](x)


def test_native_that_cannot_is_an_error() -> None:
    """A backend that was asked for by name is not silently another one."""
    if not CORE:
        pytest.skip("the core is not built")
    case = BY_NAME["conv"]
    cell, inputs = case.cell(), case.inputs(3, 4)
    with pytest.raises(EngineError):
        Scan(cell, backend="native")(inputs.x, inputs.state)


def test_path_before_and_after() -> None:
    """`path` is None, then what ran; `explain()` is readable; states are given where asked."""
    case = BY_NAME["lstm_gates"]
    cell, inputs = case.cell(), case.inputs(3, 4)
    scan = Scan(cell)
    assert scan.path is None
    assert scan(inputs.x, inputs.state).states is None
    assert scan.path == path_of(case, None)
    text = str(scan.explain())
    assert scan.path in text
    assert len(text.splitlines()) > 2


def test_debug_ladder(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """ELMAN_DEBUG=1, 2, 3 say more and more, and change nothing."""
    case = BY_NAME["gru"]
    lengths = []
    for level in ("0", "1", "2", "3"):
        monkeypatch.setenv("ELMAN_DEBUG", level)
        cell = case.cell()
        assert_matches(Run(Scan(cell)), cell, case.cell(), case.inputs(3, 4))
        out, err = capfd.readouterr()
        lengths.append(len(out) + len(err))
    assert lengths[0] == 0
    assert lengths[0] < lengths[1] < lengths[2] < lengths[3]
    monkeypatch.setenv("ELMAN_DEBUG", "program")
    inputs = case.inputs(3, 4)
    with pytest.raises(EngineError, match="ELMAN_DEBUG='program'; expected 0, 1"):
        Scan(case.cell())(inputs.x, inputs.state)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="MALLOC_PERTURB_ is glibc's")
@pytest.mark.parametrize("byte", ["1", "129"])
def test_poisoned_allocations(byte: str) -> None:
    """Memory from malloc is garbage, registers of the core are NaN before each step: the cells are still right."""
    here = str(Path(__file__).parent)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-k",
        "test_every_cell",
        here,
    ]
    environment = os.environ | {"MALLOC_PERTURB_": byte, "ELMAN_POISON": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def test_few_covers_the_registry() -> None:
    """The selection of the fast part names cells that are there."""
    assert len(FEW) == len({case.name for case in FEW})
    assert all(BY_NAME[case.name] is case for case in FEW)
    assert EVERYWHERE == ("y", "state", "states")
