"""Every cell of the package `torchrecurrent` by the engine: on the core, equal to its own loop."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import elman
from battery.cells_simple import H, I
from battery.checks import assert_right_soon
from battery.registry import SEED
from battery.running import CORE, Outcome, assert_outcomes_agree, measure
from elman.engine import Scan

pytest.importorskip("torchrecurrent", reason="the package torchrecurrent is not installed")

from tests.published.package import DELAY, PACKAGED, Delayed, Packaged

BY_NAME = {packaged.name: packaged for packaged in PACKAGED}
B = 3
LENGTHS = (7, 50)
ACTIVATIONS = (
    "identity",
    "relu",
    "softplus",
    "hard_sigmoid",
    "gelu",
    "silu",
    "elu",
    "leaky_relu",
)

# Its layer hands an older state to the cell as a third argument; it has a test of its own.
ALONE = [packaged for packaged in PACKAGED if packaged.name != "tauGRUCell"]

each_cell = pytest.mark.parametrize("packaged", PACKAGED, ids=lambda packaged: packaged.name)
each_alone = pytest.mark.parametrize("packaged", ALONE, ids=lambda packaged: packaged.name)
each_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])


class Result(NamedTuple):
    """What a layer gives."""

    y: Any
    state: Any


def _drawn(make: Any, dtype: torch.dtype) -> Any:
    """`make()` in this precision, the same numbers at every call."""
    torch.manual_seed(SEED)
    torch.set_default_dtype(dtype)
    made = make()
    torch.set_default_dtype(torch.float32)
    return made


def _wanted(*trees: Any) -> tuple[Any, ...]:
    return pytree.tree_map(lambda leaf: leaf.clone().requires_grad_(), trees)


def _outcome(result: Result, x: Tensor, state: Any, parameters: Iterable[tuple[str, Tensor]]) -> Outcome:
    leaves = {"x": x, **{f"state {k}": leaf for k, leaf in enumerate(pytree.tree_leaves(state))}}
    return measure(result, leaves | dict(parameters), Result._fields)


def _theirs(layer: nn.Module, x: Tensor, state: Any) -> Outcome:
    """The package's own loop; its states have a dimension of layers in front."""
    x, state = _wanted(x, state)
    y, final = layer(x, pytree.tree_map(lambda s: s.unsqueeze(0), state))
    final = [leaf[0] if leaf.dim() == 3 else leaf for leaf in pytree.tree_leaves(final)]
    return _outcome(Result(y, final), x, state, layer.cells[0].named_parameters())


def _ours(scan: Scan, cell: nn.Module, x: Tensor, state: Any) -> Outcome:
    x, state = _wanted(x, state)
    y, final, _ = scan(x, state)
    return _outcome(Result(y, pytree.tree_leaves(final)), x, state, cell.named_parameters())


def _assert_equal_to_its_own_loop(packaged: Packaged, dtype: torch.dtype, **options: Any) -> None:
    layer = _drawn(lambda: packaged.layer(**options), dtype)
    cell = copy.deepcopy(layer.cells[0])
    scan = Scan(cell, fallback="error")
    for T in LENGTHS:
        x, state = _drawn(lambda T=T: (packaged.x(T, B), packaged.state(B)), dtype)
        theirs = _theirs(layer, x, state)
        assert any(g.any() for g in theirs.gradients.values())
        assert_outcomes_agree(_ours(scan, cell, x, state), theirs)
    assert scan.path == ("native" if CORE else "reference"), scan.explain()


def test_the_package_has_what_is_expected() -> None:
    """An empty list would pass all the others."""
    assert len(PACKAGED) >= 30
    assert all(packaged.paper for packaged in PACKAGED)


@each_dtype
@each_alone
def test_its_own_loop(packaged: Packaged, dtype: torch.dtype) -> None:
    """Values and all gradients of the package's layer, over a short and a long sequence, on the core."""
    _assert_equal_to_its_own_loop(packaged, dtype)


@each_cell
def test_lengths_and_resets(packaged: Packaged) -> None:
    """What the package has not: the battery's oracle is asked."""
    assert_right_soon(packaged.case(), None)


@pytest.mark.slow
@each_alone
def test_without_biases(packaged: Packaged) -> None:
    """Biases that are buffers of zeros."""
    _assert_equal_to_its_own_loop(packaged, torch.float64, bias=False)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str) -> None:
    """Each activation that the package knows by name."""
    _assert_equal_to_its_own_loop(BY_NAME["IndRNNCell"], torch.float64, nonlinearity=activation)


@pytest.mark.parametrize("name", ["LiGRUCell", "MultiplicativeLSTMCell", "MCLSTMCell", "coRNNCell"])
def test_stacks(name: str) -> None:
    """Three layers by `elman.Recurrent`, given the class alone."""
    packaged = BY_NAME[name]
    layer = _drawn(lambda: packaged.layer(3), torch.float64)
    ours = elman.Recurrent(packaged.cls, I, H, 3, fallback="error").double()
    for cell, other in zip(ours.cells, layer.cells, strict=True):
        cell.load_state_dict(other.state_dict())
    x, starts = _drawn(lambda: (packaged.x(7, B), [packaged.state(B) for _ in range(3)]), torch.float64)
    stacked = pytree.tree_map(lambda *states: torch.stack(states), *starts)
    theirs = _outputs(layer, x, stacked)
    assert_outcomes_agree(_outputs(ours, x, tuple(starts)), theirs)


def _outputs(layer: nn.Module, x: Tensor, state: Any) -> Outcome:
    (x,) = _wanted(x)
    return measure(Result(layer(x, state)[0], None), {"x": x, **dict(layer.cells.named_parameters())}, ("y",))


@each_dtype
def test_a_state_of_some_steps_ago(dtype: torch.dtype) -> None:
    """tau-GRU with its delay: the queue is a part of the state, of rank 3."""
    packaged = BY_NAME["tauGRUCell"]
    layer = _drawn(lambda: packaged.layer(delay=DELAY), dtype)
    cell = Delayed(copy.deepcopy(layer.cells[0]))
    scan = Scan(cell, fallback="error")
    for T in LENGTHS:
        x, h = _drawn(lambda T=T: (packaged.x(T, B), packaged.state(B)), dtype)
        theirs = _theirs(layer, x, h)
        mine, start = _wanted(x, h)
        y, (final, _), _ = scan(mine, (start, torch.zeros(B, DELAY, H, dtype=dtype)))
        found = _outcome(Result(y, [final]), mine, start, cell.cell.named_parameters())
        assert_outcomes_agree(found, theirs)
    assert scan.path == ("native" if CORE else "reference"), scan.explain()
