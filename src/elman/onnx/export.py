"""The public door: steps and modules to files."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from elman.engine import Scan
from elman.engine.errors import EngineError
from elman.engine.tracing.complexes import BECOMES
from elman.onnx.files import Drawn, Held, check_folder, drawn_like, put, wanted
from elman.onnx.graph import Refused
from elman.onnx.modules import form_of, model_of
from elman.onnx.own import KINDS
from elman.onnx.steps import StepModel, names_of

__all__ = ["export", "export_step", "exported"]

_COMPLEX = (
    "{}, and ONNX's operations know no complex numbers; instead: give and take pairs of real ones, and in the step "
    "torch.view_as_complex(s) before the sums, torch.view_as_real(z) behind them"
)
_SIZES = ((1, 2), (6, 3))  # T and B of the cases that a file is verified on


def export(
    module: nn.Module,
    path: str | os.PathLike[str],
    x: Tensor | None = None,
    *,
    lengths: bool | None = None,
    state: bool | None = None,
    verify: bool | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A layer (RNN, LSTM, GRU, Recurrent: any depth, directions, options) or a network of `elman.nn` as an ONNX file
    (opset 18), for every T and B; returns its path.

    module: in eval mode. x: an example of its input, where it does not say what it takes; of it only the kind counts.
    lengths, state: whether the file takes lengths `(B,)` int64, and the state, and gives the final one (default:
    lengths for a classifier, the state for all else). Shapes and the order of axes are the module's own
    (`batch_first`). Inputs are `x`, `lengths`, `state`, outputs `y` of a layer and `logits` of a network, and
    `final_state`; a state of several tensors has its keys behind: `state_0`. verify: as for `export_step`.
    metadata: texts that the file keeps.

    EngineError where something has no word in ONNX, or where the file would give other numbers; nothing is written
    then.
    """
    return exported(
        module, path, x, lengths=lengths, state=state, verify=verify, metadata=metadata or {}
    ).path


def exported(
    module: nn.Module,
    path: str | os.PathLike[str],
    x: Tensor | None = None,
    *,
    lengths: bool | None = None,
    state: bool | None = None,
    verify: bool | None = None,
    metadata: Mapping[str, str],
    nodes: Collection[str] = KINDS,
) -> Held:
    """What `export` writes, and how near the file is. nodes: which of ONNX's own nodes it may have."""
    check_folder(path)
    if module.training:
        raise Refused(
            f"{type(module).__name__} is in training mode, and a file answers as in eval; call eval() first"
        )
    form = form_of(module, x, lengths=lengths, state=state)
    model = model_of(form, {"elman": type(module).__name__, **metadata}, nodes)
    return put(model, path, form.cases() if wanted(verify) else [])


def export_step(
    step: Callable[..., Any] | Scan,
    path: str | os.PathLike[str],
    x: Any,
    state: Any,
    context: Any = None,
    *,
    lengths: bool = False,
    reset: bool = False,
    reverse: bool = False,
    return_states: bool = False,
    verify: bool | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A cell over whole sequences as an ONNX file (opset 18), for every T and B; returns its path.

    step: `(x_t, state[, context]) -> (y_t, next_state)` or `-> next_state`, or a `Scan` of it; in eval mode if it has
    one. x, state, context: an example of each, leaves `(T, B, ...)`, `(B, ...)` and `(B, ...)`; of them only kinds and
    structure count. lengths, reset: whether the file takes lengths `(B,)` int64 and resets `(T, B)` bool, these with
    `initial_state`. Inputs are named `x`, `state`, `context`, `lengths`, `reset`, outputs `y`, `final_state` and, with
    return_states, `all_state`; a structure of tensors has its keys behind: `state_0`, `state_h`.
    verify: hold the file to the step on drawn inputs by onnxruntime (default: where it is installed).

    EngineError where the step cannot be traced, has an operation that ONNX has not, or where the file would give other
    numbers; nothing is written then.
    """
    check_folder(path)
    scan = step if isinstance(step, Scan) else Scan(step)
    if isinstance(scan.owner, torch.nn.Module) and any(m.training for m in scan.owner.modules()):
        _refuse_training(scan.owner)
    form = StepModel(scan, lengths=lengths, reset=reset, reverse=reverse, return_states=return_states)
    _refuse_complex(x=x, state=state, context=context)
    try:
        model = form.build(x, state, context)
    except EngineError as error:
        if BECOMES in str(error):
            raise Refused(
                _COMPLEX.format("the step makes complex numbers, which its state becomes")
            ) from error
        raise
    model.metadata_props.update({"elman": "step", **(metadata or {})})
    cases = [_case(form, x, state, context, T, B) for T, B in _SIZES] if wanted(verify) else []
    return put(model, path, cases).path


def _refuse_complex(**given: Any) -> None:
    for role, tree in given.items():
        leaves = [] if tree is None else pytree.tree_leaves(tree)
        for name, leaf in zip(names_of(tree, role), leaves, strict=True) if leaves else ():
            if isinstance(leaf, Tensor) and leaf.is_complex():
                raise Refused(_COMPLEX.format(f"{name} is of {leaf.dtype}"))


def _refuse_training(owner: torch.nn.Module) -> None:
    """What draws numbers in training is told by the trace itself; what normalizes by its batch is told here."""
    for name, module in owner.named_modules():
        if module.training and isinstance(module, torch.nn.modules.batchnorm._NormBase):
            raise Refused(
                f"{name or type(owner).__name__} normalizes by its batch in training; call eval() first"
            )


def _case(form: StepModel, x: Any, state: Any, context: Any, T: int, B: int) -> Callable[[], Drawn]:
    """Drawn inputs, and what the step gives for them."""

    def drawn(tree: Any, *axes: int) -> Any:
        return pytree.tree_map(lambda t: drawn_like(t, (*axes, *t.shape[len(axes) :])), tree)

    def case() -> Drawn:
        given = {
            "x": drawn(x, T, B),
            "state": drawn(state, B),
            "context": None if context is None else drawn(context, B),
        }
        options: dict[str, Any] = {"lengths": torch.arange(B).clamp(max=T)} if form.lengths else {}
        if form.reset:
            options |= {"reset": torch.arange(T * B).reshape(T, B) % 3 == 1, "initial_state": drawn(state, B)}
        with torch.no_grad():
            result = form.scan(
                given["x"], given["state"], context=given["context"], reverse=form.reverse,
                return_states=form.return_states, **options,
            )  # fmt: skip
        order = ("x", "state", "initial_state", "context", "lengths", "reset")
        flat = [
            t for role in order for t in pytree.tree_leaves((given | options).get(role, ())) if t is not None
        ]
        names = [v.name or "" for v in form.inputs(x, state, context)]
        outs = [result.y, result.state, *([result.states] if form.return_states else [])]
        return dict(zip(names, flat, strict=True)), pytree.tree_leaves(outs)

    return case
