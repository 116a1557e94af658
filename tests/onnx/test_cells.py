"""Cells as files, run by onnxruntime: held to a plain loop in float64 at several lengths, and to a call's options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnx_ir", reason="onnx_ir is not installed")

from battery.oracle import unfold
from battery.registry import BY_NAME, Case
from battery.running import options_of, with_poisoned_padding
from elman.engine import EngineError
from elman.onnx import export_step
from elman.onnx.files import session
from tests.onnx.measure import WANTED, cells, measure
from tolerances import assert_near

DRAWN = (
    "lstm_slice",
    "attention_additive",
    "counter",
    "embedding",
    "delay_line",
    "elman_columns",
    "weight_norm",
)
OPTIONS: tuple[tuple[str, ...], ...] = (
    (), ("reverse",), ("lengths",), ("lengths", "reverse"), ("reset", "initial"),
    ("reset", "lengths", "reverse", "initial"),
)  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_one_file_for_every_length(name: str, tmp_path: Path) -> None:
    found = measure(BY_NAME[name], tmp_path)
    assert found.agrees, found


@pytest.mark.slow
def test_all_cells(tmp_path: Path) -> None:
    """Of the 128 cells of docs/generality.md at least 120; none differs by more than a few roundings of its own."""
    found = [measure(case, tmp_path) for case in cells()]
    assert sum(m.agrees for m in found) >= WANTED - (128 - len(found)), [m for m in found if not m.agrees]
    assert all(m.refused or m.theirs <= 20 * m.ours + 1e-5 for m in found), [m for m in found if not m.agrees]


def files_agree(case: Case, names: tuple[str, ...], path: Path) -> None:
    """A file with these options gives what the oracle gives: y, the final state and the states of all steps. Padding is
    NaN, or an index outside of every table."""
    cell, example = case.cell(torch.float32), case.inputs(3, 2, torch.float32)
    export_step(
        cell, path, example.x, example.state, example.context, lengths="lengths" in names, reset="reset" in names,
        reverse="reverse" in names, return_states=True,
    )  # fmt: skip
    order, run = session(path)
    for T, B in ((1, 1), (5, 4)):
        given = case.inputs(T, B, torch.float32)
        options: dict[str, Any] = options_of(names, given, T, B)
        x = with_poisoned_padding(given.x, options.get("lengths"))
        trees = (
            x,
            given.state,
            given.initial if "reset" in names else (),
            () if given.context is None else given.context,
        )
        leaves = [*pytree.tree_leaves(trees), *(options[n] for n in ("lengths", "reset") if n in options)]
        found = run({n: t.detach().numpy() for n, t in zip(order, leaves, strict=True)})
        expected = unfold(cell, x, given.state, **options)
        right = pytree.tree_leaves((expected.y, expected.state, expected.states))
        for theirs, own in zip(found, right, strict=True):
            assert_near(torch.as_tensor(theirs), own.detach(), dtype=own.dtype)


@pytest.mark.parametrize("names", OPTIONS, ids=" ".join)
def test_options(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in ("lstm_gates", "embedding"):
        files_agree(BY_NAME[name], names, tmp_path / "a.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_all_options(name: str, tmp_path: Path) -> None:
    for names in OPTIONS:
        files_agree(BY_NAME[name], names, tmp_path / "a.onnx")


def test_names_and_open_axes(tmp_path: Path) -> None:
    import onnx

    cell = nn.LSTMCell(3, 4)
    path = export_step(
        cell, tmp_path / "a.onnx", torch.randn(2, 1, 3), (torch.zeros(1, 4), torch.zeros(1, 4))
    )
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [v.name for v in model.graph.input] == ["x", "state_0", "state_1"]
    assert [v.name for v in model.graph.output] == ["y", "final_state_0", "final_state_1"]
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["T", "B", 3]


class Named(nn.Module):
    """h' = y tanh(x + h) * gain, with a weight of the name of an output, and one of the name of an input."""

    def __init__(self) -> None:
        super().__init__()
        self.y, self.x, self.gain = (nn.Parameter(torch.randn(4)) for _ in range(3))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.y * torch.tanh(self.x + x + h) * self.gain


def test_weights_may_have_any_name(tmp_path: Path) -> None:
    import onnx

    path = export_step(Named(), tmp_path / "a.onnx", torch.randn(2, 1, 4), torch.zeros(1, 4))
    assert {t.name for t in onnx.load(path).graph.initializer} == {"elman/y", "elman/x", "gain"}


class Odd(nn.Module):
    """h' = lgamma(2 + |h|) + x."""

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.lgamma(2 + h.abs()) + x


class Noisy(nn.Module):
    """h' = dropout(h) + x."""

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return nn.functional.dropout(h, 0.5, self.training) + x


class Rotating(nn.Module):
    """A complex state."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Parameter(torch.polar(torch.ones(4), torch.linspace(0, 1, 4)))

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = h * self.turn + x
        return h.real, h


@pytest.mark.parametrize(
    ("x", "h", "said"),
    [
        (torch.float32, torch.complex64, r"state is of torch\.complex64"),
        (torch.complex64, torch.complex64, r"x is of torch\.complex64"),
        (torch.float32, torch.float32, "the step makes complex numbers, which its state becomes"),
    ],
)
def test_complex_numbers_are_refused_by_their_name(x: Any, h: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=f"^{said}, and ONNX's operations know no complex numbers; instead"):
        export_step(
            Rotating(), tmp_path / "a.onnx", torch.zeros(3, 2, 4, dtype=x), torch.zeros(2, 4, dtype=h)
        )
    assert not list(tmp_path.iterdir())


def test_what_onnx_has_not_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    with pytest.raises(EngineError, match=r"lgamma.* ONNX has no such function"):
        export_step(Odd(), path, torch.randn(3, 2, 4), torch.randn(2, 4))
    with pytest.raises(EngineError, match=r"call eval\(\)"):
        export_step(Noisy(), path, torch.randn(3, 2, 4), torch.randn(2, 4))
    export_step(Noisy().eval(), path, torch.randn(3, 2, 4), torch.randn(2, 4))
    with pytest.raises(EngineError, match="no folder"):
        export_step(Noisy().eval(), tmp_path / "no" / "a.onnx", torch.randn(3, 2, 4), torch.randn(2, 4))


def test_batch_norm_in_training_is_refused(tmp_path: Path) -> None:
    cell = BY_NAME["batch_norm_eval"].cell(torch.float32)
    cell.train()
    given = BY_NAME["batch_norm_eval"].inputs(3, 4, torch.float32)
    with pytest.raises(EngineError, match=r"call eval\(\)"):
        export_step(cell, tmp_path / "a.onnx", given.x, given.state)


def test_a_wrong_file_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wrong emitter is found before the file has its name; an older file stays."""
    from elman.onnx import emitters

    path = tmp_path / "a.onnx"
    path.write_bytes(b"older")
    monkeypatch.setitem(emitters.EMITTERS, "tanh.default", emitters.EMITTERS["sigmoid.default"])
    cell = nn.RNNCell(3, 4)
    with pytest.raises(EngineError, match="other numbers for y"):
        export_step(cell, path, torch.randn(3, 2, 3), torch.randn(2, 4))
    assert path.read_bytes() == b"older"
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]
    export_step(cell, path, torch.randn(3, 2, 3), torch.randn(2, 4), verify=False)
    assert path.read_bytes() != b"older"
