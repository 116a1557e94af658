"""A step written down: the code of its kernel and its tensors, from which it can be run without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from elman.engine.backends.views import REG, row_shape
from elman.engine.errors import EngineError, NotSupported
from elman.engine.program.execute import Environment
from elman.engine.program.program import Program, Section, Value
from elman.engine.scan import Scan
from elman.engine.stream import Parts, Stepper

if TYPE_CHECKING:
    from elman.engine.backends.kernel import Kernel

__all__ = ["FrozenCode", "FrozenStep", "freeze", "freeze_rows"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FrozenCode:
    """A kernel: code, and the tensors that it reads.

    registers: their widths. code: one list an instruction, the name of its operation first. commits: see `_core`.
    constants: numbers. vectors: tensors. weights: matrices `(K, N)`, or `(N, K)` where the flag beside it says
    that it is transposed.
    """

    registers: list[int]
    code: list[list[str | int]]
    commits: list[list[int]]
    constants: list[float]
    vectors: list[Tensor]
    weights: list[tuple[Tensor, bool]]


@dataclass(frozen=True, slots=True)
class FrozenStep:
    """A step `(x_t, state[, context]) -> (y_t, state)`.

    ins, outs: which leaf of x each input of the code is, which leaf of y each output. x, y, s, c: the shapes of one row
    of each leaf. contexts: which context each of the code's is: a leaf of c, or, behind these, an output of
    `context_code`, whose own inputs are the leaves `context_ins` of c and whose outputs have the shapes `made`.
    text: the Program. dtype: of all numbers.
    """

    code: FrozenCode
    ins: list[int]
    outs: list[int]
    x: list[Shape]
    y: list[Shape]
    s: list[Shape]
    c: list[Shape]
    contexts: list[int]
    context_code: FrozenCode | None
    context_ins: list[int]
    made: list[Shape]
    text: str
    dtype: torch.dtype


def freeze(scan: Scan, x: Any, state: Any, context: Any = None) -> FrozenStep:
    """The step of a scan, in the mode and with the tensors of the moment.

    x, state, context: examples, leaves `(B, ...)`; their values do not matter to what is written.
    Raises EngineError where the core does not run the step, saying why.
    """
    stepper = Stepper(scan, x, state, context)
    try:
        return _written(stepper.parts())
    except NotSupported as reason:
        raise EngineError(
            f"the step cannot be frozen, because the compiled core does not run it one step at a time: {reason.reason}"
        ) from reason


def freeze_rows(f: Callable[..., Any], *x: Tensor) -> FrozenStep:
    """A function of rows without a state, `f(*x) -> y`, as a step: x are examples `(B, ...)`. Raises as `freeze`."""

    def step(x: tuple[Tensor, ...], state: Tensor) -> tuple[Any, Tensor]:
        return f(*x), state

    return freeze(Scan(step), x, x[0].new_zeros(x[0].shape[0], 1))


def _written(parts: Parts) -> FrozenStep:
    plan, program = parts.plan, parts.plan.program
    c_names = [v.name for v in program.c]
    made = [v for v in program.sections["context"].outs if v.name in parts.kernel.contexts]
    context_code, context_ins = None, []
    if made:
        kernel = _context_kernel(program, made, parts.kernel)
        order = [name for name, _ in kernel.outs]
        made.sort(key=lambda v: order.index(v.name))
        context_code = _code_of(kernel, parts.env)
        context_ins = [c_names.index(name) for name, _ in kernel.ins]
    names = c_names + [v.name for v in made]
    for v in (*program.x, *program.y, *program.s, *program.c):
        if v.axis != 0 or v.factor != 1:
            raise NotSupported("the batch is not the first axis of all that it reads and gives")
    return FrozenStep(
        _code_of(parts.kernel, parts.env), parts.ins, parts.outs, _shapes(program.x), _shapes(program.y),
        _shapes(program.s), _shapes(program.c), [names.index(name) for name in parts.kernel.contexts], context_code,
        context_ins, [row_shape(v) for v in made], str(plan.program), parts.kernel.dtype,
    )  # fmt: skip


def _shapes(values: list[Value]) -> list[Shape]:
    return [row_shape(v)[1:] for v in values]


def _context_kernel(program: Program, made: list[Value], like: Kernel) -> Kernel:
    """What is made of the context once, as a kernel over its rows."""
    kernel = type(like).build(
        Section(nodes=program.sections["context"].nodes), [], [(v.name, v) for v in made], [], like.dtype,
        lambda v: "static" if v.axis is None else "row",
    )  # fmt: skip
    if any(name not in {v.name for v in program.c} for name, _ in kernel.ins):
        raise NotSupported("what it makes of the context reads something else")
    return kernel


def _code_of(kernel: Kernel, env: Environment) -> FrozenCode:
    vectors = [env[v] if isinstance(v, str) else v for v in kernel.vectors]
    return FrozenCode(
        list(kernel.code.widths[REG]), kernel.instructions(), [list(c) for c in kernel.code.commits],
        list(kernel.code.consts), [v.detach().to(kernel.dtype).contiguous().clone() for v in vectors],
        [(env[name].detach().contiguous().clone(), turned) for name, turned in kernel.weights],
    )  # fmt: skip
