"""The table of emitters: every op of the engine's has one or a reason, and each says what torch says."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import pytest
import torch
from torch.utils import _pytree as pytree

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnx_ir", reason="onnx_ir is not installed")

from draws.cells import Drawn, sample
from draws.operations import GENERATORS, RANDOM
from elman.engine import EngineError, Scan
from elman.engine.call.loop import plain_loop
from elman.engine.program.ops import OPS
from elman.onnx import export_step
from elman.onnx.emitters import EMITTERS, REASONS
from elman.onnx.files import session
from tolerances import assert_near

FEW = random.Random(20261126).sample(sorted(set(GENERATORS) - set(RANDOM)), 12)


def test_every_op_has_an_emitter_or_a_reason() -> None:
    assert set(EMITTERS) | set(REASONS) == set(OPS)
    assert not set(EMITTERS) & set(REASONS)
    assert all(len(reason) > 20 for reason in REASONS.values())


def compare(op: str, seed: int, path: Path) -> str:
    """A drawn cell around one operation, as a file, beside the plain loop: "agrees" or why it is refused."""
    drawn = Drawn(op, seed)
    cell = drawn.cell()
    example = sample(cell, 3, 2, 6, "drawn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            export_step(Scan(cell), path, example.x, example.state, example.context, verify=False)
        except EngineError as refusal:
            return str(refusal)
    names, run = session(path)
    for T, B, kind in ((1, 1, "drawn"), (4, 3, "drawn"), (2, 3, "some zeros")):
        given = sample(cell, T, B, 6, kind)
        leaves = pytree.tree_leaves((given.x, given.state, () if given.context is None else given.context))
        found = run({n: t.detach().numpy() for n, t in zip(names, leaves, strict=True)})
        with torch.no_grad():
            right = plain_loop(cell, given.x, given.state, context=given.context)
        for theirs, own in zip(found, pytree.tree_leaves((right.y, right.state)), strict=True):
            assert_near(
                torch.as_tensor(theirs), own, gradient=True
            )  # the wider row: functions of two libraries
    return "agrees"


@pytest.mark.parametrize("op", FEW)
def test_drawn_expressions(op: str, tmp_path: Path) -> None:
    said = compare(op, 0, tmp_path / "a.onnx")
    assert said == "agrees" or any(f"{name} cannot be exported" in said for name in REASONS), said


@pytest.mark.slow
@pytest.mark.parametrize("op", sorted(set(GENERATORS) - set(RANDOM)))
def test_more_drawn_expressions(op: str, tmp_path: Path) -> None:
    for seed in range(1, 4):
        said = compare(op, seed, tmp_path / "a.onnx")
        assert said == "agrees" or "cannot be exported" in said or "as a program" in said, said
