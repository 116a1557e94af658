"""The fuzzer: cells drawn at random, engine and oracle side by side."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from battery import drawn
from battery.registry import Case
from battery.running import Run, assert_matches, assert_not_looped
from elman.engine import Scan


def assert_drawn_cell(
    code: list[drawn.Instruction], widths: list[int], context: int, outs: list[int], names: list[str], T: int, B: int,
    backend: str | None,
) -> None:  # fmt: skip
    """A drawn cell equals the oracle in values and gradients, on the fast path."""
    case = Case(
        "drawn",
        partial(drawn.Drawn, code, 5, widths, context, outs),
        lambda T, B: torch.randn(T, B, 5),
        lambda B: tuple(torch.randn(B, w) for w in widths),
        (lambda B: torch.randn(B, context)) if context else None,
    )
    cell, run = case.cell(), None
    run = Run(Scan(cell, backend=backend))
    assert_matches(run, cell, case.cell(), case.inputs(T, B), names)
    assert_not_looped(run)
    assert_matches(run, cell, case.cell(), case.inputs(2, 3), ())


@pytest.mark.slow
@settings(max_examples=120)
@given(
    code=drawn.code, widths=drawn.widths, context=st.sampled_from([0, 0, 3]), outs=drawn.outs, names=drawn.options,
    T=st.sampled_from([1, 2, 5]), B=st.sampled_from([1, 2, 4, 7]), backend=st.sampled_from([None, None, "reference"]),
)  # fmt: skip
def test_drawn_cells(
    code: list[drawn.Instruction], widths: list[int], context: int, outs: list[int], names: list[str], T: int, B: int,
    backend: str | None,
) -> None:  # fmt: skip
    assert_drawn_cell(code, widths, context, outs, names, T, B, backend)
