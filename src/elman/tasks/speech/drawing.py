"""The network as it is drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.plots import ModelDrawing

__all__ = ["drawing_of"]


def drawing_of(trained: Any, *, steps: int) -> ModelDrawing:
    """One stack that reads frames: it answers at every step, or of classes at the end."""
    from elman.plots import ModelDrawing, Signal, Stack
    from elman.plots.modules import blocks_of, dtype_of

    model, codec, features = trained.model, trained.codec, trained.config.features
    if trained.config.model.decoder != "ctc" and not codec.classes:
        return _with_decoder(trained, steps)
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


def _with_decoder(trained: Any, steps: int) -> ModelDrawing:
    """Two stacks: what hears, and what writes; CTC's output stands with the layer that it reads."""
    from torch import nn

    from elman.plots import ModelDrawing, Signal, Stack
    from elman.plots.modules import blocks_of, dtype_of

    model, codec, features = trained.model, trained.codec, trained.config.features
    frames, count = features.stride + features.ahead, len(codec.symbols.names) + 1
    reads = Signal("x_t", f"{frames} frames of {codec.mel.bands} bands", frames * codec.mel.bands, "I")
    blocks = blocks_of([model.source, model.encoder, model.bridge, _beside(model)], mark="e", letter="2H")
    if model.aligned is not None:
        said = "p_t = softmax(A h_t + a), for CTC"
        blocks = (*blocks[:-1], replace(blocks[-1], equations=(*blocks[-1].equations, said)))
    hears = Stack("encoder", blocks, reads, Signal("s_0", ""), steps, "S", writes="none")
    chain = [model.target, model.decoder, model.readout, nn.Tanh(), model.dropout, model.head]
    writes = Stack(
        "decoder",
        blocks_of(chain, mark="d", activation="softmax"),
        Signal("y_t", "the symbol before"),
        Signal("p_t", "chances of the next", count, "K"),
        steps,
    )
    return ModelDrawing(trained.run.path.name, (hears, writes), trained.config.data.batch, dtype_of(model))


def _beside(model: Any) -> Any:
    """Nothing that the data pass through on their way to the decoder, and yet weights of the network."""
    from torch import nn

    found = nn.Identity()
    found.aligned = model.aligned
    return found
