"""Published cells as users write them: right and on the core, short and long, with the battery's options."""

from __future__ import annotations

import pytest
import torch

from battery.checks import assert_autocast, assert_gradcheck, assert_right, assert_right_soon
from battery.running import assert_matches, path_of, run_of
from tests.published.cells import PUBLISHED, Published

B = 3

each = pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.case.name)


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
def test_short_and_long(published: Published, dtype: torch.dtype) -> None:
    """Values and all gradients over 7 and over 50 steps, on the path that is promised."""
    case = published.case
    cell, run = run_of(case, None, dtype)
    for T in (7, 50):
        assert_matches(run, cell, case.cell(dtype), case.inputs(T, B, dtype))
    assert run.scan.path == path_of(case, None), f"path {run.scan.path}: {run.scan.explain()}"
    assert not run.warned


@each
def test_options(published: Published) -> None:
    """Lengths, resets and the reverse direction; a module left alone."""
    assert_right_soon(published.case, None)


@pytest.mark.slow
@each
@pytest.mark.parametrize("backend", [None, "reference"])
def test_every_call(published: Published, backend: str | None) -> None:
    """All calls of the battery."""
    assert_right(published.case, backend)


@pytest.mark.slow
@each
def test_by_differences(published: Published) -> None:
    """Gradients against differences."""
    if "gradcheck" in published.case.without:
        pytest.skip("the step's own backward is not its derivative")
    assert_gradcheck(published.case, None)


@pytest.mark.slow
@each
def test_half_precision(published: Published) -> None:
    """Under autocast."""
    if "autocast" in published.case.without:
        pytest.skip("the loop's own error is as large as what it is compared with")
    assert_autocast(published.case, None)
