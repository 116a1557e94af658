"""A recurrent layer inside a larger graph: torch's exporter meets `elman::scan`, and this says what it is in ONNX."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import onnx_ir as ir

from elman.engine.opaque import count_results, scan_op
from elman.engine.printing import live
from elman.engine.program import Program, parse
from elman.engine.surroundings import allow_translation
from elman.onnx.graph import Handle, Refused, Scope
from elman.onnx.unfold import Call, unfold

__all__ = ["translations"]

_calls = itertools.count()


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What `torch.onnx.export(..., dynamo=True, custom_translation_table=elman.onnx.translations())` needs to write a model
    that holds recurrent layers of Elman."""
    allow_translation()
    import torch

    return {torch.ops.elman.scan.default: translate_scan}


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
        raise Refused(f"this release of torch writes graphs by {type(recorder).__name__}, which is not known here")
    traced = _program(program)
    scope = Scope(f"elman/{next(_calls)}/")
    results = _write(scope, traced, list(inputs), history, reverse, lengths, reset)
    recorder.nodes.extend(scope.nodes)
    outs = [recorder.opset.Identity(h) for h in results]
    missing = recorder.opset.Identity(results[0])
    # What a backward would read is part of the operator, and of no use here.
    return outs + [missing] * (count_of(program, history) - len(outs))


def count_of(program: str, history: bool) -> int:
    """All outputs of the operator."""
    from elman.engine.opaque import _stored

    return count_results(_program(program), history) + len(_stored(program))


def _write(
    scope: Scope, program: Program, inputs: list[Handle], history: bool, reverse: bool, lengths: Handle | None,
    reset: Handle | None,
) -> list[Handle]:  # fmt: skip
    counts = (len(program.x), len(program.s), len(program.s), len(program.c), len(program.p))
    parts = []
    for n in counts:
        parts.append(inputs[:n])
        inputs = inputs[n:]
    x, state, initial, context, read = parts
    scope.values.update({v.name: h for v, h in zip(program.p, read, strict=True)})
    call = Call(x, state, initial, context, lengths, reset, reverse, history)
    results = unfold(scope, program, call)
    return [*results.y, *results.final, *results.states]
