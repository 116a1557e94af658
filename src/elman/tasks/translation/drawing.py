"""The translator as it is drawn: what reads, what writes, and the attention between them."""

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
    unit = {"bpe": "token", "words": "word", "characters": "character"}[codec.source.unit]
    reading = blocks_of([model.source, model.encoder, model.bridge], mark="e", letter="2H")
    chain = [model.target, model.decoder, model.readout, nn.Tanh(), model.dropout, model.head]
    stacks = (
        Stack("encoder", reading, Signal("x_t", f"a {unit}"), Signal("s_0", ""), steps, "S", writes="none"),
        Stack(
            "decoder",
            blocks_of(chain, mark="d", activation="softmax"),
            Signal("y_t", f"the {unit} before"),
            Signal("p_t", "chances of the next", codec.target.size, "K"),
            steps,
        ),
    )
    return ModelDrawing(trained.run.path.name, stacks, trained.config.data.batch, dtype_of(model))
