"""The structure of a model as files."""

from pathlib import Path

from elman.plots.basic import basic
from elman.plots.drawing import ModelDrawing
from elman.plots.files import write
from elman.plots.png import png
from elman.plots.svg import svg
from elman.plots.unfolded import unfolded

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
    for name, draw in DRAWINGS.items():
        canvas = draw(drawing)
        paths.append(write(folder / f"{name}.svg", svg(canvas).encode()))
        paths.append(write(folder / f"{name}.png", png(canvas)))
    return paths
