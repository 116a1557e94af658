"""What a step reads is watched wherever its code is installed, by whatever name it asks, and for what it is."""

from __future__ import annotations

import importlib
import operator
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from elman.engine import EngineWarning, Scan, ScanResult
from elman.engine.call.loop import plain_loop
from elman.nn import Recurrent
from elman.nn.cells import GRUCell

H, T, B = 4, 3, 2

PACKAGE = """
import time
import torch
from torch import nn

RATE = 0.5
TABLE = {"deep": [1, {"rate": 0.5}]}
SEEN = []


class Settings:
    rate = 0.5


SETTINGS = Settings()


def helper():
    return TABLE["deep"][1]["rate"]


class Cell(nn.Module):
    shared = 0.5

    def __init__(self, kind):
        super().__init__()
        self.map, self.kind, self.own = nn.Linear(4, 4), kind, 0.5

    def rate(self):
        if self.kind == "global":
            return RATE
        if self.kind == "nested":
            return TABLE["deep"][1]["rate"]
        if self.kind == "object":
            return SETTINGS.rate
        if self.kind == "helper":
            return helper()
        if self.kind == "class":
            return type(self).shared
        if self.kind == "writes":
            SEEN.append(1)
        if self.kind == "clock":
            return time.time() % 1
        return self.own

    def forward(self, x, h):
        h = torch.tanh(self.map(h) * self.rate() + x)
        return h, h


class Outer(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.inner = Cell(kind)

    def forward(self, x, h):
        return self.inner(x, h)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package of cells, installed as packages are."""
    folder = tmp_path / "lib" / "torch" / "site-packages"
    (folder / "cells_of_others").mkdir(parents=True)
    (folder / "cells_of_others" / "__init__.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module("cells_of_others")
    del sys.modules["cells_of_others"]


def _set(rate: float, kind: str, package: ModuleType, cell: Any) -> None:
    if kind == "global":
        package.RATE = rate
    elif kind in ("nested", "helper"):
        package.TABLE["deep"][1]["rate"] = rate
    elif kind == "object":
        package.SETTINGS.rate = rate
    elif kind == "class":
        package.Cell.shared = rate
    else:
        cell.own = rate


def _call(run: Callable[..., ScanResult], *first: Any) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(3)
    x = torch.randn(T, B, H, generator=g, requires_grad=True)
    h = torch.randn(B, H, generator=g, requires_grad=True)
    y, *_ = run(*first, x, h)
    return y.detach(), *torch.autograd.grad(y.square().sum(), (x, h))


def _assert_same(scan: Scan, step: Any) -> None:
    for got, wanted in zip(_call(scan), _call(plain_loop, step), strict=True):
        torch.testing.assert_close(got, wanted)


class Wrapper(nn.Module):
    """A cell of the user's own around one of a package."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, h: Tensor) -> Any:
        return self.cell(x, h)


@pytest.mark.parametrize("around", ["itself", "package's", "user's"])
@pytest.mark.parametrize("kind", ["global", "nested", "object", "helper", "class", "own"])
def test_a_cell_of_an_installed_package(package: ModuleType, kind: str, around: str) -> None:
    """Read from its package's globals, classes and own attributes, changed and changed back."""
    cell = package.Cell(kind)
    outer = package.Outer(kind)
    outer.inner = cell
    step = {"itself": cell, "package's": outer, "user's": Wrapper(cell)}[around]
    scan = Scan(step, fallback="error")
    for rate in (0.5, 0.9, 0.9, 0.25, 0.5):
        _set(rate, kind, package, cell)
        _assert_same(scan, step)
        assert scan.path == "native"


@pytest.mark.parametrize(("kind", "word"), [("writes", "SEEN"), ("clock", "time")])
def test_what_a_package_does_besides(package: ModuleType, kind: str, word: str) -> None:
    """It means the loop, by name, with what it writes written once for each step."""
    scan = Scan(package.Outer(kind))
    with pytest.warns(EngineWarning, match=word):
        _call(scan)
    assert scan.path == "loop"
    assert len(package.SEEN) == (T if kind == "writes" else 0)


def test_code_that_is_written_alike() -> None:
    """Two modules with the same text are two, each with numbers of its own."""
    spaces: list[dict[str, Any]] = [{"rate": 0.5}, {"rate": 0.25}]
    for n, space in enumerate(spaces):
        exec(compile("def ask():\n    return rate\n", f"module_{n}.py", "exec"), space)
    cell = Cell(lambda c, h: h * spaces[0]["ask"]() + spaces[1]["ask"]())
    scan = Scan(cell, fallback="error")
    for n, rate in ((0, 0.5), (1, 0.75), (0, 0.1), (1, 0.2)):
        spaces[n]["rate"] = rate
        _assert_same(scan, cell)


class Switched(type):
    """A class of classes with a setting."""

    rate = 0.5


class Holder(metaclass=Switched):
    """What has it from there."""


class Thing:
    """An object that may become another."""

    rate = 0.5


class OtherThing(Thing):
    """What it becomes."""

    rate = 0.9


class Part(nn.Module):
    """A module that may become another."""

    def forward(self, h: Tensor) -> Tensor:
        return h * 0.5


class OtherPart(Part):
    """What it becomes."""

    def forward(self, h: Tensor) -> Tensor:
        return h.sin()


class Cell(nn.Module):
    """h_t = tanh(a h_{t−1} + x_t), a read in some way."""

    def __init__(self, way: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.way, self.thing, self.part = way, Thing(), Part()
        self.one, self.two = torch.full((H,), 0.5), torch.full((H,), 0.5)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.way(self, h) + x)
        return h, h


def _become(cell: Any) -> None:
    cell.__class__ = type("Other", (Cell,), {"forward": lambda self, x, h: (x + h, h.sin())})


WAYS: dict[str, tuple[Callable[[Any, Tensor], Any], Callable[[Any], Any]]] = {
    "class of the cell": (lambda c, h: h, _become),
    "class of a part": (lambda c, h: c.part(h), lambda c: setattr(c.part, "__class__", OtherPart)),
    "class of an object": (lambda c, h: h * c.thing.rate, lambda c: setattr(c.thing, "__class__", OtherThing)),
    "class of a class": (lambda c, h: h * Holder.rate, lambda c: setattr(Switched, "rate", 0.9)),
    "a path of names": (
        lambda c, h: h * operator.attrgetter("thing.rate")(c),
        lambda c: setattr(c.thing, "rate", 0.9),
    ),
    "one tensor or two": (lambda c, h: h if c.one is c.two else h * 0.5, lambda c: setattr(c, "one", c.two)),
    "an address": (lambda c, h: h if id(c.one) == id(c.two) else h * 0.5, lambda c: setattr(c, "one", c.two)),
    "a version": (lambda c, h: h * (1 + c.one._version % 2), lambda c: c.one.add_(0)),
    "a file": (lambda c, h: h * (0.5 if Path("/no/such/file").exists() else 0.25), lambda c: None),
    "a limit": (lambda c, h: h * (sys.getrecursionlimit() / 1e4), lambda c: sys.setrecursionlimit(1234)),
    "an import": (lambda c, h: h * importlib.import_module("operator").mul(1, 0.5), lambda c: None),
    "anomalies": (
        lambda c, h: h * (0.5 if torch.is_anomaly_enabled() else 0.25),
        lambda c: torch.autograd.set_detect_anomaly(True),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WAYS)
def test_each_way(name: str) -> None:
    """A change that no attribute shows is seen, or the plain loop runs from the beginning."""
    way, change = WAYS[name]
    cell, limit = Cell(way), sys.getrecursionlimit()
    scan = Scan(cell)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EngineWarning)
        try:
            for _ in range(2):
                _assert_same(scan, cell)
            change(cell)
            for _ in range(2):
                _assert_same(scan, cell)
        finally:
            Switched.rate = 0.5
            sys.setrecursionlimit(limit)
            torch.autograd.set_detect_anomaly(False)


@pytest.mark.parametrize("zoneout", [None, 0.3])
def test_another_cell_in_its_place(zoneout: float | None) -> None:
    """A cell that is replaced in a layer's list is the one that runs, in calls and in streams that begin anew."""
    layer = Recurrent(GRUCell, H, H, num_layers=2, zoneout=zoneout).eval()
    x = torch.randn(T, B, H)
    for k in (0, 1, 0):
        before = layer(x).y
        layer.cells[k] = GRUCell(H, H).eval()
        fresh = Recurrent(GRUCell, H, H, num_layers=2, zoneout=zoneout).eval()
        fresh.load_state_dict(layer.state_dict())
        after = layer(x).y
        torch.testing.assert_close(after, fresh(x).y)
        assert not torch.allclose(after, before)
        stream = layer.stream()
        with torch.no_grad():
            torch.testing.assert_close(torch.stack([stream(x_t) for x_t in x]), after.detach())
