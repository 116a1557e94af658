"""No expression around an operation of the op table is silently wrong: a slice of what `draws.cells` draws at every
run, more of it among the slow tests, and as much as is wished by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from draws.cells import Drawn, SilentlyWrong, run_drawn
from draws.operations import GENERATORS
from elman.engine.backends import fuse
from elman.engine.lowering import passes
from elman.engine.program.ops import OPS
from elman.engine.program.program import Node
from elman.engine.tracing import merge

# Taken apart before they reach the graph, for floats at least, or made by a rewrite alone.
NEVER_WHOLE = {
    "add.Scalar", "sub.Scalar", "mul.Scalar", "div.Scalar", "sum.default", "sign.default", "exp2.default",
    "log2.default", "log10.default", "clamp.Tensor", "frac.default", "trunc.default", "isnan.default",
    "isinf.default", "isfinite.default", "logical_xor.default", "logsumexp.default", "logaddexp.default", "all.dim",
    "any.dim", "any.dims", "max.dim", "min.dim",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_every_operation_has_a_generator() -> None:
    assert set(GENERATORS) == set(OPS)


def assert_made(op: str, patch: pytest.MonkeyPatch) -> None:
    """The operation reaches the graph of one of a few drawn cells."""
    seen: set[str] = set()
    check = merge.check_rows

    def look(node: Node, *rest: object) -> None:
        seen.add(node.op)
        check(node, *rest)  # type: ignore[arg-type]

    patch.setattr(merge, "check_rows", look)
    for seed in range(6):
        run_drawn(Drawn(op, seed))
        if op in seen:
            return
    assert op in NEVER_WHOLE, f"{op} is not among {sorted(seen)}"


@pytest.mark.slow
@pytest.mark.parametrize("op", GENERATORS)
def test_a_generator_makes_its_operation(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_made(op, monkeypatch)


@pytest.mark.parametrize(
    "op", ["add.Tensor", "where.self", "amax.default", "embedding.default", "mm.default"]
)
def test_few_expressions(op: str) -> None:
    run_drawn(Drawn(op, 1))


@pytest.mark.slow
@pytest.mark.parametrize("op", GENERATORS)
def test_expressions(op: str) -> None:
    for seed in range(10, 13):
        run_drawn(Drawn(op, seed))


def test_a_planted_fault_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unverified, a sum in the shape of one of its terms is found."""
    from elman.engine import scan

    for name in ("verify", "verify_size", "verify_case"):
        monkeypatch.setattr(scan, name, lambda *a: None)
    monkeypatch.setattr(passes, "broadcast_shape", lambda *shapes: max(shapes, key=len))
    with pytest.raises(SilentlyWrong):
        run_many("add.Tensor")


def test_a_planted_instruction_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unverified, a fused instruction that is another one is found."""
    from elman.engine import scan

    for name in ("verify", "verify_size", "verify_case"):
        monkeypatch.setattr(scan, name, lambda *a: None)
    monkeypatch.setitem(fuse.CHAINS, ("sub", 0), "fma")
    with pytest.raises(SilentlyWrong):
        run_many("sub.Tensor")


def run_many(op: str) -> None:
    """Some cells around an operation."""
    for seed in range(20):
        run_drawn(Drawn(op, seed))
