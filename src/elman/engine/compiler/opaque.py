"""A whole sequence as one operator that a compiler sees from outside: `elman::scan` and `elman::scan_backward`.

torch.compile and torch.export know these by their shapes alone (fake kernels) and by which is the gradient of which.
They take the Program as its text, so an exported model runs in a process that never saw the cell. How many rows a call
has may depend on data (lengths); what the forward keeps for the backward is therefore padded to all T·B rows.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from elman.engine.backends import choose_loops
from elman.engine.call.roles import Counts
from elman.engine.call.run import Plan, as_bases, autocast_off, run_backward, run_forward
from elman.engine.errors import EngineError
from elman.engine.lowering.lower import Needs
from elman.engine.program.execute import Environment, kind, run_section
from elman.engine.program.flops import BACKWARD, FORWARD, flops
from elman.engine.program.ops import is_random
from elman.engine.program.program import Graph, Program, Rows, Value, parse
from elman.engine.program.rows import Layout, layout
from elman.engine.structure import flatten

__all__ = ["count_outputs", "count_results", "scan_op"]

_REPEATED = ("static", "context")  # sections that the backward runs once more: they are small


@lru_cache(maxsize=256)
def _program(text: str) -> Program:
    return parse(text)


@lru_cache(maxsize=256)
def _plan(text: str, backend: str, device: str) -> Plan:
    """The plan of a program in this process; backend "" is the fastest that can."""
    program = _program(text)
    loops, reason = choose_loops(program, backend or None, torch.device(device))
    graph = Graph(
        gy=program.gy, gs=program.gs, y_spec=flatten(0)[1]
    )  # only how results are put together is unknown
    return Plan.of(program, loops, graph, needs=Needs(s=bool(program.ds)), reason=reason)


atexit.register(_plan.cache_clear)  # the core's kernels go before the core does


def count_results(program: Program, history: bool) -> int:
    """How many of the operator's outputs are results: y, the final state and, where wanted, all states."""
    return len(program.y) + len(program.s) * (2 if history else 1)


def count_outputs(text: str, history: bool) -> int:
    """How many outputs the operator has, those for a backward among them."""
    return count_results(_program(text), history) + len(_stored(text))


@lru_cache(maxsize=256)
def _stored(text: str) -> list[Value]:
    """What the forward hands to the backward beside its inputs and what follows quickly from these."""
    program = _program(text)
    repeated = [program.sections[name] for name in _REPEATED]
    again = {v.name for role in ("x", "c", "p") for v in getattr(program, role)}
    if not any(is_random(node) for section in repeated for node in section.nodes):
        again |= {v.name for section in repeated for v in section.outs}
    values = {v.name: v for section in program.sections.values() for v in section.outs}
    values |= {v.name: v for v in (*program.ns, *program.s)}
    kept = Plan.of(program, None, Graph(y_spec=flatten(0)[1]), needs=Needs()).kept  # type: ignore[arg-type]
    return [values[name] for name in kept if name not in again]


def _counts(program: Program) -> Counts:
    return Counts(len(program.x), len(program.s), len(program.c), len(program.p))


# ---- shapes, known without running


def _sizes(program: Program, v: Value, T: Any, B: Any) -> list[Any]:
    """The shape of a kept value, with all rows of all steps where it has any."""
    rows = B if kind(program, v) == "context" else T * B
    return [n.factor * rows if isinstance(n, Rows) else n for n in v.shape]


def _features(v: Value) -> list[int]:
    return [n for n in v.shape[1:] if isinstance(n, int)]


def _out_shapes(text: str, history: bool, T: Any, B: Any) -> Iterator[tuple[list[Any], torch.dtype]]:
    program = _program(text)
    for v in program.y:
        yield [T, B, *_features(v)], v.dtype
    for v in program.s:
        yield [B, *_features(v)], v.dtype
    for v in program.ns if history else []:
        yield [T, B, *_features(v)], v.dtype
    for v in _stored(text):
        yield _sizes(program, v, T, B), v.dtype


def _check(program: Program, inputs: Sequence[Tensor], lengths: Tensor | None, reset: Tensor | None) -> None:
    """EngineError where the shapes do not fit each other or the program."""
    x, s, initial, c, p = _counts(program).split(inputs)
    if sum(map(len, (x, s, initial, c, p))) != len(inputs):
        raise EngineError(
            f"elman::scan got {len(inputs)} tensors; expected {sum(map(len, (x, s, initial, c, p)))}"
        )
    T, B = x[0].shape[:2]
    for what, axes, tensors, values in (
        ("x", (T, B), x, program.x), ("state", (B,), s, program.s), ("initial_state", (B,), initial, program.s),
        ("context", (B,), c, program.c),
    ):  # fmt: skip
        for t, v in zip(tensors, values, strict=True):
            if tuple(t.shape) != (*axes, *_features(v)):
                raise EngineError(f"{what} has shape {tuple(t.shape)}; expected {(*axes, *_features(v))}")
    if lengths is not None and tuple(lengths.shape) != (B,):
        raise EngineError(f"lengths has shape {tuple(lengths.shape)}; expected ({B},)")
    if reset is not None and tuple(reset.shape) != (T, B):
        raise EngineError(f"reset has shape {tuple(reset.shape)}; expected (T, B) = {(T, B)}")


# ---- operations, for torch's counter


def _flops(text: str, sections: Sequence[str], x: Tensor, lengths: Tensor | None) -> int:
    T, B = x.shape[:2]
    known = lengths is not None and type(lengths) is Tensor  # else all rows, as in an empty run
    return flops(_program(text), sections, int(lengths.sum()) if known and lengths is not None else T * B, B)


# ---- forward


@torch.library.custom_op("elman::scan", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,))
def scan_op(
    inputs: list[Tensor], program: str, backend: str, history: bool, reverse: bool, lengths: Tensor | None,
    reset: Tensor | None,
) -> list[Tensor]:  # fmt: skip
    """Run a program over whole sequences.

    inputs: leaves of x `(T, B, ...)`, of the state, the initial state and the context `(B, ...)`, then the tensors that
    the step reads. history: give the states of all steps too. Returns y, final state, states, then what
    `elman::scan_backward` takes. Raises EngineError for lengths outside 0..T and shapes that do not fit.
    """
    traced = _program(program)
    _check(traced, inputs, lengths, reset)
    x, s, initial, c, p = _counts(traced).split(inputs)
    rows = _rows(x[0], lengths, reset, reverse)
    if rows is None:
        return _no_rows(program, history, x[0], s)
    plan = _plan(program, backend, str(x[0].device))
    after = list(range(len(s))) if history else []
    with torch.no_grad(), autocast_off(x[0].device):
        ys, finals, states, env = run_forward(plan, rows, x, s, initial, c, p, after)
        kept = [_pad(env[v.name], v, rows) for v in _stored(program)]
        return _own([*ys, *finals, *states, *kept], inputs)


def _rows(x: Tensor, lengths: Tensor | None, reset: Tensor | None, reverse: bool) -> Layout | None:
    """The layout of a call; None where there is no row at all."""
    T, B = x.shape[:2]
    if B == 0:
        return None
    if lengths is not None:
        low, high = int(lengths.min()), int(lengths.max())
        if low < 0 or high > T:
            raise EngineError(f"lengths lie between {low} and {high}; expected 0 to {T}, the steps of x")
        if high == 0:
            return None
    return layout(T, B, lengths, reset, reverse, x.device)


def _no_rows(text: str, history: bool, x: Tensor, s: list[Tensor]) -> list[Tensor]:
    """Zeros, and the state as it was."""
    program = _program(text)
    outs = [x.new_zeros(shape, dtype=dtype) for shape, dtype in _out_shapes(text, history, *x.shape[:2])]
    for i, t in enumerate(s):
        outs[len(program.y) + i].copy_(t)
    return outs


def _pad(t: Tensor, v: Value, rows: Layout) -> Tensor:
    """A value of the packed rows in the memory for all T·B; what lies behind the rows is never read."""
    axis, whole = v.axis, rows.T * rows.B * v.factor
    if axis is None or rows.rows == rows.T * rows.B or t.shape[axis] != rows.rows * v.factor:
        return t
    padded = t.new_zeros([*t.shape[:axis], whole, *t.shape[axis + 1 :]])
    padded.narrow(axis, 0, t.shape[axis]).copy_(t)
    return padded


def _own(outs: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Each result dense, at the start of memory of its own, as the fake kernels say."""
    taken = {t.untyped_storage().data_ptr() for t in inputs if t.numel()}
    own = []
    for o in outs:
        dense = o.contiguous()
        if dense.storage_offset() or dense.untyped_storage().data_ptr() in taken:
            dense = dense.clone(memory_format=torch.contiguous_format)
        taken.add(dense.untyped_storage().data_ptr())
        own.append(dense)
    return as_bases(own)


@scan_op.register_fake
def _scan_fake(
    inputs: list[Tensor], program: str, backend: str, history: bool, reverse: bool, lengths: Tensor | None,
    reset: Tensor | None,
) -> list[Tensor]:  # fmt: skip
    _check(_program(program), inputs, lengths, reset)
    x = inputs[0]
    T, B = x.shape[:2]
    return [x.new_empty(shape, dtype=dtype) for shape, dtype in _out_shapes(program, history, T, B)]


@register_flop_formula(torch.ops.elman.scan, get_raw=True)
def _scan_flops(
    inputs: list[Tensor], program: str, backend: str, history: bool, reverse: bool, lengths: Tensor | None, *_: Any,
    **__: Any,
) -> int:  # fmt: skip
    return _flops(program, FORWARD, inputs[0], lengths)


# ---- backward


@torch.library.custom_op("elman::scan_backward", mutates_args=())
def scan_backward_op(
    grads: list[Tensor], given: list[bool], wanted: list[bool], inputs: list[Tensor], kept: list[Tensor],
    program: str, backend: str, history: bool, reverse: bool, lengths: Tensor | None, reset: Tensor | None,
) -> list[Tensor]:  # fmt: skip
    """Gradients of those inputs that are wanted.

    given: which results have a gradient, in `grads`. kept: what the forward stored.
    """
    traced = _program(program)
    x, s, _, c, p = _counts(traced).split(inputs)
    there = iter(grads)
    table = [next(there) if there_is else None for there_is in given]
    n_y, n_s = len(traced.y), len(s)
    gy, final, ga = table[:n_y], table[n_y : n_y + n_s], table[n_y + n_s :] or [None] * n_s
    rows = _rows(x[0], lengths, reset, reverse)
    with torch.no_grad(), autocast_off(x[0].device):
        if rows is None:
            found: list[Tensor | None] = [*[None] * len(x), *final, *[None] * (n_s + len(c) + len(p))]
        else:
            plan = _plan(program, backend, str(x[0].device))
            env = _environment(plan, rows, program, x, c, p, kept)
            found = [g for part in run_backward(plan, rows, env, gy, final, ga, s) for g in part]
        some = [
            torch.zeros_like(t, memory_format=torch.contiguous_format) if g is None else g.to(t.dtype)
            for t, g, want in zip(inputs, found, wanted, strict=True) if want
        ]  # fmt: skip
        return _own(some, [*inputs, *kept, *grads])


def _environment(
    plan: Plan,
    rows: Layout,
    text: str,
    x: list[Tensor],
    c: list[Tensor],
    p: list[Tensor],
    kept: Sequence[Tensor],
) -> Environment:
    """What the forward has left for the backward: stored, or made again from the inputs."""
    program = plan.program
    env: Environment = {v.name: rows.pack(t) for v, t in zip(program.x, x, strict=True)}
    env.update({v.name: rows.sort(t) for v, t in zip(program.c, c, strict=True)})
    env.update({v.name: t for v, t in zip(program.p, p, strict=True)})
    for name in _REPEATED:
        run_section(program, name, plan.functions, env, rows, plan.loops.compile)
    for v, t in zip(_stored(text), kept, strict=True):
        rowed = v.axis is not None and kind(program, v) != "context"
        env[v.name] = t.narrow(v.axis or 0, 0, rows.rows * v.factor) if rowed else t
    return env


@scan_backward_op.register_fake
def _scan_backward_fake(
    grads: list[Tensor], given: list[bool], wanted: list[bool], inputs: list[Tensor], kept: list[Tensor],
    program: str, backend: str, history: bool, reverse: bool, lengths: Tensor | None, reset: Tensor | None,
) -> list[Tensor]:  # fmt: skip
    return [t.new_empty(t.shape) for t, want in zip(inputs, wanted, strict=True) if want]


@register_flop_formula(torch.ops.elman.scan_backward, get_raw=True)
def _scan_backward_flops(
    grads: list[Tensor], given: list[bool], wanted: list[bool], inputs: list[Tensor], kept: list[Tensor],
    program: str, backend: str, history: bool, reverse: bool, lengths: Tensor | None, *_: Any, **__: Any,
) -> int:  # fmt: skip
    return _flops(program, (*_REPEATED, *BACKWARD), inputs[0], lengths)


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    tensors, ctx.program, ctx.backend, ctx.history, ctx.reverse, lengths, reset = inputs
    ctx.count, ctx.results = len(tensors), count_results(_program(ctx.program), ctx.history)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(lengths, reset, *tensors, *output[ctx.results :])


def _differentiate(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    if not _program(ctx.program).ds:
        raise EngineError(
            "elman::scan was traced without gradients (under no_grad); trace it anew with gradients"
        )
    lengths, reset, *saved = ctx.saved_tensors
    inputs, kept = list(saved[: ctx.count]), list(saved[ctx.count :])
    results = list(grads[: ctx.results])
    wanted = [
        bool(w) and t.dtype.is_floating_point for w, t in zip(ctx.needs_input_grad[0], inputs, strict=True)
    ]
    there = [g for g in results if g is not None]
    if not there:
        return [None] * len(inputs), None, None, None, None, None, None
    found = iter(
        scan_backward_op(
            there, [g is not None for g in results], wanted, inputs, kept, ctx.program, ctx.backend, ctx.history,
            ctx.reverse, lengths, reset,
        )
    )  # fmt: skip
    return [next(found) if want else None for want in wanted], None, None, None, None, None, None


scan_op.register_autograd(_differentiate, setup_context=_save)
