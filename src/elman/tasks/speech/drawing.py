"""The network as it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.plots import ModelDrawing

__all__ = ["drawing_of"]


def drawing_of(trained: Any, *, steps: int) -> ModelDrawing:
    """One stack that reads frames: it answers at every step, or of classes at the end."""
    from elman.plots import ModelDrawing, Signal, Stack
    from elman.plots.modules import blocks_of, dtype_of

    model, codec, features = trained.model, trained.codec, trained.config.features
    size = (features.stride + features.ahead) * codec.mel.bands
    reads = Signal("x_t", f"{features.stride + features.ahead} frames of {codec.mel.bands} bands", size, "I")
    blocks = blocks_of([model], activation="softmax")
    name, batch, dtype = trained.run.path.name, trained.config.data.batch, dtype_of(model)
    if codec.classes:
        writes = Signal("y", "chances of the classes", len(codec.classes), "K")
        return ModelDrawing(
            name, (Stack("classifier", blocks, reads, writes, steps, writes="last"),), batch, dtype
        )
    writes = Signal("y_t", "chances of the symbols and the blank", len(codec.symbols.names) + 1, "K")
    return ModelDrawing(name, (Stack("recognizer", blocks, reads, writes, steps),), batch, dtype)
