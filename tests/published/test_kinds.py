"""What the page calls native is native, and each row of it says what is."""

from __future__ import annotations

import pytest

from nn.by_hand import FAST
from published.kinds import KINDS, Kind
from tests.published.table import PAGE, row_of

ROWS = PAGE.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_a_kind_takes_the_path_that_the_page_says(kind: Kind) -> None:
    """And not the core only where a reason stands there; `python -m tests.published.table` writes it."""
    if FAST != "native":
        pytest.skip("the core is not built")
    row = row_of(kind)
    assert row in ROWS, f"docs/generality.md has another row, or none, for {row}"
    native = "| native |  |" in row
    assert native == kind.native, row
    assert native or not row.endswith("|  |"), row
