"""What the page calls native is native."""

from __future__ import annotations

import pytest
import torch

from elman.engine import Scan
from nn.by_hand import FAST
from published.kinds import KINDS, Kind, KindCell


@pytest.mark.parametrize("kind", [k for k in KINDS if k.native], ids=lambda k: k.name)
def test_a_native_kind_takes_the_core(kind: Kind) -> None:
    scan = Scan(KindCell(kind.body), fallback="error")
    scan(torch.randn(4, 3, 8), torch.randn(3, 8))
    assert scan.path == FAST
