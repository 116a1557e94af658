"""Pieces of a page, as HTML: paragraphs, tables, figures, matrices. What is given as text is escaped."""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "Html",
    "columns",
    "details",
    "facts",
    "figure",
    "heat_map",
    "inline",
    "matrix",
    "paragraph",
    "picture",
    "preformatted",
    "table",
    "text",
]


def text(value: object) -> str:
    """Escape what is shown as it is. Numbers get about four digits."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return html.escape(str(value))


def paragraph(words: str, *, kind: str = "") -> str:
    """A paragraph of plain text. kind: "warning" or "quiet"."""
    return f"<p{_class(kind)}>{text(words)}</p>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def picture(png: bytes, name: str) -> str:
    """A picture, held in the page itself. png: the bytes of a PNG file; name: what it shows, for who cannot see it."""
    held = base64.b64encode(png).decode("ascii")
    return f'<p><img class="picture" alt="{text(name)}" src="data:image/png;base64,{held}"></p>'


def facts(entries: Mapping[str, object]) -> str:
    """A few numbers, large, each with what it is below it."""
    cells = "".join(
        f"<div><strong>{text(value)}</strong><span>{text(name)}</span></div>"
        for name, value in entries.items()
    )
    return f'<div class="facts">{cells}</div>'


def table(
    header: Sequence[str], rows: Iterable[Sequence[object]], *, strong: int | None = None, kind: str = ""
) -> str:
    """A table; columns of numbers stand to the right. strong: the row (from 0) that is set in bold.

    A cell that is `Html` is not escaped.
    """
    kept = [list(row) for row in rows]
    formats = [_format([row[column] for row in kept]) for column in range(len(header))]
    numeric = [bool(form) for form in formats]
    head = "".join(_cell("th", name, right=right) for name, right in zip(header, numeric, strict=True))
    body = "".join(
        f"<tr{_class('strong' if place == strong else '')}>"
        + "".join(
            _cell("td", _shown(value, form), right=bool(form))
            for value, form in zip(row, formats, strict=True)
        )
        + "</tr>"
        for place, row in enumerate(kept)
    )
    classes = f"scroll {kind}".strip()
    return f'<div class="{classes}"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


class Html(str):
    """Text that is already HTML."""

    __slots__ = ()


def _format(column: Sequence[object]) -> str:
    """How the numbers of a column are written, all with as many decimals; empty for a column of other things."""
    numbers = [value for value in column if isinstance(value, int | float) and not isinstance(value, bool)]
    if not numbers or len(numbers) < len(column):
        return ""
    if all(isinstance(value, int) for value in numbers):
        return ",d"
    largest = max((abs(value) for value in numbers if math.isfinite(value)), default=0.0)
    return ",.3f" if largest < 10 else ",.2f" if largest < 1000 else ",.0f"


def _shown(value: object, form: str) -> object:
    return format(value, form) if form else value


def _cell(tag: str, value: object, *, right: bool) -> str:
    shown = value if isinstance(value, Html) else text(value)
    return f"<{tag}{_class('number' if right else '')}>{shown}</{tag}>"


def preformatted(words: str) -> str:
    """Text with its line ends as they are."""
    return f"<pre>{text(words)}</pre>"


def figure(svg: str, caption: str = "") -> str:
    """A picture (see `inline`) with what it shows."""
    words = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f"<figure>{svg}{words}</figure>"


def columns(*pieces: str) -> str:
    """Pieces side by side where there is room."""
    return f'<div class="columns">{"".join(f"<div>{piece}</div>" for piece in pieces)}</div>'


def details(summary: str, body: str) -> str:
    """What is shown when it is asked for."""
    return f"<details><summary>{text(summary)}</summary>{body}</details>"


def matrix(rows: Sequence[str], names: Sequence[str], counts: Sequence[Sequence[float]], corner: str) -> str:
    """A table of counts whose cells are the darker, the larger their share of the row: confusion, attention.

    rows, names: what the rows and the columns are. corner: what both are, such as "truth \\ predicted".
    """
    head = "".join(f"<th class='number'>{text(name)}</th>" for name in names)
    lines = []
    for row, (name, values) in enumerate(zip(rows, counts, strict=True)):
        total = sum(values) or 1
        cells = "".join(
            _shaded(value, value / total, right=row == column) for column, value in enumerate(values)
        )
        lines.append(f"<tr><th>{text(name)}</th>{cells}</tr>")
    body = "".join(lines)
    return (
        f'<div class="scroll"><table class="matrix"><thead><tr><th>{text(corner)}</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _shaded(value: float, share: float, *, right: bool) -> str:
    colour = "15, 123, 85" if right else "200, 67, 29"
    ink = "#fff" if share > 0.6 else "inherit"
    shown = "" if value == 0 else text(value)
    return f'<td class="number" style="background: rgba({colour}, {share:.2f}); color: {ink}">{shown}</td>'


def heat_map(
    rows: Sequence[str], names: Sequence[str], values: Sequence[Sequence[float]], corner: str
) -> str:
    """A table without numbers, whose cells are the darker, the nearer their value is to 1: attention.

    A cell's value, to three digits, shows under the pointer. The names of the columns stand upright.
    """
    head = "".join(f'<th class="upright"><span>{text(name)}</span></th>' for name in names)
    lines = []
    for name, row in zip(rows, values, strict=True):
        cells = "".join(
            f'<td style="background: rgba(11, 98, 168, {value:.2f})" title="{value:.3f}"></td>'
            for value in row
        )
        lines.append(f"<tr><th>{text(name)}</th>{cells}</tr>")
    return (
        f'<div class="scroll"><table class="heat"><thead><tr><th>{text(corner)}</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


REFERENCE = re.compile(r'(\bid="|href="#|url\(#)')
FOREIGN = re.compile(r'<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|\sxmlns(:\w+)?="[^"]*"', re.DOTALL)


def inline(svg: str, name: str) -> str:
    """An SVG file as a part of a page: its own names made different from those of all others by `name`."""
    without = FOREIGN.sub("", svg).strip()
    return REFERENCE.sub(lambda found: f"{found[1]}{name}-", without)
