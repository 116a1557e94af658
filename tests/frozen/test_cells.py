"""Every cell that the tests know, through the C library: the layer's own numbers, bit for bit, or a refusal."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from battery.library import LIBRARY
from battery.registry import CASES, FEW, Case
from elman.engine import EngineError
from elman.nn import Recurrent
from tests.frozen.running import B, T, assert_runs_alike, assert_same
from tests.published.cells import PUBLISHED

if importlib.util.find_spec("torchrecurrent"):
    from tests.published.package import PACKAGED

    PACKAGE = [packaged.case() for packaged in PACKAGED]
else:
    PACKAGE = []

ALL = {case.name: case for case in (*CASES, *LIBRARY, *(p.case for p in PUBLISHED), *PACKAGE)}
# What the core does not run one step at a time, and what it says of itself.
REFUSED = {
    "conv": "convolution.default has no native instruction",
    "clockwork": "values of several dtypes",
    "clockwork_of_step": "remainder.Tensor has no native instruction",
    "counter": "values of several dtypes",
    "embedding": "inputs of ",
    "lstm_zoneout": "inputs of ",
    "lstm_zoneout_eval": "inputs of ",
    "phased_lstm": "values of several dtypes",
    "phased_lstm_of_time": "fmod.Tensor has no native instruction",
}
# A part of these layers is so small, or made once of the context, that the layer leaves it to torch, whose sums have
# another order: they agree as far as two orders of a sum do.
NEARLY = {"delta_net", "selective_scan"}

FAST = {*(case.name for case in FEW), *REFUSED, "library_lstm_peephole", "rwkv", "selective_scan", "nested"}


class WithState(nn.Module):
    """A cell of the registry, which may be any callable, with a start."""

    def __init__(self, cell: Any, state: Any) -> None:
        super().__init__()
        self.cell, self.start = cell, state

    def forward(self, x: Any, state: Any, *context: Any) -> Any:
        return self.cell(x, state, *context)

    def initial_state(self, batch: int, device: Any, dtype: Any) -> Any:
        return torch.utils._pytree.tree_map(
            lambda s: s[:1].detach().repeat(batch, *[1] * (s.dim() - 1)), self.start
        )


def assert_nearly(found: Any, expected: Any, what: str) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b.reshape(a.shape), rtol=1e-4, atol=1e-5, err_msg=what)


@cache
def layer_of(name: str) -> tuple[Recurrent, Any, Any]:
    case: Case = ALL[name]
    detached = torch.utils._pytree.tree_map(
        lambda t: t.detach() if isinstance(t, torch.Tensor) else t, case.inputs(T, B, torch.float32)
    )
    layer = Recurrent(WithState(case.cell(torch.float32), detached.state))
    return layer, detached.x, detached.context


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in ALL])
def test_a_cell_leaves_as_it_is_or_not_at_all(name: str) -> None:
    layer, x, context = layer_of(name)
    if name in REFUSED:
        with pytest.raises((EngineError, ValueError), match=REFUSED[name]):
            assert_runs_alike(layer, x, context)
        return
    near = name in NEARLY or context is not None
    assert_runs_alike(layer, x, context, assert_nearly if near else assert_same)


@pytest.mark.parametrize("name", ["lstm_gates", "slstm", "fast_weights", "rwkv", "nested"])
def test_from_the_last_step_to_the_first(name: str) -> None:
    layer, x, context = layer_of(name)
    backward = Recurrent(layer.cell, reverse=True)
    frozen = assert_runs_alike(backward, x, context)
    assert not frozen.can_step
    with pytest.raises(ValueError, match="needs whole sequences"):
        frozen.stream(B)


def test_the_exceptions_are_few() -> None:
    assert not (set(REFUSED) | NEARLY) - set(ALL)
    assert len(REFUSED) <= len(ALL) // 10
    assert len(NEARLY) <= 2
