"""Sections run with torch: each becomes one Python function, written out once."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from types import CodeType
from typing import Any

import torch
from torch import Tensor

from elman.engine.program.draws import BY_SIZES
from elman.engine.program.program import Node, Program, Rows, Section, Value, refs
from elman.engine.program.rows import Layout

__all__ = ["Environment", "compile_section", "kind", "operation", "run_section"]

Environment = dict[str, Tensor]
Compiler = Callable[[Section, list[Value]], Callable[..., tuple[Tensor, ...]]]
_TAKES_DEVICE = {"full.default", "elman.constant", "arange.default", "arange.start", "arange.start_step",
                 "linspace.default", "eye.default", "eye.m", *BY_SIZES}  # fmt: skip


def compile_section(
    section: Section, outs: list[Value], sum_of_products: Callable[[Tensor, Tensor], Tensor] = torch.mm
) -> Callable[..., tuple[Tensor, ...]]:
    """`f(R, device, *section.ins) -> outs`, where R is the number of rows; sum_of_products carries out products that
    sum over the rows."""
    names: dict[str, Any] = {"torch": torch}
    last: dict[str, int] = {}
    for i, node in enumerate(section.nodes):
        for v in (*refs(node), *node.outs):
            last[v.name] = i
    kept = {v.name for v in outs}
    lines = [f"def section({', '.join(['R', 'device', *(v.name for v in section.ins)])}):"]
    for i, node in enumerate(section.nodes):
        lines.append(f"    {_statement(node, i, names)}")
        if node.op == "mm.default" and node.outs[0].summed:
            names[f"op{i}"] = sum_of_products
        gone = sorted(n for n, at in last.items() if at == i and n not in kept)
        if gone:
            lines.append(f"    del {', '.join(gone)}")
    lines.append(f"    return ({' '.join(v.name + ',' for v in outs)})")
    exec(_code("\n".join(lines)), names)
    return names["section"]


@functools.lru_cache(maxsize=256)
def _code(text: str) -> CodeType:
    """The same for layers of the same form, and for sizes that the text does not speak of."""
    return compile(text, "<section>", "exec")


def _statement(node: Node, i: int, names: dict[str, Any]) -> str:
    names[f"op{i}"] = operation(node.op)
    args = [_expression(a, i, names) for a in node.args]
    words = [f"{k}={_expression(v, i, names)}" for k, v in node.kwargs.items()]
    if node.op in _TAKES_DEVICE:
        words.append("device=device")
    left = ", ".join(o.name for o in node.outs) + ("," if len(node.outs) > 1 else "")
    return f"{left} = op{i}({', '.join(args + words)})"


def _expression(arg: Any, i: int, names: dict[str, Any]) -> str:
    if isinstance(arg, Value):
        return arg.name
    if isinstance(arg, Rows):
        return "R" if arg.factor == 1 else f"{arg.factor}*R"
    if isinstance(arg, list | tuple):
        return "[" + ", ".join(_expression(a, i, names) for a in arg) + "]"
    if isinstance(arg, torch.dtype):
        return str(arg)
    if isinstance(arg, float) and not math.isfinite(arg):
        return f"float({str(arg)!r})"
    return repr(arg)


def kind(program: Program, v: Value) -> str:
    """How a value is laid out outside a loop: "static", "context" `(B, ...)`, "state" or "row" `(rows, ...)`."""
    if v.axis is None:
        return "static"
    if v in program.s:
        return "state"
    if v in program.c or v in program.sections["context"].outs:
        return "context"
    return "row"


def run_section(
    program: Program, name: str, functions: dict[str, Any], env: Environment, rows: Layout, compiler: Compiler
) -> None:
    """Run a section that is no loop and put what it gives into `env`; `compiler` makes its function."""
    if name not in functions:
        functions[name] = _prepare(program, name, compiler)
    if functions[name] is None:
        return
    f, per_row, ins, outs = functions[name]
    device = next(iter(env.values())).device if env else None
    given = []
    for source, spread in ins:
        t = env[source]
        device = t.device
        given.append(t if spread is None else rows.spread(t, *spread))
    env.update(zip(outs, f(rows.rows if per_row else rows.B, device, *given), strict=True))


def _prepare(program: Program, name: str, compiler: Compiler) -> tuple[Any, ...] | None:
    """What running a section takes: its function, whether it runs on rows, its inputs (and how those that are the same
    at all steps become rows), its outputs; None where it gives nothing."""
    section = program.sections[name]
    if not section.outs:
        return None
    per_row = name not in ("static", "context", "final")
    f = (compiler if per_row else compile_section)(section, section.outs)
    ins = [
        (v.name, (v.axis or 0, v.factor) if per_row and kind(program, v) == "context" else None)
        for v in section.ins
    ]
    return f, per_row, ins, [v.name for v in section.outs]


# ---- how a node is carried out


def _convert(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype)


def _constant(numbers: list[Any], shape: list[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(numbers, dtype=dtype, device=device).reshape(shape)


def _convolution_gradients(*args: Any) -> Any:
    """Those that are asked for, one alone as a tensor."""
    found = [t for t in torch.ops.aten.convolution_backward.default(*args) if t is not None]
    return found[0] if len(found) == 1 else tuple(found)


def _as_real(z: torch.Tensor) -> torch.Tensor:
    """The parts of a complex parameter, which may have become a view that conjugates since it was traced."""
    return torch.view_as_real(z.resolve_conj())


_OWN: dict[str, Callable[..., Any]] = {
    "convolution_backward.default": _convolution_gradients,
    "elman.view": torch.reshape,
    "elman.convert": _convert,
    "elman.constant": _constant,
    "full.default": torch.full,
    "view_as_real.default": _as_real,
}


def operation(op: str) -> Callable[..., Any]:
    """The torch function of an operation's name."""
    if op in _OWN:
        return _OWN[op]
    packet, overload = op.split(".")
    return getattr(getattr(torch.ops.aten, packet), overload)
