"""The tagger as it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.plots import ModelDrawing

__all__ = ["drawing_of"]


def drawing_of(trained: Any, *, steps: int) -> ModelDrawing:
    """One stack that reads a word and answers at every step, with the weights that the modules have."""
    from elman.plots import ModelDrawing, Signal, Stack
    from elman.plots.modules import blocks_of, dtype_of

    model, codec = trained.model, trained.codec
    parts = blocks_of([model], activation="" if model.chain is not None else "softmax")
    reads = Signal("x_t", "a word and its letters" if trained.config.model.letters else "a word")
    what = "the likeliest tags together" if model.chain is not None else "chances of the tags"
    writes = Signal("y_t", what, len(codec.tags), "K")
    stack = Stack("tagger", parts, reads, writes, steps)
    return ModelDrawing(trained.run.path.name, (stack,), trained.config.data.batch, dtype_of(model))
