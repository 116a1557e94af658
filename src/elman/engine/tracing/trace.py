"""One step of a cell becomes a graph: its operations and those of its gradient, recorded once, below autograd.

The step is run on small real tensors under a dispatch mode that writes down each aten operation, first forward, then
through `torch.autograd.grad`, so custom gradients, `no_grad` blocks and straight-through estimators are what autograd
makes of them. (`make_fx` would do, at twenty times the cost and with a second of imports.) Done at two batch
sizes; what
differs between the two is the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from elman.engine.errors import NotSupported
from elman.engine.program.draws import DISTRIBUTIONS
from elman.engine.program.program import INPUTS, OUTPUTS, READ, Graph
from elman.engine.structure import TreeSpec, flatten, split_output, unflatten
from elman.engine.tracing.complexes import BECOMES, START, Pair
from elman.engine.tracing.lengths import Symbols
from elman.engine.tracing.merge import Run, merge, swap
from elman.engine.tracing.record import Tracer, op_name, record, tensors_in

__all__ = ["Sample", "gradients", "trace"]


# ---- running the step


@dataclass(slots=True)
class Sample:
    """Inputs of a step on a few rows."""

    x: list[Tensor]
    s: list[Tensor]
    c: list[Tensor]
    x_spec: TreeSpec
    s_spec: TreeSpec
    c_spec: TreeSpec | None

    @property
    def rows(self) -> int:
        return self.s[0].shape[0]

    def call(self, step: Callable[..., Any]) -> tuple[list[Any], list[Any], TreeSpec]:
        """The step on this sample: leaves of y, leaves of the next state, the structure of y."""
        context = () if self.c_spec is None else (unflatten(self.c, self.c_spec),)
        out = step(unflatten(self.x, self.x_spec), unflatten(self.s, self.s_spec), *context)
        y, after = split_output(out, self.s_spec)
        leaves, spec = flatten(y)
        return leaves, flatten(after)[0], spec


def trace(
    step: Callable[..., Any],
    samples: tuple[Sample, Sample],
    *,
    grad: bool,
    labels: dict[int, str],
    reached: Any,
    symbols: Symbols | None = None,
) -> Graph:
    """Record `step` (and its gradient where `grad`) at the two batch sizes of `samples` and merge the two.

    symbols: other sizes that differ between the samples.
    Raises NotSupported with the reason where the step is outside the rules.
    """
    found = [_externals(step, sample, labels, reached) for sample in samples]
    if len(found[0]) != len(found[1]) or any(a is not b for a, b in zip(*found, strict=True)):
        raise NotSupported(
            "the step reads tensors that it makes outside torch, or other ones for each batch size"
        )
    _check_ancestry(found[0])
    _check_seeds(step, samples[0], labels)
    runs = [
        _run(step, samples[0], found[0], grad, labels, reached.during),
        _run(step, samples[1], found[0], grad, labels),
    ]
    rows = [sample.rows for sample in samples]
    return merge(runs[0], runs[1], (rows[0], rows[1]), found[0], symbols)


def _externals(
    step: Callable[..., Any], sample: Sample, labels: dict[int, str], reached: Any
) -> list[Tensor]:
    """The tensors that the step reads beside its inputs, in the order of first use."""
    tracer, _ = record(lambda _: reached.during(lambda: sample.call(step)), labels, sample.rows)
    known = {id(t) for t in (*sample.x, *sample.s, *sample.c)}
    found: list[Tensor] = []
    for entry in tracer.records:
        if entry.func is torch.ops.aten.lift_fresh.default:
            known.add(id(entry.args[0]))
        for t in tensors_in((entry.args, entry.kwargs)):
            if id(t) not in known:
                known.add(id(t))
                found.append(t)
        known.update(id(o) for o in entry.outs if isinstance(o, Tensor))
    return found


def _check_seeds(step: Callable[..., Any], sample: Sample, labels: dict[int, str]) -> None:
    """Random numbers that are the same whatever the seed: the step seeds torch itself, each time anew."""

    def draws(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        tracer, _ = record(lambda _: sample.call(step), labels, sample.rows)
        return [
            r.outs[0]
            for r in tracer.records
            if r.func._schema.name.split("::")[1].rstrip("_") in DISTRIBUTIONS
        ]

    first = draws(0)
    if first and any(all(torch.equal(a, draws(seed)[i]) for seed in (1, 2, 3)) for i, a in enumerate(first)):
        raise NotSupported(
            "the step seeds the random numbers itself", op="manual_seed", hint="seed before the call"
        )


def _check_ancestry(externals: list[Tensor]) -> None:
    """A closed-over tensor that was computed from another one would have its gradient counted twice."""
    for t in externals:
        if t.grad_fn is None:
            continue
        others = {id(e) for e in externals if e is not t}
        others_fn = {e.grad_fn for e in externals if e is not t and e.grad_fn is not None}
        seen, todo = set(), [t.grad_fn]
        while todo:
            fn = todo.pop()
            if fn in seen:
                continue
            seen.add(fn)
            if fn in others_fn or id(getattr(fn, "variable", None)) in others:
                raise NotSupported("the step reads a tensor and another one that was computed from it")
            todo += [f for f, _ in fn.next_functions if f is not None]


def _run(
    step: Callable[..., Any],
    sample: Sample,
    externals: list[Tensor],
    grad: bool,
    labels: dict[int, str],
    during: Callable[[Callable[[], Any]], Any] | None = None,
) -> Run:
    roles: dict[str, list[Any]] = {"x": sample.x, "s": sample.s, "c": sample.c, "p": externals}

    def call(_: Tracer) -> TreeSpec:
        y, ns, spec = sample.call(step)
        if any(isinstance(v, Pair) for v in (*y, *ns)):
            raise NotSupported(BECOMES, hint=START)
        if not all(isinstance(v, Tensor) for v in (*y, *ns)):
            raise NotSupported("the step returns something that is no tensor in y or in its state")
        roles["y"], roles["ns"] = y, ns
        if grad:
            differentiate(roles, y, ns)
        return spec

    watched = call if during is None else lambda t: during(lambda: call(t))
    tracer, spec = record(watched, labels, sample.rows)
    if tracer.mutates:
        tracer = _functional(tracer, roles, sample.rows)
    _check_pure(tracer)
    return Run(tracer.records, roles, spec)


def _check_pure(tracer: Tracer) -> None:
    """A graph has no order but that of its values: a write in it would be lost."""
    for entry in tracer.records:
        if entry.func._schema.is_mutable:
            raise NotSupported(
                f"{op_name(entry.func)} writes in place in a way that is not understood"
                + (f" at {entry.source}" if entry.source else ""),
                op=op_name(entry.func), hint="write the values into a new tensor",
            )  # fmt: skip


def differentiate(roles: dict[str, list[Any]], y: list[Tensor], ns: list[Tensor]) -> None:
    """Gradients of all inputs, under the same trace; the gradients that come in are inputs too."""
    with torch.no_grad(), _paused():
        for role, outs in (("gy", y), ("gs", ns)):
            roles[role] = [torch.randn(o.shape, dtype=o.dtype) if o.requires_grad else None for o in outs]
    given = [(o, g) for o, g in zip([*y, *ns], [*roles["gy"], *roles["gs"]], strict=True) if g is not None]
    wanted = [t for role in READ for t in roles[role] if t.requires_grad]
    grads: dict[int, Tensor | None] = {}
    if given and wanted:
        found = gradients([o for o, _ in given], wanted, [g for _, g in given])
        grads = {id(t): g for t, g in zip(wanted, found, strict=True)}
    for role in READ:
        roles[f"d{role}"] = [grads.get(id(t)) for t in roles[role]]


def gradients(
    outs: Sequence[Tensor], inputs: Sequence[Tensor], weights: Sequence[Tensor]
) -> list[Tensor | None]:
    """As `torch.autograd.grad(..., allow_unused=True)`, without its look at the shapes, for which torch loads a system
    of symbolic algebra at first use: .4 s of a first call. No torch function mode sees it: `Substituted` would give it
    other inputs."""
    run = torch.autograd.graph._engine_run_backward
    return list(run(tuple(outs), tuple(weights), False, False, tuple(inputs), True, accumulate_grad=False))


def _paused() -> Any:
    from torch.utils._python_dispatch import _disable_current_modes

    return _disable_current_modes()


def _functional(tracer: Tracer, roles: dict[str, list[Any]], rows: int) -> Tracer:
    """The same computation without writing in place: the records replayed through torch's functionalization."""
    inputs = [t for role in INPUTS for t in roles.get(role, ()) if t is not None]
    outputs = [t for role in OUTPUTS for t in roles.get(role, ()) if t is not None]

    def replay(again: Tracer, *given: Tensor) -> list[Tensor]:
        env = {id(t): g for t, g in zip(inputs, given, strict=True)}
        for entry in tracer.records:
            again.told = (entry.source, entry.word)
            out = entry.func(*swap(entry.args, env), **swap(entry.kwargs, env))
            outs = list(out) if isinstance(out, tuple | list) else [out]
            env.update({id(a): b for a, b in zip(entry.outs, outs, strict=True) if isinstance(a, Tensor)})
        return [env[id(t)] for t in outputs]

    with torch.no_grad():
        detached = [t.detach() for t in inputs]
        again, results = record(
            lambda t: torch.func.functionalize(partial(replay, t))(*detached), {}, rows, writes=False
        )
    for t, d in zip(inputs, detached, strict=True):
        _replace(roles, t, d)
    for t, r in zip(outputs, results, strict=True):
        _replace(roles, t, r)
    return again


def _replace(roles: dict[str, list[Any]], old: Tensor, new: Tensor) -> None:
    for role, tensors in roles.items():
        roles[role] = [new if t is old else t for t in tensors]
