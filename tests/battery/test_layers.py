"""Every cell of the registry inside `elman.Recurrent`: batch-major, time-major, packed, reversed, stacked."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils import _pytree as pytree

from battery.cells_gated import GatesLSTM
from battery.cells_simple import Elman, H, I
from battery.library import LIBRARY
from battery.oracle import Unfolded, unfold
from battery.registry import CASES, Case
from battery.running import assert_matches, assert_outcomes_agree, leaves_of, measure
from elman.engine import EngineWarning
from elman.nn import Recurrent

ALL = [*CASES, *LIBRARY]
LENGTHS = torch.tensor([5, 1, 6, 3])


def _called(layer: Recurrent) -> Any:
    """The layer with the call of a scan."""

    def call(x: Any, state: Any, *, reverse: bool = False, **options: Any) -> Any:
        assert reverse == layer.reverse
        return layer(x, state, **options)

    return call


def _swapped(tree: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.transpose(0, 1), tree)


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("case", ALL, ids=lambda c: c.name)
def test_as_a_layer(case: Case, reverse: bool) -> None:
    """A layer over the cell gives what the oracle gives; nothing is said."""
    cell, twin = case.cell(), case.cell()
    layer = Recurrent(cell, reverse=reverse)
    with warnings.catch_warnings():
        warnings.simplefilter("error", EngineWarning)
        names = ("lengths", "reset", "initial", *(("reverse",) if reverse else ()))
        assert_matches(_called(layer), cell, twin, case.inputs(6, 4), names)


@pytest.mark.slow
@pytest.mark.parametrize("case", ALL, ids=lambda c: c.name)
def test_batch_major_and_packed(case: Case) -> None:
    """(B, T, ...) and a PackedSequence mean the same as (T, B, ...) with lengths."""
    cell, twin = case.cell(), case.cell()
    inputs = case.inputs(6, 4)
    leaves = leaves_of(inputs._replace(initial=None), cell)
    expected_result = unfold(twin, inputs.x, inputs.state, context=inputs.context, lengths=LENGTHS)
    expected = measure(expected_result, leaves_of(inputs._replace(initial=None), twin), ("y", "state"))
    layer = Recurrent(cell, batch_first=True)
    y, state = layer(_swapped(inputs.x), inputs.state, context=inputs.context, lengths=LENGTHS)
    assert_outcomes_agree(measure(Unfolded(_swapped(y), state, None), leaves, ("y", "state")), expected)
    if not isinstance(inputs.x, Tensor) or not isinstance(expected_result.y, Tensor):
        return
    packed = pack_padded_sequence(inputs.x, LENGTHS, enforce_sorted=False)
    y, state = Recurrent(cell)(packed, inputs.state, context=inputs.context)
    padded, lengths = pad_packed_sequence(y, total_length=6)
    assert torch.equal(lengths, LENGTHS)
    assert_outcomes_agree(measure(Unfolded(padded, state, None), leaves, ("y", "state")), expected)


@pytest.mark.parametrize("make", [Elman, GatesLSTM])
def test_two_layers_two_directions(make: type[nn.Module]) -> None:
    """A stack by a factory equals the oracle put together by hand."""

    def factory(input_size: int, hidden_size: int) -> nn.Module:
        return _Fitted(make(), input_size)

    torch.manual_seed(1)
    layer = Recurrent(factory, I, H, num_layers=2, bidirectional=True).double()
    x = torch.randn(6, 4, I, dtype=torch.float64, requires_grad=True)
    y, state = layer(x, lengths=LENGTHS)
    h, finals = x, []
    for k in range(2):
        outs = []
        for d in range(2):
            cell = layer.cells[2 * k + d]
            zero = torch.zeros(4, H, dtype=torch.float64)
            result = unfold(
                cell, h, (zero, zero) if make is GatesLSTM else zero, lengths=LENGTHS, reverse=d == 1
            )
            outs.append(result.y)
            finals.append(result.state)
        h = torch.cat(outs, 2)
    leaves = {"x": x} | dict(layer.named_parameters())
    actual = measure(Unfolded(y, tuple(state), None), leaves, ("y", "state"))
    assert_outcomes_agree(actual, measure(Unfolded(h, tuple(finals), None), leaves, ("y", "state")))


class _Fitted(nn.Module):
    """A cell of the battery behind a Linear to its own input width."""

    def __init__(self, cell: nn.Module, input_size: int) -> None:
        super().__init__()
        self.fit, self.cell, self.hidden_size = nn.Linear(input_size, I), cell, H
        self.two = isinstance(cell, GatesLSTM)

    def initial_state(self, batch: int, device: Any, dtype: Any) -> Any:
        zero = torch.zeros(batch, H, device=device, dtype=dtype)
        return (zero, zero.clone()) if self.two else zero

    def forward(self, x: Tensor, state: Any) -> Any:
        return self.cell(self.fit(x), state)
