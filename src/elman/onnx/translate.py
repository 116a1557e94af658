"""A recurrent layer inside a larger graph: torch's exporter meets `elman::scan`, and this says what it is in ONNX."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from elman.engine.call.surroundings import allow_translation
from elman.engine.compiler.opaque import count_outputs, count_results
from elman.engine.errors import EngineError
from elman.engine.printing import folded, without_static
from elman.engine.program.program import Program, parse
from elman.onnx.graph import Handle, Refused, Scope
from elman.onnx.own import KINDS, own_node, recognized
from elman.onnx.unfold import Call, Results, unfold

__all__ = ["known_numbers", "translations"]

_calls: ContextVar[Iterator[int]] = ContextVar("_calls", default=itertools.count())  # noqa: B039 - a counter for all
_numbers: ContextVar[Mapping[str, Tensor] | None] = ContextVar("_numbers", default=None)
_nodes: ContextVar[Collection[str]] = ContextVar("_nodes", default=KINDS)
_refusals: ContextVar[list[EngineError] | None] = ContextVar("_refusals", default=None)


class _Table(dict[Callable[..., Any], Callable[..., Any]]):
    """A dict that weak references may name."""


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The table for `torch.onnx.export(..., dynamo=True, custom_translation_table=elman.onnx.translations())`, which
    writes a model that holds recurrent layers of Elman among other modules. Such layers let themselves be exported as
    long as a table lives."""
    table = _Table({torch.ops.elman.scan.default: translate_scan})
    allow_translation(table)
    return table


@contextmanager
def known_numbers(numbers: Mapping[str, Tensor], nodes: Collection[str]) -> Iterator[list[EngineError]]:
    """Within, the graph's values of these names are these tensors, and what follows from them alone is computed.

    nodes: which of ONNX's own nodes are used. Gives the list of what was refused, which torch's exporter wraps.
    """
    refusals: list[EngineError] = []
    tokens = _numbers.set(numbers), _refusals.set(refusals), _calls.set(itertools.count())
    kinds = _nodes.set(nodes)
    try:
        yield refusals
    finally:
        _nodes.reset(kinds)
        _numbers.reset(tokens[0])
        _refusals.reset(tokens[1])
        _calls.reset(tokens[2])


@lru_cache(maxsize=64)
def _program(text: str) -> Program:
    return parse(text)


def translate_scan(
    inputs: Sequence[Any], program: str, backend: str, history: bool, reverse: bool, lengths: Any = None,
    reset: Any = None,
) -> Any:  # fmt: skip
    """`elman::scan` as nodes of the graph under way."""
    from onnxscript import evaluator

    recorder: Any = evaluator.default()
    if not hasattr(recorder, "nodes") or not hasattr(recorder, "opset"):
        raise Refused(
            f"this release of torch writes graphs by {type(recorder).__name__}, which is not known here"
        )
    scope = Scope(f"elman/{next(_calls.get())}/")
    try:
        made = _write(scope, _program(program), list(inputs), history, reverse, lengths, reset)
    except EngineError as error:
        if (refusals := _refusals.get()) is not None:
            refusals.append(error)
        raise
    recorder.nodes.extend(scope.nodes)
    outs = [recorder.opset.Identity(h) for h in (*made.y, *made.final, *made.states)]
    assert len(outs) == count_results(_program(program), history)
    # What a backward would read is a result of the operator too, and of no use here.
    return [
        *outs,
        *[recorder.opset.Identity(made.final[0]) for _ in range(count_outputs(program, history) - len(outs))],
    ]


def _write(
    scope: Scope, program: Program, inputs: list[Handle], history: bool, reverse: bool, lengths: Handle | None,
    reset: Handle | None,
) -> Results:  # fmt: skip
    parts = []
    for n in (len(program.x), len(program.s), len(program.s), len(program.c), len(program.p)):
        parts.append(inputs[:n])
        inputs = inputs[n:]
    x, state, initial, context, read = parts
    call = Call(x, state, initial, context, lengths, reset, reverse, history)
    numbers = _numbers.get() or {}
    tensors = [numbers[str(h.name)] for h in read] if all(str(h.name) in numbers for h in read) else None
    own = recognized(program) if reset is None and not history else None
    if own is not None and own.kind in _nodes.get():
        return own_node(scope, own, read, tensors, call)
    scope.values.update({v.name: h for v, h in zip(program.p, read, strict=True)})
    if tensors is None:
        return unfold(scope, program, call)
    given = {v.name for v in program.p}
    for v in program.sections["static"].outs:
        if v.name not in given:
            scope.values[v.name] = scope.constant(folded(program, tensors)[v.name], v.dtype)
    return unfold(scope, without_static(program), call)
