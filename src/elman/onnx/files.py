"""Files: written whole or not at all, and held to the module that they came from before they get their name."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from elman.engine.errors import EngineError

__all__ = ["Drawn", "Held", "Run", "beside", "check_folder", "drawn_like", "put", "session", "wanted"]

Run = Callable[[Mapping[str, Any]], Sequence[Any]]
Drawn = tuple[dict[str, Tensor], list[Tensor]]  # inputs by name, and what the module gives for them
_RELATIVE = {torch.float32: 1e-3, torch.float64: 1e-7, torch.float16: 3e-2, torch.bfloat16: 2e-1}
_MOST_FLIPS = 0.01  # of integers and booleans: a comparison of two floats that are equal but for rounding


class Held(NamedTuple):
    """A written file, and by output how far its numbers and the module's are apart at most, absolutely, on the cases
    that it was held to (integers and booleans: the share of other ones)."""

    path: Path
    apart: dict[str, float]


def wanted(verify: bool | None) -> bool:
    """Whether a file is held to its module: by default where onnxruntime is installed."""
    there = importlib.util.find_spec("onnxruntime") is not None
    if verify and not there:
        raise EngineError(
            "verify=True runs the file, for which onnxruntime is needed: pip install 'elman[onnx]'"
        )
    return there if verify is None else verify


def session(path: str | os.PathLike[str]) -> tuple[list[str], Run]:
    """The names of a file's inputs, and how to run it in onnxruntime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    loaded = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    return [v.name for v in loaded.get_inputs()], lambda feed: loaded.run(None, dict(feed))


def drawn_like(t: Tensor, shape: Sequence[int]) -> Tensor:
    """A tensor of this shape whose elements are drawn from those of `t`: indices and masks stay within their range."""
    t = t.detach().cpu().reshape(-1)
    if not t.numel():
        return t.new_zeros(tuple(shape))
    places = torch.randint(t.numel(), tuple(shape), generator=torch.Generator().manual_seed(t.numel()))
    picked = t[places]
    return picked + 0.1 * torch.randn(picked.shape).to(picked) if picked.is_floating_point() else picked


def check_folder(path: str | os.PathLike[str]) -> Path:
    """The path of a file to come; EngineError where its folder is not there."""
    target = Path(path)
    if not target.parent.is_dir():
        raise EngineError(f"there is no folder {target.parent} to write {target.name} into")
    return target


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A name beside that of a file; what was written there becomes the file where nothing went wrong."""
    check_folder(target)
    draft = target.with_name(f".{target.name}.draft")
    try:
        yield draft
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def put(model: ir.Model, path: str | os.PathLike[str], cases: Sequence[Callable[[], Drawn]]) -> Held:
    """Write a model under a temporary name, run it on each case, then give it its name.

    EngineError where a number differs by more than rounding; no file is left then.
    """
    apart: dict[str, float] = {}
    with beside(Path(path)) as draft:
        ir.save(model, draft)
        run: Run = _loaded(draft) if cases else _nothing
        for case in cases:
            inputs, expected = case()
            found = run({name: t.detach().cpu().numpy() for name, t in inputs.items()})
            names = [v.name or "" for v in model.graph.outputs]
            for name, theirs, own in zip(names, found, expected, strict=True):
                apart[name] = max(apart.get(name, 0.0), _compare(name, theirs, own.detach().cpu()))
    return Held(Path(path), apart)


def _nothing(feed: Mapping[str, Any]) -> Sequence[Any]:
    return ()


def _loaded(path: Path) -> Run:
    try:
        return session(path)[1]
    except Exception as error:
        raise EngineError(
            f"onnxruntime cannot run the file ({error}); nothing was written. verify=False writes it for other runtimes"
        ) from error


def _compare(name: str, theirs: Any, own: Tensor) -> float:
    """How far two outputs are apart; EngineError where that is more than rounding."""
    if tuple(theirs.shape) != tuple(own.shape):
        raise EngineError(f"the file gives {name} of shape {theirs.shape}, the module of {tuple(own.shape)}")
    if not own.dtype.is_floating_point:
        wrong, scale = float(np.mean(theirs != own.numpy())) if own.numel() else 0.0, 1.0
        limit = _MOST_FLIPS
    else:
        scale = max(1.0, float(own.double().nan_to_num().abs().max())) if own.numel() else 1.0
        difference = np.abs(theirs.astype(np.float64) - own.double().numpy())
        both = np.isnan(theirs.astype(np.float64)) & np.isnan(own.double().numpy())
        wrong = float(np.max(np.where(both, 0, difference), initial=0.0)) / scale
        limit = _RELATIVE.get(own.dtype, 1e-3)
    if not wrong <= limit:
        raise EngineError(
            f"the file gives other numbers for {name} than the module: {wrong:.2g} apart, {limit:g} allowed; "
            f"nothing was written. Something in the step has no equal in ONNX: verify=False writes it all the same"
        )
    return wrong * scale
