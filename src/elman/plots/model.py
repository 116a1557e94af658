"""The structure of a model as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from elman.plots.basic import basic
from elman.plots.drawing import ModelDrawing, Signal, Stack
from elman.plots.files import save, write
from elman.plots.png import png
from elman.plots.svg import svg
from elman.plots.unfolded import unfolded

if TYPE_CHECKING:
    from torch import nn

DRAWINGS = {"basic": basic, "unfolded": unfolded}


def pictures(drawing: ModelDrawing) -> dict[str, str]:
    """Both pictures as SVG by name: "basic", one step with the loop of the state, and "unfolded"."""
    return {name: svg(draw(drawing)) for name, draw in DRAWINGS.items()}


def draw_model(drawing: ModelDrawing, folder: Path) -> list[Path]:
    """Write basic.svg, basic.png, unfolded.svg and unfolded.png into `folder`, which is made if it is not there.

    The basic picture shows one step with the loop of the state, and the sizes of everything; the unfolded one shows
    the steps side by side with their shared weights. The PNG has two image pixels to each pixel of the SVG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for name, draw_sheet in DRAWINGS.items():
        canvas = draw_sheet(drawing)
        paths.append(write(folder / f"{name}.svg", svg(canvas).encode()))
        paths.append(write(folder / f"{name}.png", png(canvas)))
    return paths


def draw(
    drawing: ModelDrawing, picture: Path | str, *, view: Literal["basic", "unfolded"] = "unfolded"
) -> Path:
    """Write one view of a model as .svg or .png, as the name ends; UserError where it ends otherwise."""
    return save(DRAWINGS[view](drawing), picture)


def drawing_of(
    modules: Sequence[nn.Module],
    *,
    title: str,
    steps: int,
    batch: int = 1,
    activation: str = "",
    reads: Literal["every", "first"] = "every",
    writes: Literal["every", "last"] = "every",
    inputs: str = "",
    outputs: str = "",
) -> ModelDrawing:
    """The description of a chain of torch modules, to be drawn.

    Args:
        modules: in the order in which the data pass through them.
        title: stands above the picture.
        steps: T.
        batch: B.
        activation: what follows the last dense layer where the loss contains it ("softmax").
        reads: whether an input comes at every step, or at the first one only.
        writes: whether an output leaves at every step, or at the last one only.
        inputs: what x is, in words.
        outputs: what y is, in words.

    Raises:
        ValueError: no module, no step, or modules that do not fit together.
    """
    from elman.plots.modules import blocks_of, dtype_of

    blocks = blocks_of(modules, activation=activation)
    if not blocks:
        raise ValueError(f"{title}: no module to draw")
    first, last = blocks[0], blocks[-1]
    table = first.kind == "embedding"
    enters = Signal("x_t", inputs, None if table else first.input_size, "" if table else "I")
    letters = [block.letter for block in blocks if block.letter]
    leaves = Signal(
        "y" if writes == "last" else "y_t", outputs, last.output_size, letters[-1] if letters else "I"
    )
    stack = Stack("network", blocks, enters, leaves, steps, reads=reads, writes=writes)
    return ModelDrawing(title, (stack,), batch, dtype_of(modules[0]))
