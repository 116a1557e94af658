"""The network as it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.plots import ModelDrawing

__all__ = ["drawing_of"]


def drawing_of(trained: Any, *, steps: int) -> ModelDrawing:
    """One stack that reads frames: it answers at every step, or at the end."""
    from elman.plots import ModelDrawing, Signal, Stack
    from elman.plots.modules import blocks_of, dtype_of

    model, codec, frames = trained.model, trained.codec, trained.config.frames
    if codec.width:
        size = codec.width * (1 + len(frames.differences))
        reads = Signal("x_t", f"a frame of {size} features", size, "I")
    else:
        count = 1 + len(frames.differences)
        beside = f" and {count - 1} of what has changed" * (count > 1)
        what = f"a picture of {frames.size} x {frames.size}{beside}"
        reads = Signal("x_t", what, 3 * count * frames.size**2, "I")
    several = codec.labels.several
    blocks = blocks_of([model], activation="sigmoid" if several else "softmax")
    name, batch, dtype = trained.run.path.name, trained.config.data.batch, dtype_of(model)
    what, count = f"chances of the {'tags' if several else 'classes'}", len(codec.labels.names)
    if codec.steps:
        writes = Signal("y_t", what, count, "K")
        return ModelDrawing(name, (Stack("tagger", blocks, reads, writes, steps),), batch, dtype)
    writes = Signal("y", what, count, "K")
    stack = Stack("classifier", blocks, reads, writes, steps, writes="last")
    return ModelDrawing(name, (stack,), batch, dtype)
