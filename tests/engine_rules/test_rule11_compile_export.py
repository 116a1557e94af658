"""Rule 11, torch.compile and export: one opaque op, cold, in another process too."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from battery.cells_gated import GatesLSTM, LayerNormLSTM
from battery.cells_simple import Elman, H, I
from battery.oracle import unfold
from elman.engine import Scan
from tolerances import assert_near

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Layer(nn.Module):
    """A scan inside a module, between two Linears."""

    def __init__(self, make: type[nn.Module]) -> None:
        super().__init__()
        self.before, self.cell, self.after = nn.Linear(3, I), make(), nn.Linear(H, 2)
        self.scan = Scan(self.cell)
        self.two = "LSTM" in make.__name__

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], H)
        return self.after(self.unfold(torch.tanh(self.before(x)), (h, h) if self.two else h))

    def unfold(self, x: Tensor, state: Any) -> Tensor:
        return self.scan(x, state).y


class Plain(Layer):
    """The same with the oracle."""

    def unfold(self, x: Tensor, state: Any) -> Tensor:
        return unfold(self.cell, x, state).y


@pytest.fixture(autouse=True)
def _cold() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("make", [Elman, GatesLSTM, LayerNormLSTM])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_whole_and_cold(make: type[nn.Module], backend: str) -> None:
    """fullgraph=True with no call before it; values and gradients of the oracle; then another batch size."""
    layer = Layer(make)
    twin = Plain(make)
    twin.load_state_dict(layer.state_dict())
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    for T, B in ((5, 3), (4, 6)):
        x = torch.randn(T, B, 3, requires_grad=True)
        y, expected = compiled(x), twin(x)
        assert_near(y, expected)
        found = torch.autograd.grad(y.cos().sum(), [x, *layer.parameters()])
        for g, e in zip(
            found, torch.autograd.grad(expected.cos().sum(), [x, *twin.parameters()]), strict=True
        ):
            assert_near(g, e, gradient=True)


def test_compiled_follows_parameters() -> None:
    """Parameters stepped between compiled calls."""
    layer, twin = Layer(GatesLSTM), Plain(GatesLSTM)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x = torch.randn(5, 3, 3)
    for _ in range(2):
        twin.load_state_dict(layer.state_dict())
        assert_near(compiled(x), twin(x))
        with torch.no_grad():
            for p in layer.parameters():
                p.mul_(0.9)


def test_exported_program_loads_elsewhere(tmp_path: Path) -> None:
    """torch.export, saved, loaded in a process that never saw the cell."""
    layer = Layer(GatesLSTM).eval()
    x = torch.randn(5, 3, 3)
    program = torch.export.export(layer, (x,))
    torch.export.save(program, tmp_path / "layer.pt2")
    torch.save((x, layer(x).detach()), tmp_path / "data.pt")
    script = f"""
    import torch, elman.engine
    program = torch.export.load({str(tmp_path / "layer.pt2")!r})
    x, y = torch.load({str(tmp_path / "data.pt")!r})
    torch.testing.assert_close(program.module()(x), y)
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
