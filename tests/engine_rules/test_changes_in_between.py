"""What the caller does between a call and its gradient: the gradient is of the call as it was, or there is none."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from elman.engine import EngineError
from elman.nn import GRU, LSTM, Recurrent
from tolerances import assert_near

T, B, I, H = 7, 4, 3, 5
MARKS = ("lengths", "mask", "reset")


def _gradients(layer: nn.Module, results: list[Tensor], x: Tensor, *, again: bool) -> list[Tensor]:
    loss = sum((y**2).sum() for y in results)
    found = torch.autograd.grad(loss, [x, *layer.parameters()], create_graph=again)  # type: ignore[arg-type]
    if not again:
        return list(found)
    penalty = torch.autograd.grad(found[0].pow(2).sum(), [x, *layer.parameters()], allow_unused=True)
    return [*found, *(g for g in penalty if g is not None)]


@pytest.mark.parametrize("again", [False, True], ids=["once", "gradients of gradients"])
@pytest.mark.parametrize("every", [None, 3], ids=["whole", "chunks"])
@pytest.mark.parametrize("states", [False, True], ids=["outputs", "all states"])
def test_memory_of_lengths_masks_and_resets_is_used_again(
    states: bool, every: int | None, again: bool
) -> None:
    torch.manual_seed(0)
    layer = GRU(I, H, checkpoint_every=every)
    x = torch.randn(T, B, I, requires_grad=True)
    for names in (("lengths",), ("reset",), ("mask",), ("lengths", "mask"), MARKS):

        def call(names: tuple[str, ...], written: bool) -> list[Tensor]:
            given: dict[str, Tensor] = {
                "lengths": torch.tensor([T, 0, 2, 5]), "mask": torch.arange(T * B).view(T, B) % 5 != 2,
                "reset": torch.arange(T * B).view(T, B) % 3 == 1,
            }  # fmt: skip
            for _ in range(2):  # the second of two equal calls goes another way
                y, state, *rest = layer(x, return_states=states, **{k: given[k] for k in names})
            if written:
                given["lengths"].fill_(1), given["mask"].logical_not_(), given["reset"].logical_not_()
            return _gradients(layer, [y, state, *rest], x, again=again)

        for after, expected in zip(call(names, True), call(names, False), strict=True):
            assert_near(after, expected, gradient=True, what=str(names))


@pytest.mark.parametrize("every", [None, 3], ids=["whole", "chunks"])
def test_gradients_of_gradients_of_a_call_before_the_last(every: int | None) -> None:
    """A mask on the weights is drawn anew in each call, in a buffer."""
    layer = LSTM(I, H, weight_dropout=0.5, checkpoint_every=every)
    x = torch.randn(T, B, I, requires_grad=True)
    first = layer(x)[0]
    before = _gradients(layer, [first], x, again=True)
    torch.manual_seed(1)
    once = layer(x)[0]
    torch.manual_seed(1)
    twice = layer(x)[0]
    layer(x)
    expected = _gradients(layer, [once], x, again=False)
    found = _gradients(layer, [twice], x, again=True)
    for after, right in zip(found, expected, strict=False):
        assert_near(after, right, gradient=True)
    assert any(not torch.allclose(a, b) for a, b in zip(found, before, strict=True))


def test_gradients_of_gradients_after_a_parameter_has_been_replaced() -> None:
    layer = GRU(I, H)
    x = torch.randn(T, B, I, requires_grad=True)
    y = layer(x)[0]
    (expected,) = torch.autograd.grad((y**2).sum(), x, retain_graph=True)
    layer.weight_hh_l0 = nn.Parameter(torch.randn(3 * H, H))
    (found,) = torch.autograd.grad((y**2).sum(), x, create_graph=True)
    assert_near(found, expected, gradient=True)


def _evaluated(layer: Any) -> None:
    layer.eval()


def _frozen(layer: Any) -> None:
    layer.requires_grad_(False)


@pytest.mark.parametrize("change", [_evaluated, _frozen])
@pytest.mark.parametrize("every", [None, 3], ids=["whole", "chunks"])
def test_gradients_of_gradients_after_the_step_has_changed(
    every: int | None, change: Callable[[Any], None]
) -> None:
    layer = LSTM(I, H, weight_dropout=0.5, checkpoint_every=every)
    x = torch.randn(T, B, I, requires_grad=True)
    y = layer(x)[0]
    change(layer)
    torch.autograd.grad((y**2).sum(), x, retain_graph=True)
    with pytest.raises(EngineError, match="has changed since the call"):
        torch.autograd.grad((y**2).sum(), x, create_graph=True)


@pytest.mark.filterwarnings("ignore:autocast on the CPU")
def test_gradients_of_gradients_under_autocast_are_cast_as_the_call_was() -> None:
    layer = GRU(I, H)
    plain = deepcopy(layer)
    plain.backend = "loop"
    x = torch.randn(T, B, I, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y, loop = layer(x)[0], plain(x)[0]
    (found,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (expected,) = torch.autograd.grad(loop.sum(), x)
    assert_near(found, expected, gradient=True)


class _Recording(nn.Module):
    """Leaves a record on itself at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.input_size, self.hidden_size = I, H
        self.inward, self.around, self.factor = nn.Linear(I, H), nn.Linear(H, H), 0.9

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.factor * torch.tanh(self.inward(x) + self.around(h))
        self.last = h.detach()
        return h, h


@pytest.mark.filterwarnings("ignore::elman.engine.EngineWarning")
@pytest.mark.parametrize("calls", [1, 2, 3])
@pytest.mark.parametrize("every", [None, 3], ids=["whole", "chunks"])
def test_a_step_s_own_record_is_no_change(every: int | None, calls: int) -> None:
    torch.manual_seed(0)
    cell, slow = _Recording(), _Recording()
    slow.load_state_dict(cell.state_dict())
    layers = Recurrent(cell, checkpoint_every=every), Recurrent(slow, backend="loop")
    x = torch.randn(T, B, I, requires_grad=True)
    found = []
    for each in layers:
        results = [each(x)[0] for _ in range(calls)]
        found.append(_gradients(each, results[:1], x, again=True))
    for mine, theirs in zip(*found, strict=True):
        assert_near(mine, theirs, gradient=True, what=f"{calls} calls")
    assert_near(cell.last, slow.last)
    y = layers[0](x)[0]
    cell.factor = 0.5
    with pytest.raises(EngineError, match="has changed since the call"):
        _gradients(layers[0], [y], x, again=True)
