"""What every case of the registry gets unasked. Each check is `assert_NAME(case, backend)`."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from battery.changes import (
    again,
    data_assigned,
    data_in_place,
    doubled,
    loaded,
    no_grad_in_place,
    nothing,
    optimised,
    replaced,
    says,
    scale,
)
from battery.oracle import unfold
from battery.registry import Case, Inputs
from battery.running import (
    EVERYWHERE,
    B,
    Run,
    T,
    actual_outcome,
    assert_matches,
    assert_not_looped,
    assert_outcomes_agree,
    expected_outcome,
    leaves_of,
    loss_of,
    measure,
    named_leaves,
    options_of,
    path_of,
    run_of,
    tensors_of,
)
from battery.snapshot import assert_untouched, snapshot
from elman.engine import EngineError, Scan
from elman.engine.call.loop import plain_loop
from tolerances import assert_near

# Shape and options of a call that is compared with the oracle. NaN lies in the padding wherever there are lengths.
CALLS: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "plain": (T, B, ()),
    "one_step": (1, B, ()),
    "one_row": (T, 1, ()),
    "one_of_each": (1, 1, ("lengths",)),
    "lengths": (T, B, ("lengths",)),
    "short_lengths": (T, B, ("short",)),
    "reverse": (T, B, ("reverse",)),
    "reverse_lengths": (T, B, ("reverse", "lengths")),
    "reverse_short": (T, B, ("reverse", "short")),
    "reset": (T, B, ("reset",)),
    "reset_initial": (T, B, ("reset", "initial")),
    "reset_reverse": (T, B, ("reset", "reverse", "initial")),
    "reset_lengths": (T, B, ("reset", "lengths")),
    "all": (7, 5, ("reset", "lengths", "reverse", "initial")),
    "as_wide_as_the_state": (3, 7, ("lengths", "reverse")),
    "more_rows": (2, 19, ("lengths",)),
}


def assert_right(case: Case, backend: str | None) -> None:
    """Every call equals the oracle, in one scan one after the other, on the path that was promised."""
    cell, run = run_of(case, backend)
    twin = case.cell()
    for name, (steps, rows, names) in CALLS.items():
        with says(name):
            assert_matches(run, cell, twin, case.inputs(steps, rows), names)
            assert run.scan.path == path_of(case, backend), f"path {run.scan.path}: {run.warned}"
    assert not run.warned or case.expect_path == "loop"


def assert_right_soon(case: Case, backend: str | None) -> None:
    """The two calls that see most, the path, and that the first call leaves no trace in the module."""
    cell, run = run_of(case, backend)
    twin = case.cell()
    before = snapshot(cell)
    assert_matches(run, cell, twin, case.inputs(T, B))
    assert_untouched(cell, before)
    assert run.scan.path == path_of(case, backend), f"path {run.scan.path}: {run.warned}"
    assert_matches(run, cell, twin, case.inputs(7, 5), CALLS["all"][2])
    assert not run.warned or case.expect_path == "loop"


def assert_float32(case: Case, backend: str | None) -> None:
    """Single precision within its own tolerances."""
    cell, run = run_of(case, backend, torch.float32)
    twin = case.cell(torch.float32)
    for name in ("plain", "one_row", "all"):
        steps, rows, names = CALLS[name]
        assert_matches(run, cell, twin, case.inputs(steps, rows, torch.float32), names)
    assert run.scan.path == path_of(case, backend)


def assert_loop_agrees(case: Case, backend: str | None) -> None:
    """The plain loop of the engine, the other oracle, gives the same."""
    cell, twin = case.cell(), case.cell()

    def loop(x: Any, state: Any, **options: Any) -> Any:
        return plain_loop(cell, x, state, **options)

    for steps, rows, names in CALLS.values():
        assert_matches(loop, cell, twin, case.inputs(steps, rows), names)


def assert_no_rows(case: Case, backend: str | None) -> None:
    """All lengths zero: outputs zero, the carry-in held, and its gradient with it."""
    cell, run = run_of(case, backend)
    inputs = case.inputs(T, B)
    usual = run(inputs.x, inputs.state, context=inputs.context)
    options = options_of(("nothing",), inputs, T, B)
    result = run(inputs.x, inputs.state, **options)
    assert pytree.tree_structure(result.y) == pytree.tree_structure(usual.y)
    for leaf, other in zip(pytree.tree_leaves(result.y), pytree.tree_leaves(usual.y), strict=True):
        assert leaf.shape == other.shape
        assert leaf.dtype == other.dtype
        assert not leaf.any()
    for name, leaf in named_leaves(result, ["state"]).items():
        assert_near(leaf, named_leaves(inputs, ["state"])[name], what=name)
    outcome = measure(result, leaves_of(inputs, cell), ("y", "state"))
    for name, gradient in outcome.gradients.items():
        assert gradient.any() == name.startswith("state"), f"gradient of {name}"


def assert_gradient_of_each_part(case: Case, backend: str | None) -> None:
    """Gradients through y alone, the final state alone, all-step states alone, and two of them."""
    cell, run = run_of(case, backend)
    twin = case.cell()
    for through in (["y"], ["state"], ["states"], ["y", "state"], ["state", "states"]):
        with says(" and ".join(through)):
            assert_matches(run, cell, twin, case.inputs(T, B), ("lengths", "reset"), through=through)


def assert_gradient_to_each_leaf(case: Case, backend: str | None) -> None:
    """Only one thing wants a gradient at a time; then nothing does."""
    cell, run = run_of(case, backend)
    inputs = case.inputs(4, 3)
    names = list(leaves_of(inputs, cell))
    chosen = [n for n in names if not n.startswith("parameter")]
    chosen += [n for n in names if n.startswith("parameter")][:: max(1, len(tensors_of(cell)) // 2)]
    for name in chosen:
        with says(name):
            frozen, twin, only = case.cell(), case.cell(), case.inputs(4, 3)
            for which in (frozen, twin):
                for key, leaf in leaves_of(only, which).items():
                    leaf.requires_grad_(key == name)
            assert_matches(
                Run(Scan(frozen, backend=backend)), frozen, twin, only, ("lengths", "reset", "initial")
            )
    for leaf in leaves_of(inputs, cell).values():
        leaf.requires_grad_(False)
    assert_matches(run, cell, case.cell().requires_grad_(False), inputs)


def assert_frozen_then_thawed(case: Case, backend: str | None) -> None:
    """requires_grad changes between calls of one scan."""
    cell, run = run_of(case, backend)
    twin = case.cell()
    params, others = list(cell.parameters()), list(twin.parameters())
    if not params:
        pytest.skip("no parameters")
    for pattern in (
        lambda k: True,
        lambda k: k % 2 == 0,
        lambda k: k % 2 == 1,
        lambda k: False,
        lambda k: True,
    ):
        for k, pair in enumerate(zip(params, others, strict=True)):
            for p in pair:
                p.requires_grad_(pattern(k))
        assert_matches(run, cell, twin, case.inputs(4, 3), ("lengths",))


def assert_gradcheck(case: Case, backend: str | None) -> None:
    """Gradients against differences, float64, through lengths and resets."""
    cell, run = run_of(case, backend)
    inputs = case.inputs(4, 3, seed=3)
    leaves = leaves_of(inputs, cell)
    for names in ((), ("lengths", "reset", "initial")):
        options = options_of(names, inputs, 4, 3) | {"return_states": True}

        def function(*_: Tensor, options: dict[str, Any] = options) -> tuple[Tensor, ...]:
            values = named_leaves(run(inputs.x, inputs.state, **options), EVERYWHERE)
            return tuple(v for v in values.values() if v.requires_grad)

        used = {k: v for k, v in leaves.items() if "initial" in names or not k.startswith("initial")}
        assert torch.autograd.gradcheck(function, tuple(used.values()), fast_mode=True, atol=1e-5, rtol=1e-4)


def assert_chunks_make_the_whole(case: Case, backend: str | None) -> None:
    """Two calls with the state carried over equal one long call, gradients through the seam included."""
    cell, run = run_of(case, backend)
    inputs = case.inputs(7, B)
    lengths = torch.tensor([7, 0, 2, 5])
    reset = options_of(("reset",), inputs, 7, B)["reset"]

    def chunked(x: Any, state: Any, *, lengths: Tensor, reset: Tensor, **options: Any) -> Any:
        cut = 3
        head, tail = (pytree.tree_map(lambda leaf, s=s: leaf[s], x) for s in (slice(cut), slice(cut, None)))
        first = run(head, state, lengths=lengths.clamp(max=cut), reset=reset[:cut], **options)
        second = run(tail, first.state, lengths=(lengths - cut).clamp(min=0), reset=reset[cut:], **options)
        joined = [
            pytree.tree_map(lambda a, b: torch.cat((a, b)), p, q) for p, q in zip(first, second, strict=True)
        ]
        return type(first)(joined[0], second.state, joined[2])

    options = {"context": inputs.context, "lengths": lengths, "reset": reset, "initial_state": inputs.initial}
    whole = actual_outcome(run, cell, inputs, options)
    assert_outcomes_agree(actual_outcome(chunked, cell, inputs, options), whole)


def assert_truncated(case: Case, backend: str | None) -> None:
    """Carried state cut from the graph: gradients of the second piece alone (truncated BPTT)."""
    cell, run = run_of(case, backend)
    twin, inputs = case.cell(), case.inputs(3, B)
    carried = run(inputs.x, inputs.state, context=inputs.context).state
    carried = pytree.tree_map(lambda s: s.detach(), carried)
    assert_matches(run, cell, twin, inputs._replace(state=carried))


def assert_without_grad(case: Case, backend: str | None) -> None:
    """no_grad, inference_mode and a training call, each after the other in one scan."""
    cell, run = run_of(case, backend)
    twin, inputs = case.cell(), case.inputs(T, B)
    options = options_of(("lengths", "reset"), inputs, T, B)
    expected = expected_outcome(twin, inputs, options).values
    for mode in (torch.no_grad, torch.inference_mode, torch.no_grad):
        with says(mode.__name__):
            with mode():
                result = run(inputs.x, inputs.state, return_states=True, **options)
            for name, value in named_leaves(result, EVERYWHERE).items():
                assert not value.requires_grad
                assert_near(value, expected[name], what=name)
            assert_matches(run, cell, twin, inputs, ("lengths", "reset"))
    assert run.scan.path == path_of(case, backend)


def assert_modes(case: Case, backend: str | None) -> None:
    """eval, train and eval again follow the module."""
    cell, run = run_of(case, backend)
    twin = case.cell()
    if not isinstance(cell, nn.Module):
        pytest.skip("no module")
    batch_normed = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in cell.modules())
    spectral = any("SpectralNorm" in type(m).__name__ for m in cell.modules())
    for mode in (False,) if batch_normed or spectral else (False, True, False):
        cell.train(mode), twin.train(mode)
        assert_matches(run, cell, twin, case.inputs(4, B), ("lengths",))


def assert_autocast(case: Case, backend: str | None) -> None:
    """bfloat16 autocast: the dtypes of the loop, its values within bfloat16, and full precision again afterwards."""
    cell, run = run_of(case, backend, torch.float32)
    twin, inputs = case.cell(torch.float32), case.inputs(5, B, torch.float32)
    options = options_of((), inputs, 5, B)
    for seed in (1, 2):
        inputs = case.inputs(5, B, torch.float32, seed)
        with torch.autocast("cpu", torch.bfloat16):
            expected = expected_outcome(twin, inputs, options)
            actual = actual_outcome(run, cell, inputs, options)
        assert_outcomes_agree(actual, expected, dtype=torch.bfloat16)
    told = [text for text in run.warned if text.startswith("autocast on the CPU runs on the reference")]
    assert len(told) <= 1, told
    run.warned = [text for text in run.warned if text not in told]
    if case.expect_path != "loop" and backend != "loop":
        assert_not_looped(run)
    assert_matches(run, cell, twin, case.inputs(5, B, torch.float32))


def assert_strided_inputs(case: Case, backend: str | None) -> None:
    """Inputs that are not contiguous: batch-major, every other element, and one row expanded."""
    cell, run = run_of(case, backend)
    twin, inputs = case.cell(), case.inputs(T, B)

    def batch_major(leaf: Tensor) -> Tensor:
        return again(leaf.transpose(0, 1).contiguous().transpose(0, 1), leaf)

    def every_other(leaf: Tensor) -> Tensor:
        return again(
            torch.stack((leaf, torch.full_like(leaf, 7 if leaf.dtype != torch.bool else 1)), -1)[..., 0], leaf
        )

    def expanded(leaf: Tensor) -> Tensor:
        return again(leaf[:1].expand_as(leaf), leaf)

    for how in (batch_major, every_other, expanded):
        with says(how.__name__):
            x = pytree.tree_map(how, inputs.x)
            other = expanded if how is expanded else every_other
            rest = [None if tree is None else pytree.tree_map(other, tree) for tree in inputs[1:]]
            assert_matches(run, cell, twin, Inputs(x, *rest), ("reset", "initial"))


def assert_sequence_of_shapes(case: Case, backend: str | None) -> None:
    """Another batch size and another T afterwards, longer and shorter, in one scan."""
    cell, run = run_of(case, backend)
    twin = case.cell()
    for steps, rows in ((3, 2), (5, 11), (1, 1), (2, 33), (11, 3), (3, 2)):
        with says(f"T={steps}, B={rows}"):
            assert_matches(run, cell, twin, case.inputs(steps, rows), ("lengths",))


def assert_attribute_is_guarded(case: Case, backend: str | None) -> None:
    """A plain attribute that changes afterwards is seen, and so is its way back."""
    cell, run = run_of(case, backend)
    twin = case.cell()
    if not hasattr(cell, "gain"):
        pytest.skip("no plain attribute")
    first = cell.gain
    for gain in (first, first * 0.5, first * 0.25, first):
        cell.gain = twin.gain = gain
        assert_matches(run, cell, twin, case.inputs(3, B))


def assert_parameters_are_live(case: Case, backend: str | None) -> None:
    """Parameters changed by every means between calls: in place, through .data, by load_state_dict, replaced."""
    cell, run = run_of(case, backend)
    twin = case.cell()
    if not isinstance(cell, nn.Module) or not list(cell.parameters()):
        pytest.skip("no parameters")
    parametrized = hasattr(nn.utils.parametrize, "is_parametrized") and any(
        nn.utils.parametrize.is_parametrized(m) for m in cell.modules()
    )
    for how in (
        nothing,
        data_in_place,
        data_assigned,
        no_grad_in_place,
        loaded,
        optimised,
        replaced,
        doubled,
    ):
        if how is replaced and parametrized:
            continue
        with says(how.__name__):
            for module in (cell, twin):
                how(module)
            dtype = torch.float32 if how is doubled else torch.float64
            assert_matches(run, cell, twin, case.inputs(3, B, dtype), ("lengths",))


def assert_copies_are_apart(case: Case, backend: str | None) -> None:
    """A deep copy after a first call is right, and changing one leaves the other alone."""
    cell, run = run_of(case, backend)
    twin = case.cell()
    assert_matches(run, cell, twin, case.inputs(3, B))
    other, other_scan = copy.deepcopy((cell, run.scan))
    scale(other, 0.5), scale(twin, 0.5)
    assert_matches(Run(other_scan), other, twin, case.inputs(3, B))
    assert_matches(run, cell, case.cell(), case.inputs(3, B))


def assert_pickles(case: Case, backend: str | None) -> None:
    """Pickled after a first call, with the scan over it."""
    cell, run = run_of(case, backend)
    run(*case.inputs(3, B)[:2], context=case.inputs(3, B).context)
    other, scan = pickle.loads(pickle.dumps((cell, run.scan)))
    assert_matches(Run(scan), other, case.cell(), case.inputs(3, B))


def assert_module_untouched(case: Case, backend: str | None) -> None:
    """The first call, with its trace and its verification, leaves the module and all random states bit-identical."""
    cell, run = run_of(case, backend)
    inputs = case.inputs(T, B)
    before = snapshot(cell)
    result = run(inputs.x, inputs.state, context=inputs.context)
    assert_untouched(cell, before)
    loss_of(named_leaves(result, ("y", "state"))).backward()
    if isinstance(cell, nn.Module):
        cell.zero_grad(set_to_none=True)
    assert_untouched(cell, before)


def assert_grad_accumulates(case: Case, backend: str | None) -> None:
    """Two calls before any backward, backward twice, and .grad that adds up."""
    cell, run = run_of(case, backend)
    twin, first, second = case.cell(), case.inputs(T, B), case.inputs(4, 3, seed=2)
    expected: dict[str, Tensor] = {}
    for inputs in (first, second, second):
        for name, gradient in expected_outcome(
            twin, inputs, {"context": inputs.context}, ("y", "state")
        ).gradients.items():
            if name.startswith("parameter"):
                expected[name] = expected.get(name, 0) + gradient
    one, two = (run(i.x, i.state, context=i.context) for i in (first, second))
    loss = loss_of(named_leaves(two, ("y", "state")))
    loss.backward(retain_graph=True)
    loss_of(named_leaves(one, ("y", "state"))).backward()
    loss.backward()
    for name, p in tensors_of(cell).items():
        grad = torch.zeros_like(p) if p.grad is None else p.grad
        assert_near(grad, expected[name], gradient=True, what=f"grad of {name}")


def assert_changes_before_backward(case: Case, backend: str | None) -> None:
    """Parameters, inputs or results changed in place before the backward: an error, or the right gradient."""
    twin, same = case.cell(), case.inputs(T, B)
    expected = expected_outcome(twin, same, {"context": same.context})
    for what in ("parameters", "x", "results"):
        cell, run = run_of(case, backend)
        inputs = case.inputs(T, B)
        result = run(inputs.x, inputs.state, context=inputs.context, return_states=True)
        values = named_leaves(result, EVERYWHERE)
        loss = loss_of(values)
        leaves = leaves_of(inputs, cell)
        changed = {
            "parameters": list(tensors_of(cell).values()),
            "x": [leaf for leaf in pytree.tree_leaves(inputs.x) if leaf.requires_grad],
            "results": [v for v in values.values() if v.requires_grad],
        }[what]
        with torch.no_grad():
            for tensor in changed:
                tensor.mul_(1.5)
        try:
            found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        except RuntimeError as error:
            assert "inplace" in str(error), error
            continue
        for (name, leaf), g in zip(leaves.items(), found, strict=True):
            actual = torch.zeros_like(leaf) if g is None else g
            assert_near(
                actual, expected.gradients[name], gradient=True, what=f"{what} changed: gradient of {name}"
            )


_REFUSES = re.compile(r"double|second|twice|create_graph|forward.mode|forward AD|jvp", re.IGNORECASE)
_REFUSALS = (EngineError, NotImplementedError, RuntimeError)


def assert_second_derivative(case: Case, backend: str | None) -> None:
    """create_graph: the second derivative is right, or refused by name; never zero instead."""
    cell, run = run_of(case, backend)
    twin, inputs = case.cell(), case.inputs(3, 2)
    leaves = leaves_of(inputs._replace(initial=None), cell)
    mates = leaves_of(inputs._replace(initial=None), twin)
    expected = _second(unfold(twin, inputs.x, inputs.state, context=inputs.context), mates)
    try:
        actual = _second(run(inputs.x, inputs.state, context=inputs.context, return_states=True), leaves)
    except _REFUSALS as error:
        assert _REFUSES.search(str(error)), error
        return
    for name, gradient in expected.items():
        assert_near(actual[name], gradient, gradient=True, what=f"second derivative by {name}")


def _second(result: Any, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    first = torch.autograd.grad(
        loss_of(named_leaves(result, EVERYWHERE)), list(leaves.values()), create_graph=True, allow_unused=True
    )
    squares = [(g * g * (1 + k)).sum() for k, g in enumerate(first) if g is not None and g.requires_grad]
    if not squares:
        return {}
    found = torch.autograd.grad(torch.stack(squares).sum(), list(leaves.values()), allow_unused=True)
    return {
        k: torch.zeros_like(p) if g is None else g for (k, p), g in zip(leaves.items(), found, strict=True)
    }


def assert_forward_mode(case: Case, backend: str | None) -> None:
    """A forward-mode tangent in x: right, or refused by name."""
    _, run = run_of(case, backend)
    twin, inputs = case.cell(), case.inputs(4, 3)
    floats = [leaf.detach() for leaf in pytree.tree_leaves(inputs.x) if leaf.is_floating_point()]
    if not floats:
        pytest.skip("no real input")
    tangents = tuple(torch.randn_like(leaf) for leaf in floats)

    def over(unfolding: Any) -> Any:
        def function(*values: Tensor) -> tuple[Tensor, ...]:
            filling = iter(values)
            x = pytree.tree_map(lambda v: next(filling) if v.is_floating_point() else v, inputs.x)
            result = unfolding(x, pytree.tree_map(lambda v: v.detach(), inputs.state), context=inputs.context)
            return tuple(v for v in named_leaves(result, ("y", "state")).values() if v.is_floating_point())

        return torch.func.jvp(function, tuple(floats), tangents)[1]

    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # torch's own, at the first use of forward mode
            expected = over(lambda *args, **options: unfold(twin, *args, **options))
    except RuntimeError:
        pytest.skip("the step itself has no forward mode")
    try:
        actual = over(run)
    except _REFUSALS as error:
        assert _REFUSES.search(str(error)), error
        return
    for a, e in zip(actual, expected, strict=True):
        assert_near(a, e, gradient=True, what="tangent")


def assert_threads_agree(case: Case, backend: str | None) -> None:
    """One thread and two give the same within the table."""
    cell, run = run_of(case, backend)
    outcomes = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        inputs = case.inputs(5, 23)
        outcomes.append(actual_outcome(run, cell, inputs, options_of(("lengths", "reset"), inputs, 5, 23)))
    assert_outcomes_agree(outcomes[1], outcomes[0])
    assert_matches(run, cell, case.cell(), case.inputs(5, 23), ("lengths", "reset"))


def assert_function_with_owner(case: Case, backend: str | None) -> None:
    """The step given as a function, its module as the owner."""
    cell, twin = case.cell(), case.cell()
    run = Run(Scan(lambda *args: cell(*args), owner=cell, backend=backend))
    assert_matches(run, cell, twin, case.inputs(T, B), ("lengths",))
    scale(cell, 0.5), scale(twin, 0.5)
    assert_matches(run, cell, twin, case.inputs(T, B), ("reverse",))


QUICK = (
    assert_gradient_of_each_part,
    assert_chunks_make_the_whole,
    assert_without_grad,
    assert_autocast,
    assert_frozen_then_thawed,
    assert_attribute_is_guarded,
    assert_parameters_are_live,
    assert_copies_are_apart,
)
SLOW = (
    assert_right,
    assert_float32,
    assert_loop_agrees,
    assert_no_rows,
    assert_gradient_to_each_leaf,
    assert_gradcheck,
    assert_truncated,
    assert_modes,
    assert_strided_inputs,
    assert_sequence_of_shapes,
    assert_pickles,
    assert_module_untouched,
    assert_grad_accumulates,
    assert_changes_before_backward,
    assert_second_derivative,
    assert_forward_mode,
    assert_threads_agree,
    assert_function_with_owner,
)


__all__ = ["CALLS", "QUICK", "SLOW", "assert_right_soon"]
