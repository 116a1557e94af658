"""The page of paths is what the cells do."""

from __future__ import annotations

import pytest

from battery.running import CORE

pytest.importorskip("torchrecurrent", reason="the package torchrecurrent is not installed")

from tests.published.table import PAGE, page


@pytest.mark.slow
def test_the_page_is_what_is() -> None:
    """`python -m tests.published.table` would change nothing."""
    if not CORE:
        pytest.skip("the core is not built")
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tests.published.table`"
