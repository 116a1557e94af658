"""The network as it is drawn: what reads a picture, what writes, and the attention between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.plots import ModelDrawing

__all__ = ["drawing_of"]


def drawing_of(trained: Any, *, steps: int) -> ModelDrawing:
    """Two stacks, with the weights that the modules have."""
    from torch import nn

    from elman.plots import ModelDrawing, Signal, Stack
    from elman.plots.modules import blocks_of, dtype_of

    model, codec = trained.model, trained.codec
    unit = {"bpe": "token", "words": "word", "characters": "character"}[codec.vocabulary.unit]
    reading = blocks_of([model.encoder, model.bridge], mark="e", letter="C")
    chain = [model.target, model.decoder, model.readout, nn.Tanh(), model.dropout, model.head]
    stacks = (
        Stack("encoder", reading, Signal("x", "a picture"), Signal("s_0", ""), 1, "S", writes="none"),
        Stack(
            "decoder",
            blocks_of(chain, mark="d", activation="softmax"),
            Signal("y_t", f"the {unit} before"),
            Signal("p_t", "chances of the next", codec.vocabulary.size, "K"),
            steps,
        ),
    )
    return ModelDrawing(trained.run.path.name, stacks, trained.config.data.batch, dtype_of(model))
