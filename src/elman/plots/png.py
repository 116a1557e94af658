"""A sheet as PNG.

Painted by matplotlib from the same primitives as the SVG: it is there for the learning curve anyway and brings its
fonts along, while SVG rasterisers (cairosvg, resvg) need fonts of the machine and one more dependency.
"""

from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING

from elman.plots.canvas import Canvas, Disc, Label, Line, Rectangle, Shape
from elman.plots.text import EM, outline, run_width, runs

if TYPE_CHECKING:
    from matplotlib.patches import Patch

POINTS_PER_PIXEL = 0.72
CODES = {"M": (1,), "L": (2,), "Q": (3, 3)}


def png(canvas: Canvas, *, scale: float = 2.0) -> bytes:
    """The picture with `scale` image pixels to each pixel of the sheet, transparent outside its rounded frame."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(canvas.width / 100, canvas.height / 100), dpi=100 * scale)
    figure.patch.set_alpha(0)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, canvas.width), ylim=(canvas.height, 0))
    axes.axis("off")
    patches = (patch for shape in canvas.shapes for patch in _patches(shape))
    for order, patch in enumerate(patches):
        patch.set_zorder(order)
        axes.add_patch(patch)
    picture = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(
        picture, format="png", transparent=True, metadata={"Title": canvas.title, "Software": None}
    )
    return picture.getvalue()


def _patches(shape: Shape) -> "Iterator[Patch]":
    match shape:
        case Rectangle():
            yield _rectangle(shape)
        case Disc():
            yield _disc(shape)
        case Line():
            yield from _line(shape)
        case Label():
            yield from _label(shape)


def _dashed(shape: Rectangle | Line) -> "str | tuple[float, tuple[float, ...]]":
    # matplotlib counts dashes in line widths
    return (0.0, tuple(part / shape.stroke_width for part in shape.dash)) if shape.dash else "solid"


def _rectangle(box: Rectangle) -> "Patch":
    from matplotlib.patches import FancyBboxPatch

    left, top, right, bottom = box.area
    return FancyBboxPatch(
        (left, top),
        right - left,
        bottom - top,
        boxstyle=f"round,pad=0,rounding_size={box.radius}",
        facecolor=box.fill,
        edgecolor=box.stroke,
        linewidth=box.stroke_width * POINTS_PER_PIXEL if box.stroke != "none" else 0,
        linestyle=_dashed(box),
    )


def _disc(disc: Disc) -> "Patch":
    from matplotlib.patches import Circle

    stroke_width = disc.stroke_width * POINTS_PER_PIXEL if disc.stroke != "none" else 0
    return Circle(
        disc.centre, disc.radius, facecolor=disc.fill, edgecolor=disc.stroke, linewidth=stroke_width
    )


def _line(line: Line) -> "Iterator[Patch]":
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path

    commands = list(line.commands())
    vertices = [point for _, points in commands for point in points]
    path = Path(vertices, [code for name, _ in commands for code in CODES[name]])
    stroke_width = line.stroke_width * POINTS_PER_PIXEL
    if line.halo:
        wide = (line.stroke_width + 5) * POINTS_PER_PIXEL
        yield PathPatch(path, fill=False, edgecolor=line.halo, linewidth=wide, capstyle="butt")
    yield PathPatch(
        path,
        fill=False,
        edgecolor=line.colour,
        linewidth=stroke_width,
        linestyle=_dashed(line),
        capstyle="butt",
        joinstyle="round",
    )
    if line.arrow:
        yield Polygon(line.head(), closed=True, facecolor=line.colour, linewidth=0)


def _label(label: Label) -> "Iterator[Patch]":
    from matplotlib.patches import PathPatch
    from matplotlib.transforms import Affine2D

    x = label.left
    for run in runs(label.text, label.style):
        if run.text.strip():
            scale = label.size * run.scale / EM
            place = Affine2D().scale(scale, -scale).translate(x, label.y + run.shift * label.size)
            letters = outline(run.text, label.style, label.bold, run.italic)
            yield PathPatch(letters.transformed(place), facecolor=label.colour, linewidth=0)
        x += run_width(run, label.size, label.style, bold=label.bold)
