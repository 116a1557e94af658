"""Every cell of the registry, every check, every backend."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from battery.checks import QUICK, SLOW, assert_right_soon
from battery.library import LIBRARY
from battery.registry import CASES, FEW, Case
from battery.running import CORE

BACKENDS = [None, "reference"] if CORE else ["reference"]
Check = Callable[[Case, str | None], None]


def _named(item: object) -> str:
    if isinstance(item, Case):
        return item.name
    return getattr(item, "__name__", str(item) if item else "auto").removeprefix("assert_")


@pytest.mark.parametrize("case", [*CASES, *LIBRARY], ids=_named)
def test_every_cell(case: Case) -> None:
    """Values and all gradients of two calls, the promised path, and a module left alone."""
    assert_right_soon(case, None)


@pytest.mark.parametrize("check", QUICK, ids=_named)
@pytest.mark.parametrize("case", FEW, ids=_named)
def test_few_cells(case: Case, check: Check) -> None:
    """The quick checks on one cell of each kind."""
    check(case, None)


@pytest.mark.parametrize("case", FEW, ids=_named)
def test_few_cells_on_the_reference(case: Case) -> None:
    """The interpreter that is the oracle of the core."""
    assert_right_soon(case, "reference")


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS, ids=_named)
@pytest.mark.parametrize("check", [*QUICK, *SLOW], ids=_named)
@pytest.mark.parametrize("case", [*CASES, *LIBRARY], ids=_named)
def test_battery(case: Case, check: Check, backend: str | None) -> None:
    """All of it."""
    if check.__name__.removeprefix("assert_") in case.without:
        pytest.skip("not defined for this cell")
    check(case, backend)
