"""Every cell of the registry in plain calls, which go in one go where they can: equal to the plain loop."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from battery.registry import CASES, Case
from elman.engine import Scan


def answers(scan: Scan, step: Any, case: Case, B: int) -> list[torch.Tensor]:
    torch.manual_seed(3)
    given = case.inputs(4, B)
    result = scan(given.x, given.state, context=given.context)
    leaves = [v for v in tree_leaves((result.y, result.state)) if v.is_floating_point()]
    owned = list(step.parameters()) if isinstance(step, nn.Module) else []
    outside = [t for t in tree_leaves((given.x, given.state, given.context)) if isinstance(t, torch.Tensor)]
    wanted = [t for t in (*outside, *owned) if t.requires_grad]
    total = sum(
        (v * torch.cos(torch.arange(v.numel(), dtype=v.dtype)).reshape(v.shape)).sum() for v in leaves
    )
    grads = torch.autograd.grad(total, wanted, allow_unused=True) if total.requires_grad else ()
    return [*leaves, *(torch.zeros(()) if g is None else g for g in grads)]


@pytest.mark.parametrize("case", [c for c in CASES if c.expect_path == "native"], ids=lambda case: case.name)
def test_equal_to_the_loop(case: Case) -> None:
    step, twin = case.cell(), case.cell()
    scan, loop = Scan(step), Scan(twin, backend="loop")
    for B in (3, 3, 9):
        for a, b in zip(answers(scan, step, case, B), answers(loop, twin, case, B), strict=True):
            if a.shape == b.shape:
                torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8)
            else:
                assert not a.any()
                assert not b.any()
    assert scan.path == "native"
