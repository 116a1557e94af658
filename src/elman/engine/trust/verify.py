"""A program is believed only after it has been seen to agree with the plain loop, values and all gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from elman.engine.call.inputs import Inputs, Manner, sample, small
from elman.engine.call.run import Plan, run_plan
from elman.engine.call.substituted import Substituted
from elman.engine.errors import NotSupported
from elman.engine.program.draws import DISTRIBUTIONS
from elman.engine.program.program import Program
from elman.engine.structure import ScanResult, flatten
from elman.engine.tracing.trace import Sample, gradients
from elman.engine.trust.perturb import LEVELS, Reads, moved, moved_inputs

__all__ = ["Execute", "FixedDraws", "verify", "verify_case", "verify_size"]

_TOLERANCE = {torch.float64: 1e-7, torch.float32: 2e-3, torch.bfloat16: 0.15, torch.float16: 3e-2}
_OURS = (
    "leave the cell as it is: the engine is at fault, or the step gives another result at each call; backend='loop' "
    "says that the loop is meant"
)
Found = tuple[list[Tensor], list[Tensor | None]]  # results, gradients
# A call: the plan, the tensors in the place of those that the step reads, the inputs.
Execute = Callable[[Plan, Sequence[Tensor], Inputs], ScanResult]


class FixedDraws(TorchDispatchMode):
    """Random operations give numbers that depend on the feature alone, so that two ways to draw them can be
    compared."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        drawn = DISTRIBUTIONS.get(func._schema.name.removeprefix("aten::").rstrip("_"))
        if not drawn:
            return func(*args, **kwargs)
        out = func(*args, **kwargs)
        u = _pattern(out)
        asked = _arguments(func, args, kwargs)
        if drawn == "bernoulli":
            u = u < asked.get("p", args[0])  # without a p the tensor holds the chances
        elif drawn == "normal":
            u = torch.erfinv(2 * u.clamp(1e-3, 1 - 1e-3) - 1) * asked.get("std", 1) + asked.get("mean", 0)
        elif drawn == "exponential":
            u = -torch.log1p(-u) / asked.get("lambd", 1)
        else:
            low, high = asked.get("from", 0), asked.get("to", 1)
            u = low + (high - low) * u
        out.copy_(u.to(out.dtype))
        return out


def _arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, those that were left out too."""
    named = {
        a.name: args[i] if i < len(args) else kwargs.get(a.name, a.default_value)
        for i, a in enumerate(func._schema.arguments)
    }
    return {name: value for name, value in named.items() if value is not None}


def _pattern(like: Tensor) -> Tensor:
    """Numbers in [0, 1), the same for each row."""
    n = max(like[0].numel(), 1) if like.dim() and like.shape[0] else 1
    u = torch.frac(torch.arange(1, n + 1, device=like.device, dtype=torch.float64) * 0.6180339887)
    return u.reshape(like.shape[1:] if like.dim() else ()).expand(like.shape)


def assert_close(
    got: Sequence[Tensor | None], expected: Sequence[Tensor | None], what: str, tolerance: float
) -> None:
    """Raise NotSupported where the program and the plain loop differ by more than rounding."""
    got, expected = ([_real(t) for t in side] for side in (got, expected))
    sizes = [0.0 if b is None or not b.is_floating_point() else _largest(b) for b in expected]
    # what is 0 but for rounding has no size of its own
    floor = max(1e-3, 0.05 * max(sizes, default=0.0) if tolerance > 0.01 else 0.0)
    for a, b, size in zip(got, expected, sizes, strict=True):
        if a is None and b is None:
            continue
        a = torch.zeros_like(b) if a is None and b is not None else a
        b = torch.zeros_like(a) if b is None and a is not None else b
        assert a is not None and b is not None
        if a.shape != b.shape:
            raise NotSupported(
                f"verification found another shape in {what}: {tuple(a.shape)}, not {tuple(b.shape)}",
                hint=_OURS,
            )
        if not _is_close(a.detach(), b.detach(), tolerance, tolerance * max(size, floor)):
            raise NotSupported(
                f"verification against the plain loop found another value in {what}", hint=_OURS
            )


def _real(t: Tensor | None) -> Tensor | None:
    return torch.view_as_real(t.detach().resolve_conj()) if t is not None and t.is_complex() else t


def _is_close(a: Tensor, b: Tensor, relative: float, absolute: float) -> bool:
    if not a.dtype.is_floating_point:
        return bool(torch.equal(a, b.to(a.dtype)))
    if not a.numel() or bool((a - b).abs().max() <= absolute):  # not so where something is infinite or NaN
        return True
    return torch.allclose(a.double(), b.double(), rtol=relative, atol=absolute, equal_nan=True)


def _largest(t: Tensor) -> float:
    """Of the finite values."""
    if not t.numel():
        return 0.0
    largest = float(t.detach().abs().max())
    return largest if math.isfinite(largest) else float(t.detach().abs().nan_to_num(0, 0, 0).max())


def assert_row_wise(step: Callable[..., Any], sample: Sample, tolerance: float) -> None:
    """step(x[i], s[i]) == step(x, s)[i] for an unordered list of rows with a repeat."""
    n = sample.s[0].shape[0]
    index = torch.tensor([n - 1, 0, n - 1, *range(1, n - 1), 0], device=sample.s[0].device)

    def take(tensors: list[Tensor]) -> list[Tensor]:
        return [t.detach().index_select(0, index) for t in tensors]

    some = Sample(take(sample.x), take(sample.s), take(sample.c), sample.x_spec, sample.s_spec, sample.c_spec)
    with torch.no_grad(), FixedDraws():
        y, ns, _ = sample.call(step)
        y_some, ns_some, _ = some.call(step)
    try:
        assert_close(
            [*y_some, *ns_some], [t.index_select(0, index) for t in (*y, *ns)], "a row on its own", tolerance
        )
    except (NotSupported, IndexError) as error:
        raise NotSupported(
            "a row's result depends on the other rows of the batch", hint="write the step row by row"
        ) from error


def verify(
    step: Callable[..., Any], plan: Plan, p: Sequence[Tensor], given: Inputs, dtypes: Sequence[torch.dtype],
    manner: Manner, run: Execute,
) -> None:  # fmt: skip
    """Whoever carries out calls of a manner, beside the plain loop: three steps at two batch sizes, values and all
    gradients, on copies of the call's first rows; then on other values of everything, parameters and buffers too.
    In the first manner, rows on their own before that.

    Raises NotSupported where they differ.
    """
    grad = plan.needs.any
    tolerance = max(_TOLERANCE.get(d, 0.0) for d in _dtypes(plan.program))
    torch.manual_seed(7)
    try:
        with torch.set_grad_enabled(grad):
            if not plan.seen:
                assert_row_wise(step, sample(given, 4, dtypes, grad=False), tolerance)
            for rows in (2, 3):
                few = small(given, 3, rows, dtypes, grad, manner)
                with FixedDraws():
                    expected = _evaluate(partial(few.loop, step), few, p, grad)
                    got = _evaluate(partial(run, plan, p, few), few, p, grad)
                assert_agree(got, expected, tolerance)
            _verify_moved(step, plan, p, few, tolerance, run, expected)
    except NotSupported:
        raise
    except Exception as error:
        raise NotSupported(
            f"the program failed its verification: {type(error).__name__}: {error}", hint=_OURS
        ) from error


def assert_agree(got: Found, expected: Found, tolerance: float) -> None:
    """Raise NotSupported where values or gradients differ by more than rounding."""
    assert_close(got[0], expected[0], "y or a state", tolerance)
    assert_close(got[1], expected[1], "a gradient", tolerance)


def _verify_moved(
    step: Callable[..., Any],
    plan: Plan,
    p: Sequence[Tensor],
    few: Inputs,
    tolerance: float,
    run: Execute,
    known: Found,
) -> None:
    """Twice at most: what is no smooth function may leap where two ways of rounding differ, but not at each try."""
    grad = plan.needs.any
    for last in (False, True):
        case = _moved_case(step, p, few, grad, _is_finite(known))
        if case is None:
            return
        q, other, expected = case
        with FixedDraws():
            got = _evaluate(partial(run, plan, q, other), other, q, grad)
        try:
            assert_agree(got, expected, tolerance)
        except NotSupported as error:
            if last:
                raise NotSupported(f"{error.reason}, on other values than those given", hint=_OURS) from error
        else:
            return


def _moved_case(
    step: Callable[..., Any], p: Sequence[Tensor], few: Inputs, grad: bool, finite: bool
) -> tuple[list[Tensor], Inputs, Found] | None:
    """Other values of the tensors that the step reads and of a call, and what the plain loop makes of them; as far from
    the given ones as it takes without an error, and without infinities or NaN where there were none. Or None."""
    for level in range(LEVELS):
        q, other = [moved(t, level) for t in p], moved_inputs(few, level)
        for _ in range(2):
            reads = Reads([t for t, o in zip(p, q, strict=True) if o is not t])
            try:
                with FixedDraws(), reads, Substituted(p, q):
                    expected = _evaluate(partial(other.loop, step), other, q, grad, instead_of=p)
            except Exception:  # noqa: BLE001 - values that the step does not take
                break
            if not reads.found:
                if _is_finite(expected) or not finite:
                    return q, other, expected
                break
            q = [t if id(t) in reads.found else o for t, o in zip(p, q, strict=True)]
    return None


def _is_finite(found: Found) -> bool:
    return all(bool(t.isfinite().all()) for part in found for t in part if t is not None)


def verify_size(step: Callable[..., Any], plan: Plan, p: Sequence[Tensor], given: Inputs) -> None:
    """One step with as many rows as the call has: a step that decides by their number in a way that the trace could not
    see shows here. Raises NotSupported where it does."""
    few = small(given, 1, given.B, [v.dtype for v in plan.program.s], grad=False, manner=Manner(apart=True))
    tolerance = max(_TOLERANCE.get(d, 0.0) for d in _dtypes(plan.program))
    with torch.no_grad(), FixedDraws():
        expected, _ = _evaluate(partial(few.loop, step), few, p, grad=False)
        got, _ = _evaluate(partial(run_plan, step, plan.for_inference(), p, few), few, p, grad=False)
    try:
        assert_close(got, expected, "y or a state", tolerance)
    except NotSupported as error:
        raise NotSupported(
            f"with {given.B} rows the step does something else than with fewer", op="size",
            hint="let the step do the same for any number of rows",
        ) from error  # fmt: skip


def verify_case(
    step: Callable[..., Any],
    plan: Plan,
    p: Sequence[Tensor],
    given: Inputs,
    dtypes: Sequence[torch.dtype],
    rows: int,
) -> None:
    """Two steps, with so many rows, of a plan that was verified at other sizes beside T and B: values and all
    gradients. Raises NotSupported where they differ from the plain loop."""
    grad = plan.needs.any
    tolerance = max(_TOLERANCE.get(d, 0.0) for d in _dtypes(plan.program))
    with torch.set_grad_enabled(grad), FixedDraws() if plan.random else nullcontext():
        few = small(given, 2, rows, dtypes, grad, Manner())
        expected = _evaluate(partial(few.loop, step), few, p, grad)
        got = _evaluate(partial(run_plan, step, plan, p, few), few, p, grad)
    assert_agree(got, expected, tolerance)


def _dtypes(program: Program) -> set[torch.dtype]:
    """All dtypes that a step computes in (autocast: bfloat16 inside, float32 outside)."""
    made = {o.dtype for section in program.sections.values() for n in section.nodes for o in n.outs}
    return made | {v.dtype for v in (*program.s, *program.x)}


def _evaluate(
    call: Callable[[], ScanResult],
    few: Inputs,
    p: Sequence[Tensor],
    grad: bool,
    instead_of: Sequence[Tensor] = (),
) -> Found:
    """Results and gradients of a call, for one fixed set of gradients that come in. instead_of: the tensors in whose
    place `p` are read; a custom gradient of the user's may still find its way to these."""
    result = call()
    outs = [t for part in result if part is not None for t in flatten(part)[0]]
    apart = [] if few.initial is few.s else few.initial
    inputs = [t for t in (*few.x, *few.s, *apart, *few.c, *p) if t.requires_grad]
    given = [o for o in outs if o.requires_grad]
    if not grad or not inputs:
        return outs, []
    if not given:
        return outs, [None] * len(inputs)
    weights = [
        torch.cos(torch.arange(o.numel(), device=o.device)).to(o.dtype).reshape(o.shape) for o in given
    ]
    originals = [t for t, o in zip(instead_of, p, strict=True) if t.requires_grad] if instead_of else []
    found = gradients(given, [*inputs, *originals], weights)
    grads, rest = found[: len(inputs)], found[len(inputs) :]
    for i, g in enumerate(rest, start=len(inputs) - len(rest)):
        known = grads[i]
        grads[i] = known if g is None else g if known is None else known + g
    return outs, grads
