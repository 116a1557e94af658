"""Running a case: the call with its options, what it gives and all its gradients, for the oracle and for the engine."""

from __future__ import annotations

import importlib.util
import random
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from battery.oracle import Unfolded, unfold
from battery.registry import SEED, Case, Inputs
from elman.engine import EngineWarning, Scan
from tolerances import assert_near

CORE = importlib.util.find_spec("elman._core") is not None
T, B = 6, 4
EVERYWHERE = ("y", "state", "states")


class Outcome(NamedTuple):
    """Every leaf of the result, every gradient, each under a name that says where it is."""

    values: dict[str, Tensor]
    gradients: dict[str, Tensor]


@dataclass
class Run:
    """One scan with what is to be known about it: the warnings of its calls."""

    scan: Scan
    warned: list[str] = field(default_factory=list)

    def __call__(self, x: Any, state: Any, **options: Any) -> Any:
        """Call the scan; keep the engine's warnings, let no other pass."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = self.scan(x, state, **options)
        self.warned += [str(w.message) for w in caught if issubclass(w.category, EngineWarning)]
        other = [w for w in caught if not issubclass(w.category, EngineWarning)]
        assert not other, (
            f"the engine let a warning through: {other[0].category.__name__}: {other[0].message}"
        )
        return result


def run_of(case: Case, backend: str | None, dtype: torch.dtype = torch.float64) -> tuple[Any, Run]:
    """A fresh cell and a fresh scan over it."""
    cell = case.cell(dtype)
    return cell, Run(Scan(cell, backend=backend))


def path_of(case: Case, backend: str | None) -> str:
    """The path that a case must take with a backend."""
    if case.expect_path == "loop" or backend == "loop":
        return "loop"
    if backend == "reference" or not CORE:
        return "reference"
    return case.expect_path


def tensors_of(step: Any) -> dict[str, Tensor]:
    """Trainable tensors that the step reads: a module's parameters and plain tensor attributes, or `step.tensors`."""
    named = dict(getattr(step, "tensors", {}))
    if isinstance(step, nn.Module):
        named |= dict(step.named_parameters())
    return {f"parameter {name}": p for name, p in named.items() if p.requires_grad}


def leaves_of(inputs: Inputs, step: Any) -> dict[str, Tensor]:
    """Everything that can have a gradient, by name."""
    named = {
        f"{what}{pytree.keystr(path)}": leaf
        for what, tree in zip(Inputs._fields, inputs, strict=True)
        if tree is not None
        for path, leaf in pytree.tree_flatten_with_path(tree)[0]
    }
    return {k: v for k, v in named.items() if v.requires_grad} | tensors_of(step)


def options_of(names: Iterable[str], inputs: Inputs, T: int, B: int) -> dict[str, Any]:
    """Arguments of a call from the names of options."""
    draw = random.Random(SEED)
    some: dict[str, Any] = {"context": inputs.context}
    for name in names:
        match name:
            case "lengths":
                some["lengths"] = torch.tensor(([max(1, T - 1), 0, T, max(1, T - 3), 1] * B)[:B])
            case "short":
                some["lengths"] = torch.tensor(([1, 0, max(1, T - 2)] * B)[:B])
            case "nothing":
                some["lengths"] = torch.zeros(B, dtype=torch.long)
            case "reset":
                some["reset"] = torch.tensor([[draw.random() < 0.4 for _ in range(B)] for _ in range(T)])
            case "initial":
                some["initial_state"] = inputs.initial
            case "reverse":
                some["reverse"] = True
            case _:
                raise ValueError(name)
    return some


def with_poisoned_padding(x: Any, lengths: Tensor | None) -> Any:
    """x with NaN, or an index outside of every table, where a row has ended."""
    if lengths is None:
        return x
    T = pytree.tree_leaves(x)[0].shape[0]
    ended = torch.arange(T).unsqueeze(1) >= lengths

    def poison(leaf: Tensor) -> Tensor:
        if leaf.dtype == torch.bool:
            return leaf
        out = leaf.detach().clone()
        out[ended] = torch.nan if leaf.is_floating_point() else -(10**9)
        return out.requires_grad_(leaf.requires_grad)

    return pytree.tree_map(poison, x)


def named_leaves(result: Any, through: Iterable[str]) -> dict[str, Tensor]:
    """Leaves of the chosen parts of a result, by name."""
    return {
        f"{part}{pytree.keystr(path)}": leaf
        for part in through
        for path, leaf in pytree.tree_flatten_with_path(getattr(result, part))[0]
    }


def loss_of(values: dict[str, Tensor]) -> Tensor:
    """A weighted sum of everything that has a gradient; the weights depend on the name and the place alone."""
    total = torch.zeros((), dtype=torch.float64)
    for name, value in values.items():
        if value.requires_grad:
            value = torch.view_as_real(value) if value.is_complex() else value
            generator = torch.Generator().manual_seed(sum(name.encode()))
            weight = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            total = total + (value.to(torch.float64) * weight).sum()
    return total


def measure(result: Any, leaves: dict[str, Tensor], through: Iterable[str] = EVERYWHERE) -> Outcome:
    """All values of a result and all gradients of its weighted sum; a gradient of None counts as zero."""
    values = named_leaves(result, through)
    loss = loss_of(values)
    gradients = {}
    if loss.requires_grad and leaves:
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        gradients = {
            k: torch.zeros_like(leaf) if g is None else g
            for (k, leaf), g in zip(leaves.items(), found, strict=True)
        }
    return Outcome({k: v.detach() for k, v in values.items()}, gradients)


def assert_outcomes_agree(actual: Outcome, expected: Outcome, *, dtype: torch.dtype | None = None) -> None:
    """The same leaves, the same values and the same gradients."""
    assert actual.values.keys() == expected.values.keys(), "the structure of the result differs"
    for name, value in expected.values.items():
        assert_near(actual.values[name], value, dtype=dtype if value.is_floating_point() else None, what=name)
    assert actual.gradients.keys() == expected.gradients.keys()
    for name, gradient in expected.gradients.items():
        assert_near(actual.gradients[name], gradient, gradient=True, dtype=dtype, what=f"gradient of {name}")


def expected_outcome(
    step: Callable[..., Any], inputs: Inputs, options: dict[str, Any], through: Iterable[str] = EVERYWHERE
) -> Outcome:
    """What the oracle gives."""
    options = {k: v for k, v in options.items() if k != "return_states"}
    return measure(unfold(step, inputs.x, inputs.state, **options), leaves_of(inputs, step), through)


def actual_outcome(
    run: Callable[..., Any],
    step: Any,
    inputs: Inputs,
    options: dict[str, Any],
    through: Iterable[str] = EVERYWHERE,
) -> Outcome:
    """What the engine gives; its result shares no memory with its inputs."""
    options = {"return_states": "states" in through} | options
    result = run(inputs.x, inputs.state, **options)
    assert_no_alias(result, inputs)
    return measure(result, leaves_of(inputs, step), through)


def assert_no_alias(result: Any, inputs: Inputs) -> None:
    """No leaf of the result lies in the memory of an input."""
    given = {
        leaf.untyped_storage().data_ptr() for leaf in pytree.tree_leaves(tuple(inputs)) if leaf is not None
    }
    for leaf in pytree.tree_leaves(tuple(result)):
        if leaf is not None and leaf.numel():
            assert leaf.untyped_storage().data_ptr() not in given, "a result lies in the memory of an input"


def assert_matches(
    run: Callable[..., Any],
    cell: Any,
    twin: Any,
    inputs: Inputs,
    names: Iterable[str] = (),
    *,
    through: Iterable[str] = EVERYWHERE,
    dtype: torch.dtype | None = None,
) -> None:
    """The engine over `cell` gives what the oracle over its equal `twin` gives: values and all gradients."""
    T, B = pytree.tree_leaves(inputs.x)[0].shape[:2]
    options = options_of(names, inputs, T, B)
    inputs = inputs._replace(x=with_poisoned_padding(inputs.x, options.get("lengths")))
    expected = expected_outcome(twin, inputs, options, through)
    actual = actual_outcome(run, cell, inputs, options, through)
    assert_outcomes_agree(actual, expected, dtype=dtype)


def assert_not_looped(run: Run) -> None:
    """The fast path was taken, and nothing was said."""
    assert run.scan.path in ("native", "reference"), f"path {run.scan.path}: {run.warned}"
    assert not run.warned, run.warned


def unfolded_zero(result: Unfolded) -> bool:
    """Whether the oracle had no row to run."""
    return result.y is None
