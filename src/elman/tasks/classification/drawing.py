"""The classifier as it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.plots import ModelDrawing

__all__ = ["drawing_of"]


def drawing_of(trained: Any, *, steps: int) -> ModelDrawing:
    """One stack that reads at every step and answers at the end, with the weights that the modules have."""
    from elman.plots import ModelDrawing, Signal, Stack
    from elman.plots.modules import blocks_of, dtype_of

    model, labels = trained.model, trained.codec.labels
    parts = blocks_of([model], activation="sigmoid" if labels.several else "softmax")
    reads = Signal("x_t", f"a {trained.codec.lexicon.unit.removesuffix('s')}")
    writes = Signal("y", "chances of the labels", len(labels.names), "K")
    stack = Stack("classifier", parts, reads, writes, steps, writes="last")
    return ModelDrawing(trained.run.path.name, (stack,), trained.config.data.batch, dtype_of(model))
