"""The network as it is drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.plots import Block, ModelDrawing

__all__ = ["drawing_of"]

# The letters of a NADE's parameters, and what it computes; k, j: keys, from the highest down.
LETTERS = {
    "encode": "E",
    "decode": "D",
    "hidden.weight": "A",
    "hidden.bias": "a",
    "visible.weight": "C",
    "visible.bias": "c",
}
EQUATIONS = ("b = A x_t + a", "h_k = σ(b + ∑ y_j E_j), j above k", "y_k ~ σ(C_k x_t + c_k + D_k h_k)")


def drawing_of(trained: Any, *, steps: int) -> ModelDrawing:
    """One stack, which reads and writes at every step."""
    from elman.plots import ModelDrawing, Signal, Stack
    from elman.plots.modules import blocks_of, dtype_of

    model, codec = trained.model, trained.codec
    nade = codec.words is None and bool(trained.config.model.nade)
    parts = blocks_of([model], activation="" if nade else "sigmoid" if codec.words is None else "softmax")
    if nade:
        parts = (*parts[:-1], _nade(parts[-1]))
    if codec.words is None:
        reads = Signal("x_t", "keys of the last step", codec.size, "K")
        writes = Signal("y_t", "keys of this step", codec.size, "K")
    else:
        reads = Signal("x_t", "an event")
        writes = Signal("y_t", "chances of the next event", codec.size, "K")
    stack = Stack("music", parts, reads, writes, steps)
    return ModelDrawing(trained.run.path.name, (stack,), trained.config.data.batch, dtype_of(model))


def _nade(block: Block) -> Block:
    """The block with its equations, and its parameters by their letters."""
    weights = tuple(replace(weight, name=LETTERS.get(weight.name, weight.name)) for weight in block.weights)
    return replace(block, equations=EQUATIONS, weights=weights, letter="K")
