"""The model of a run as an ONNX file, held to the model; and files in eight bits, judged by the task's own measure."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import elman
from elman.config import UserError, build, require

if TYPE_CHECKING:
    from elman.tasks.base import Trained
    from elman.training.score import Score

__all__ = ["frozen_int8", "write_int8", "write_onnx"]


def write_onnx(trained: Trained, path: Path) -> None:
    """Write the file, and on standard error how near it is."""
    _check()
    _write(trained, path)


def write_int8(trained: Trained, path: Path) -> None:
    """The same with weights in int8. Standard error, and the file: what the task measures on the validation data,
    before and after. UserError where there are none."""
    _check()
    from elman.onnx.quantizing import QUANTIZED

    before = _measured(trained)
    whole = path.with_name(f".{path.name}.float")
    try:
        _write(trained, whole, nodes=QUANTIZED)
        _write_quantized(trained, whole, path, before)
    finally:
        whole.unlink(missing_ok=True)


def _write_quantized(trained: Trained, whole: Path, path: Path, before: Score) -> None:
    from elman.onnx.answering import answered_by
    from elman.onnx.quantizing import describe, quantize

    quantize(whole, path)
    with answered_by(trained.model, path):
        after = _measured(trained)
    describe(path, _judgement(before, after))
    _tell(before, after, whole.stat().st_size, path.stat().st_size)


def frozen_int8(trained: Trained, texts: Mapping[str, str]) -> bytes:
    """A frozen file (docs/export.md) with weights in int8. Standard error, and the file: what the task measures on the
    validation data, before and after. UserError where there are none."""
    from elman.frozen import frozen_bytes, in_eight_bits

    example = trained.task.example(trained)
    before, whole = _measured(trained), frozen_bytes(trained.model, texts=texts, example=example)
    with in_eight_bits(trained.model):
        after = _measured(trained)
    told = {**texts, **_judgement(before, after)}
    found = frozen_bytes(trained.model, texts=told, example=example, int8=True)
    _tell(before, after, len(whole), len(found))
    return found


def _judgement(before: Score, after: Score) -> dict[str, str]:
    return {"measured on": "valid", "before int8": str(before), "after int8": str(after)}


def _tell(before: Score, after: Score, whole: int, small: int) -> None:
    sizes = f"{whole / 1e6:.2f} to {small / 1e6:.2f} MB"
    sys.stderr.write(f"int8 on the validation data: {after}, before {before}; {sizes}\n")


def _check() -> None:
    for package in ("onnx_ir", "onnxscript", "onnxruntime", "onnx"):
        require(package, extra="onnx", what="--to onnx")


def _write(trained: Trained, path: Path, **options: Any) -> None:
    from elman.onnx.export import exported

    texts = {"made by": f"elman {elman.__version__}", **trained.task.says(trained)}
    model = trained.model.eval()
    held = exported(model, path, metadata=texts, verify=True, **_call(trained), **options)
    apart = ", ".join(f"{name} {most:.1e}" for name, most in held.apart.items())
    sys.stderr.write(f"by onnxruntime, beside the model, at most so far apart: {apart}\n")


def _call(trained: Trained) -> Mapping[str, Any]:
    """What the file takes beside x. UserError for a network that has no such form."""
    from elman.nn import LanguageModel, SequenceClassifier, Tagger

    model = trained.model
    if isinstance(model, SequenceClassifier | LanguageModel):
        return {}
    if isinstance(model, Tagger):
        both = bool(getattr(model.recurrent, "bidirectional", False))
        return {"lengths": True, "state": not both}
    raise UserError(
        f"{trained.run.path}: a {type(model).__name__} has no form in ONNX yet; docs/onnx.md says what has"
    )


def _measured(trained: Trained) -> Score:
    """What `elman evaluate --part valid` finds."""
    if trained.prepared.part("valid") is None:
        raise UserError(
            f"--int8 is judged on the validation data, and {trained.run.path} has none; leave it out, or train with "
            f"--valid"
        )
    flags: Any = build(trained.task.verbs()["evaluate"].settings, {"part": "valid"})
    return trained.measured(flags)
