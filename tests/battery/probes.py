"""Probes: small cells, each with one thing in it that a rule of the engine is about.

A probe is the body of a step, written as a function of (self, x, h) over a module with a few ready Linears. The line
that matters carries the mark `# <-`: a warning must name that line.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from battery.cells_simple import H, I
from battery.registry import Case
from battery.running import Run, assert_matches, assert_not_looped
from elman.engine import EngineError, Scan

MARK = "# <-"
CALLS: tuple[tuple[int, int, tuple[str, ...]], ...] = (
    (4, 5, ()),
    (3, H, ("lengths", "reverse")),
    (3, 1, ()),
    (2, 67, ("reset",)),
)


class Net(nn.Module):
    """Three Linears, a vector, a number; the step is the body."""

    def __init__(self, body: Callable[..., Any], setup: Callable[[Net], None] | None) -> None:
        super().__init__()
        self.w, self.u, self.v = nn.Linear(I, H), nn.Linear(H, H), nn.Linear(H, H)
        self.p = nn.Parameter(torch.rand(H) + 0.5)
        self.gain = 1.0
        self.body = body
        if setup is not None:
            setup(self)

    def forward(self, *args: Any) -> Any:
        return self.body(self, *args)


@dataclass(frozen=True)
class Probe:
    """A body and what must become of it: path "fast", "loop", or "any" (right, by whichever path)."""

    name: str
    body: Callable[..., Any]
    path: str
    op: str
    setup: Callable[[Net], None] | None
    x: Callable[[int, int], Any]
    state: Callable[[int], Any]
    context: Callable[[int], Any] | None
    calls: tuple[tuple[int, int, tuple[str, ...]], ...]

    @property
    def case(self) -> Case:
        """The probe as a case: how to make cell and inputs."""
        return Case(self.name, lambda: Net(self.body, self.setup), self.x, self.state, self.context)


class Probes(list[Probe]):
    """The probes of one rule; the instance is a decorator that adds one."""

    def __call__(
        self,
        path: str = "fast",
        *,
        op: str = "",
        setup: Callable[[Net], None] | None = None,
        x: Callable[[int, int], Any] = lambda T, B: torch.randn(T, B, I),
        state: Callable[[int], Any] = lambda B: torch.randn(B, H),
        context: Callable[[int], Any] | None = None,
        calls: tuple[tuple[int, int, tuple[str, ...]], ...] = CALLS,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Add the decorated body; `op`: a regular expression of what a warning must name."""

        def add(body: Callable[..., Any]) -> Callable[..., Any]:
            self.append(Probe(body.__name__, body, path, op, setup, x, state, context, calls))
            return body

        return add

    @property
    def all(self) -> pytest.MarkDecorator:
        """Parametrize a test over all of them."""
        return pytest.mark.parametrize("probe", list(self), ids=lambda probe: probe.name)


def assert_probe(probe: Probe, backend: str | None = None) -> Run:
    """Right in values and all gradients at every call, on its path, with the warning that it should give."""
    case = probe.case
    cell, twin = case.cell(), case.cell()
    run = Run(Scan(cell, backend=backend))
    for steps, rows, names in probe.calls:
        try:
            assert_matches(run, cell, twin, case.inputs(steps, rows), names)
        except AssertionError as error:
            raise AssertionError(
                f"[T={steps}, B={rows} {' '.join(names)}; path {run.scan.path}] {error}"
            ) from error
        assert_same_afterwards(cell, twin)
    assert_path(run, probe)
    return run


def assert_path(run: Run, probe: Probe) -> None:
    """The path, and its one warning where it is the plain loop."""
    if probe.path == "fast":
        assert_not_looped(run)
        return
    if probe.path == "any" and not run.warned:
        return
    if probe.path == "any":
        # A warning at the first call alone is right where the step makes itself ready at its first use.
        assert len(run.warned) == 1, f"{len(run.warned)} warnings: {run.warned}"
        assert_says_why(run.warned[0], probe)
        return
    assert run.scan.path == "loop", f"path {run.scan.path}; expected the plain loop"
    assert len(run.warned) == 1, f"{len(run.warned)} warnings: {run.warned}"
    assert_says_why(run.warned[0], probe)
    assert_refused(probe)


def assert_refused(probe: Probe) -> None:
    """fallback="error" raises with the same facts."""
    case = probe.case
    steps, rows, _ = probe.calls[0]
    inputs = case.inputs(steps, rows)
    with pytest.raises(EngineError) as caught:
        Scan(case.cell(), fallback="error")(inputs.x, inputs.state, context=inputs.context)
    assert_says_why(str(caught.value), probe)


def assert_says_why(message: str, probe: Probe) -> None:
    """The message names the op, the user's line, and a way out."""
    assert re.search(probe.op, message), f"the op {probe.op!r} is not named: {message}"
    line = marked_line(probe.body)
    if line is not None:
        where = rf"{re.escape(Path(inspect.getfile(probe.body)).name)}.*?\b{line}\b"
        assert re.search(where, message), f"line {line} is not named: {message}"
    assert re.search(r"instead|write|use|pass|give|keep|move|put|make|call", message), (
        f"no way out: {message}"
    )


def marked_line(body: Callable[..., Any]) -> int | None:
    """Number of the line with the mark."""
    lines, first = inspect.getsourcelines(body)
    return next((first + k for k, line in enumerate(lines) if MARK in line), None)


def assert_same_afterwards(cell: nn.Module, twin: nn.Module) -> None:
    """What the steps changed in the module is what the loop changes."""
    for (name, module), other in zip(cell.named_modules(), twin.modules(), strict=True):
        mine, theirs = _plain(module), _plain(other)
        assert mine.keys() == theirs.keys(), f"{name}: attributes {mine.keys() ^ theirs.keys()}"
        for key, value in theirs.items():
            _assert_same(mine[key], value, f"{name}.{key}".strip("."))


def _plain(module: nn.Module) -> dict[str, Any]:
    own = {k: v for k, v in vars(module).items() if not k.startswith("_") or k == "_buffers"}
    return {k: v for k, v in own.items() if not callable(v)}


def _assert_same(mine: Any, theirs: Any, name: str) -> None:
    leaves, spec = pytree.tree_flatten(mine)
    others, other_spec = pytree.tree_flatten(theirs)
    assert spec == other_spec, f"{name}: {spec}, not {other_spec}"
    for a, b in zip(leaves, others, strict=True):
        if isinstance(b, Tensor):
            assert type(a) is type(b), f"{name} is a {type(a).__name__}"
            torch.testing.assert_close(a.detach(), b.detach(), msg=lambda text: f"{name}: {text}")
        elif isinstance(b, int | float | str | bool | None):
            assert a == b, f"{name} is {a!r}, not {b!r}"
