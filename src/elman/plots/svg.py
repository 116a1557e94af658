"""A sheet as SVG: plain attributes, no style sheet, no script, nothing fetched.

Words stay text in the reader's sans-serif font. Formulas are drawn by their outlines, each letter once in <defs>, so
that they look and measure the same everywhere; `aria-label` holds them as text.
"""

from collections.abc import Iterator
from html import escape

from elman.plots.canvas import Canvas, Disc, Label, Line, Rectangle, Shape
from elman.plots.text import EM, Run, path_data, plain, run_width, runs

FONTS = "Inter, 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif"
Glyph = tuple[str, bool, bool]


def svg(canvas: Canvas) -> str:
    """The whole document."""
    size = f'width="{canvas.width:g}" height="{canvas.height:g}" viewBox="0 0 {canvas.width:g} {canvas.height:g}"'
    glyphs: dict[Glyph, str] = {}
    body = [element for shape in canvas.shapes for element in _elements(shape, glyphs)]
    outlines = (
        f'<path id="{name}" d="{path_data(letter, bold=bold, italic=italic)}"/>'
        for (letter, bold, italic), name in glyphs.items()
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(canvas.title)}</title>",
        "<defs>",
        *outlines,
        "</defs>",
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _elements(shape: Shape, glyphs: dict[Glyph, str]) -> Iterator[str]:
    match shape:
        case Rectangle():
            yield _rectangle(shape)
        case Disc():
            x, y = shape.centre
            yield f'<circle cx="{x:g}" cy="{y:g}" r="{shape.radius:g}" {_paint(shape)}/>'
        case Line():
            yield from _line(shape)
        case Label(style="math"):
            yield _formula(shape, glyphs)
        case Label():
            yield _label(shape)


def _rectangle(box: Rectangle) -> str:
    left, top, right, bottom = box.area
    place = f'x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}" rx="{box.radius:g}"'
    return f"<rect {place} {_paint(box)}{_dash(box.dash)}/>"


def _paint(shape: Rectangle | Disc) -> str:
    stroke = (
        f' stroke="{shape.stroke}" stroke-width="{shape.stroke_width:g}"' if shape.stroke != "none" else ""
    )
    return f'fill="{shape.fill}"{stroke}'


def _dash(dash: tuple[float, ...]) -> str:
    return f' stroke-dasharray="{" ".join(f"{part:g}" for part in dash)}"' if dash else ""


def _line(line: Line) -> Iterator[str]:
    path = " ".join(
        f"{name}{' '.join(f'{x:.6g},{y:.6g}' for x, y in points)}" for name, points in line.commands()
    )
    if line.halo:
        yield f'<path d="{path}" fill="none" stroke="{line.halo}" stroke-width="{line.stroke_width + 5:g}"/>'
    stroke = f'stroke="{line.colour}" stroke-width="{line.stroke_width:g}" stroke-linejoin="round"'
    yield f'<path d="{path}" fill="none" {stroke}{_dash(line.dash)}/>'
    if line.arrow:
        corners = " ".join(f"{x:.6g},{y:.6g}" for x, y in line.head())
        yield f'<polygon points="{corners}" fill="{line.colour}"/>'


def _label(label: Label) -> str:
    place = f'x="{label.x:.6g}" y="{label.y:.6g}" text-anchor="{label.anchor}" fill="{label.colour}"'
    weight = ' font-weight="bold"' if label.bold else ""
    look = f'font-family="{FONTS}" font-size="{label.size:g}"{weight}'
    return f"<text {place} {look}>{escape(plain(label.text))}</text>"


def _formula(label: Label, glyphs: dict[Glyph, str]) -> str:
    x, uses = label.left, []
    for run in runs(label.text, "math"):
        y, scale = label.y + run.shift * label.size, label.size * run.scale / EM
        for letter in run.text:
            if letter != " ":
                name = glyphs.setdefault((letter, label.bold, run.italic), f"g{len(glyphs)}")
                uses.append(
                    f'<use href="#{name}" transform="translate({x:.6g} {y:.6g}) scale({scale:.4g})"/>'
                )
            x += run_width(Run(letter, run.scale, run.shift, run.italic), label.size, "math", bold=label.bold)
    words = escape(plain(label.text), quote=True)
    return f'<g role="img" aria-label="{words}" fill="{label.colour}">{"".join(uses)}</g>'
