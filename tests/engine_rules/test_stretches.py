"""A long call goes in stretches of steps: the same results, in memory that does not grow with the steps."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import elman.nn
from benchmarks.cells import LayerNormLSTMCell
from elman import _core
from tests.engine_rules.test_recipes import LAYERS, H, I, assert_same_bits, inputs, plans, results

T = 7


@pytest.fixture(autouse=True)
def _as_many_as_are_good() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    _core.stretch(0)
    torch.set_num_threads(threads)


def in_stretches(layer: nn.Module, x: Tensor, steps: int) -> list[Tensor]:
    _core.stretch(steps)
    return results(layer, x)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 3, 9])  # 9: threads keep to their rows
@pytest.mark.parametrize("name", LAYERS)
def test_any_stretches_give_the_same(name: str, batch: int, threads: int) -> None:
    torch.manual_seed(1)
    torch.set_num_threads(threads)
    layer, x = LAYERS[name](), inputs(batch, T)
    whole = in_stretches(layer, x, 100)
    assert all(p.recipes.get((False, False)) for p in plans(layer))
    by_row = len(whole) - sum(p.requires_grad for p in layer.parameters())
    for steps in (1, 2, 3, T):
        found = in_stretches(layer, x, steps)
        assert_same_bits(found[:by_row], whole[:by_row])  # what has rows; sums over them are in another order
        for a, b in zip(found[by_row:], whole[by_row:], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        forward = in_stretches(layer, x, 2)
    assert_same_bits(forward, whole[: len(forward)])


@pytest.mark.parametrize("steps", [1, 3, 100])
def test_the_number_of_threads_changes_no_bit(steps: int) -> None:
    torch.manual_seed(1)
    layer, x = elman.nn.Recurrent(LayerNormLSTMCell(I, H)), inputs(9, T)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(in_stretches(layer, x, steps))
    assert_same_bits(found[1], found[0])
    assert_same_bits(found[2], found[0])


def test_columns_shared_by_threads_in_stretches() -> None:
    torch.manual_seed(1)
    layer, x = elman.nn.LSTM(I, H), inputs(9, T)
    whole = in_stretches(layer, x, 100)
    _core.share_columns(True)
    try:
        found = in_stretches(layer, x, 2)
    finally:
        _core.share_columns(False)
    assert_same_bits(found[:4], whole[:4])


def test_of_their_own_accord() -> None:
    """Long enough for several stretches: equal to the loop over the same cell, values and gradients."""
    torch.manual_seed(1)
    layer = elman.nn.Recurrent(LayerNormLSTMCell(8, 64)).double()
    x = torch.randn(200, 8, 8, dtype=torch.float64, requires_grad=True)
    found = results(layer, x)
    layer.backend = "loop"
    for a, b in zip(found, results(layer, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_inference_needs_no_more_for_more_steps() -> None:
    layer = elman.nn.LSTM(64, 64)
    kept = []
    with torch.inference_mode():
        for steps in (1000, 4000):
            x = torch.randn(steps, 16, 64)
            layer(x)
            _core.release_memory()
            y, _ = layer(x)
            kept.append(_core.kept_memory())  # what the call had beside y
            assert y.shape == (steps, 16, 64)
            del y
    assert 0 < kept[1] < kept[0] + (1 << 20)  # the gates of 3000 steps are 49 MB
