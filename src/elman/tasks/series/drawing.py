"""The network as it is drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.plots import ModelDrawing

__all__ = ["drawing_of"]


def drawing_of(trained: Any, *, steps: int) -> ModelDrawing:
    """One stack that reads at every step, and answers at every step or at the end."""
    from elman.plots import Block, ModelDrawing, Signal, Stack
    from elman.plots.modules import blocks_of, dtype_of

    model, codec = trained.model, trained.codec
    batch = trained.config.data.batch
    if codec.target == "classify":
        parts = blocks_of([model], activation="softmax")
        reads = Signal("x_t", "the values of a step", codec.features, "I")
        stack = Stack("classifier", parts, reads, Signal("y", "chances of the classes", len(codec.labels.names), "K"),
                      steps, writes="last")  # fmt: skip
        return ModelDrawing(trained.run.path.name, (stack,), batch, dtype_of(model))
    chain = [*model.recurrent, model.dropout, model.head]
    left = [model.linear, *([model.outlook] if any(True for _ in model.outlook.parameters()) else [])]
    joined: tuple[Block, ...] = ()
    if model.ahead:
        below = model.head.in_features - model.ahead
        words = f"with {model.ahead} numbers known ahead"
        joined = (
            Block(words, "other", below, model.head.in_features, "F", equations=("y_t = [x_t ; a_t]",)),
        )
    parts = (*blocks_of(chain[:-1]), *joined, *map(_named, blocks_of([model.head, *left])))
    width = parts[0].input_size
    words = "values, mask and time since" if model.gaps in {"decay", "mask"} else "values"
    reads = Signal("x_t", f"{words}{', and what is known' if model.known else ''}", width, "I")
    outlook = f"{trained.config.model.outlook} of the next {model.horizon} rows"
    stack = Stack("forecaster", parts, reads, Signal("y_t", outlook, parts[-1].output_size, "K"), steps)
    return ModelDrawing(trained.run.path.name, (stack,), batch, dtype_of(model))


def _named(block: Any) -> Any:
    """The linear map with its equation, which its class alone does not say."""
    if block.name != "LaggedMap":
        return block
    words = ("loc_k = ∑ weight_{k,i} v_{t−i} + bias_k + spread_k x_{t,k}", "v: the last values of the series")
    return replace(block, name="linear map of the last values", equations=words)
