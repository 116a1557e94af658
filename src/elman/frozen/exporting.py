"""`elman.export`: a layer, a stack or a network -> a file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map, tree_structure, tree_unflatten

from elman.files import write_bytes
from elman.frozen.draft import Draft
from elman.frozen.forecasters import freeze_forecaster
from elman.frozen.int8 import in_eight_bits
from elman.frozen.networks import freeze_network
from elman.frozen.stacks import ROWS, freeze_stack
from elman.nn import Forecaster
from elman.nn.networks.network import Network
from elman.nn.stack import Stack

__all__ = ["export", "frozen_bytes"]


def export(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    example: Any = None,
    context: Any = None,
    texts: Mapping[str, str] | None = None,
    int8: bool = False,
) -> Path:
    """Write a model that runs without torch: from C and C++ (csrc/elman.h), and Python (`elman.runtime`).

    model: a layer or stack of `elman.nn` (LSTM, GRU, RNN, or a cell of any kind in a `Recurrent`), a `Tagger`, a
        `LanguageModel`, a `SequenceClassifier` or a `Forecaster`. It is written down as it is in evaluation mode, with
        the weights of the moment.
    example: x of one call, a tensor or a tuple of tensors `(T, B, ...)`, where the layer does not say how wide it is;
        of a tagger of `SpelledWords` numbers `(T, B, 1 + C)`, for C letters of a word.
    context: an example of the context `(B, ...)` of a cell that takes one.
    texts: what else the file shall say, by key.
    int8: the matrices among the parameters are rounded to eight bits, with a scale for each row, and kept so: a quarter
        of the file; a step takes as long, for the reader makes floats of them. What that costs is not judged here.

    Gives the path. The file is either there as a whole or not at all. Raises TypeError for another kind of module,
    ValueError for what it needs and is not given, EngineError for a step that the compiled core does not run.
    """
    to = Path(path)
    write_bytes(to, frozen_bytes(model, example=example, context=context, texts=texts, int8=int8))
    return to


def frozen_bytes(
    model: nn.Module, *, example: Any = None, context: Any = None, texts: Mapping[str, str] | None = None,
    int8: bool = False,
) -> bytes:  # fmt: skip
    """What `export` writes."""
    with in_evaluation(model), torch.no_grad(), in_eight_bits(model) if int8 else nullcontext():
        draft = _draft(model, example, context)
    draft.texts |= dict(texts or {})
    return draft.to_bytes(int8=int8)


def _draft(model: nn.Module, example: Any, context: Any) -> Draft:
    if isinstance(model, Network):
        return freeze_network(model, example)
    if isinstance(model, Forecaster):
        return freeze_forecaster(model)
    if not isinstance(model, Stack):
        raise TypeError(
            f"{type(model).__name__} cannot be frozen; expected a layer of elman.nn (LSTM, GRU, RNN, Recurrent), a "
            f"Tagger, a LanguageModel, a SequenceClassifier or a Forecaster"
        )
    rows = _rows(model, example)
    leaves, spec = tree_leaves(rows), tree_structure(rows)
    kinds = list(dict.fromkeys(v.dtype for v in leaves))
    if len(kinds) > 1 or kinds[0] not in (torch.float32, torch.float64):
        raise ValueError(
            f"inputs of {', '.join(map(str, kinds))} cannot be frozen; expected torch.float32 or torch.float64 for "
            f"all (tokens go through an elman.nn.Embedding, in a network)"
        )
    draft = Draft(kinds[0])
    names = ["x"] if len(leaves) == 1 else [f"x{i}" for i in range(len(leaves))]
    draft.inputs = [draft.array(n, v.shape[1:], v.dtype) for n, v in zip(names, leaves, strict=True)]
    given = None if context is None else tree_map(_some_rows, context)
    outputs = freeze_stack(draft, model, tree_unflatten(draft.inputs, spec), given)
    draft.outputs = outputs
    draft.texts["task"] = "layer"
    return draft


def _rows(model: Stack, example: Any) -> Any:
    """One step of x, `(B, ...)`."""
    if example is None:
        width = getattr(model, "input_size", None)
        if not isinstance(width, int):
            raise ValueError(
                f"{type(model).__name__} does not say how wide its input is; give example=, a tensor or a tuple of "
                f"tensors (T, B, ...) as the layer takes"
            )
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        return torch.zeros(ROWS, width, dtype=dtype)
    axis = 1 if model.batch_first else 0
    return tree_map(lambda v: _some_rows(v.select(axis, 0)), example)


def _some_rows(v: torch.Tensor) -> torch.Tensor:
    """`(B, ...)` with the number of rows that steps are traced with."""
    v = v.detach()
    return torch.cat([v] * ROWS)[:ROWS].contiguous()


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[None]:
    """A model in evaluation mode, and back in the modes that its modules were in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
