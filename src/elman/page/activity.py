"""What units do over time, as SVG and HTML: heat maps of units by steps, text coloured by a unit, squares of shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from elman.page.chart import COLOURS
from elman.page.parts import Html, text

__all__ = ["NOTHING", "activity_map", "coloured", "lit_curve", "squares"]

WIDTH, LEFT, RIGHT = 860, 64, 8
HEAD, TALL, WIDEST = 34, 15, 26
# A letter of the labels, of 12 px in a monospaced font, and the narrowest column that can carry an upright one.
LETTER, UPRIGHT = 7.3, 12.5
SHADES = 16
ZERO, POSITIVE, NEGATIVE = (244, 246, 249), (11, 98, 168), (200, 67, 29)
# Gates from shut to open.
SHUT, HALF, OPEN = (250, 250, 246), (126, 190, 160), (10, 84, 58)
MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"
SANS = "system-ui, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif"
INK, MUTED, FRAME = "#1f2933", "#5b6673", "#dfe3e8"
# How a step without a mark of its own is shown.
NOTHING = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍", "": "∅"}
Colour = tuple[int, int, int]


def activity_map(
    values: Sequence[Sequence[float]],
    units: Sequence[object],
    steps: Sequence[str],
    *,
    title: str,
    signed: bool,
    limit: float = 1.0,
    dense: bool = True,
    x_name: str = "",
) -> str:
    """Units from above to below over steps from left to right, a coloured cell each, with the scale above.

    values: a row for each unit; what is not finite stays blank. units, steps: their names. signed: from −limit to
    limit, red over white to blue; else from 0 to 1, white to green. dense: each step has its name; else as many as
    have room.
    """
    wide = min(WIDEST, (WIDTH - LEFT - RIGHT) / max(len(steps), 1))
    bottom = HEAD + TALL * len(units)
    words, below = _step_names(steps, wide, bottom, dense=dense)
    parts = [
        f'<text x="{LEFT}" y="16" fill="{INK}" font-family="{SANS}" font-size="14">{text(title)}</text>',
        _scale(signed=signed, limit=limit),
        *_cells(values, wide, signed=signed, limit=limit),
        *_unit_names(units),
        *words,
    ]
    height = bottom + below + (18 if x_name else 2)
    if x_name:
        parts.append(_word(x_name, LEFT, height - 5, MUTED))
    return _svg(height, f"{title}: {len(units)} units over {len(steps)} steps", parts)


def _svg(height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{text(label)}">{"".join(parts)}</svg>'
    )


def _word(words: str, x: float, y: float, colour: str, *, anchor: str = "start", size: float = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
    return f'<text {place} font-family="{SANS}" font-size="{size:g}">{text(words)}</text>'


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (round(low + (high - low) * share) for low, high in zip(a, b, strict=True))
    return red, green, blue


def _shade(level: int, *, signed: bool) -> str:
    """The colour of a level: −SHADES to SHADES, or of a gate 0 to SHADES."""
    part = abs(level) / SHADES
    if signed:
        colour = _mix(ZERO, POSITIVE if level > 0 else NEGATIVE, part)
    else:
        colour = _mix(SHUT, HALF, 2 * part) if part < 0.5 else _mix(HALF, OPEN, 2 * part - 1)
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _cells(values: Sequence[Sequence[float]], wide: float, *, signed: bool, limit: float) -> list[str]:
    """A path for each shade."""
    found = []
    for level, own in _runs(values, signed=signed, limit=limit).items():
        cells = (
            f"M{LEFT + start * wide:.1f} {HEAD + row * TALL}h{(end - start) * wide:.1f}v{TALL - 1}"
            f"h{(start - end) * wide:.1f}z"
            for row, start, end in own
        )
        found.append(f'<path fill="{_shade(level, signed=signed)}" d="{"".join(cells)}"/>')
    return found


def _runs(
    values: Sequence[Sequence[float]], *, signed: bool, limit: float
) -> dict[int, list[tuple[int, int, int]]]:
    """By its shade, each run of like cells as (row, first column, the one behind the last); blanks have none."""
    runs: dict[int, list[tuple[int, int, int]]] = {}
    for row, own in enumerate(values):
        lowest = -1.0 if signed else 0.0
        levels = [
            round(min(1.0, max(lowest, value / limit)) * SHADES) if math.isfinite(value) else None
            for value in own
        ]
        start = 0
        for at in range(1, len(levels) + 1):
            if at < len(levels) and levels[at] == levels[start]:
                continue
            level = levels[start]
            if level is not None:
                runs.setdefault(level, []).append((row, start, at))
            start = at
    return runs


def _scale(*, signed: bool, limit: float) -> str:
    """Which colour is which value, above on the right."""
    levels = range(-SHADES, SHADES + 1) if signed else range(SHADES + 1)
    wide, right = 120 / len(levels), WIDTH - RIGHT - 34
    low, high = (f"−{limit:.2g}", f"{limit:.2g}") if signed else ("0", "1")
    cells = "".join(
        f'<rect x="{right - 120 + place * wide:.2f}" y="6" width="{wide + 0.3:.2f}" height="11" '
        f'fill="{_shade(level, signed=signed)}"/>'
        for place, level in enumerate(levels)
    )
    frame = f'<rect x="{right - 120}" y="6" width="120" height="11" fill="none" stroke="{FRAME}"/>'
    return (
        cells + frame + _word(low, right - 126, 16, MUTED, anchor="end") + _word(high, right + 6, 16, MUTED)
    )


def _unit_names(units: Sequence[object]) -> list[str]:
    named = [
        _word(str(unit), LEFT - 8, HEAD + (row + 0.5) * TALL + 4, MUTED, anchor="end")
        for row, unit in enumerate(units)
    ]
    return [_word("unit", LEFT - 8, HEAD - 7, MUTED, anchor="end"), *named]


def _step_names(steps: Sequence[str], wide: float, top: float, *, dense: bool) -> tuple[list[str], float]:
    """The names below the cells, level where they fit, else upright; and how tall they are."""
    shown = [NOTHING.get(step, step) for step in steps]
    longest = max(map(len, shown), default=0)
    if not dense:
        half = longest * LETTER / 2
        every = max(1, math.ceil((2 * half + 14) / wide))
        places = [(at, max(half + 5, LEFT + (at + 0.5) * wide)) for at in range(0, len(shown), every)]
        return [_label(shown[at], x, top + 15) for at, x in places if x + half <= WIDTH - 3], 20
    if longest * LETTER <= wide + 1:
        return [_label(name, LEFT + (at + 0.5) * wide, top + 14) for at, name in enumerate(shown)], 19
    every = max(1, math.ceil(UPRIGHT / wide))
    cut = [name if len(name) <= 16 else name[:15] + "…" for name in shown]
    upright = [
        _label(name, LEFT + (at + 0.5) * wide, top + 6, upright=True)
        for at, name in enumerate(cut)
        if at % every == 0
    ]
    return upright, min(longest, 16) * LETTER + 10


def _label(name: str, x: float, y: float, *, upright: bool = False) -> str:
    turned = f' transform="rotate(-90 {x:.1f} {y:.1f})" dominant-baseline="central"' if upright else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{"end" if upright else "middle"}"{turned}'
    colour = MUTED if name in NOTHING.values() else INK
    return f'<text {place} fill="{colour}" font-family="{MONO}" font-size="12">{text(name)}</text>'


def coloured(
    steps: Sequence[str], values: Sequence[float], limit: float, *, joined: str = "", peak: int = -1
) -> Html:
    """Text whose steps have the colour of a unit's value: blue above zero, red below, the stronger the farther from it.

    joined: what stands between two steps. peak: the step (from 0) that has a frame.
    """
    pieces = []
    for at, (step, value) in enumerate(zip(steps, values, strict=True)):
        share = min(1.0, abs(value) / limit) if limit else 0.0
        tone = ", ".join(map(str, POSITIVE if value > 0 else NEGATIVE))
        frame = "; outline: 1.5px solid" if at == peak else ""
        shown = step if step == " " else NOTHING.get(step, step)
        style = f"background: rgba({tone}, {0.68 * share:.2f}){frame}"
        pieces.append(f'<span style="{style}" title="{value:+.3f}">{text(shown)}</span>')
    return Html(f'<span class="lit">{text(joined).join(pieces)}</span>')


CURVE, FOOT = 120, 24


def lit_curve(
    curve: Sequence[float],
    values: Sequence[float],
    limit: float,
    steps: Sequence[str],
    *,
    peaks: Sequence[int] = (),
    x_name: str = "",
    y_name: str = "",
) -> str:
    """A line over steps on a ground that has the colour of a unit's value, as `coloured` gives it to a text.

    curve: what is drawn; where it is empty the values themselves are. peaks: the steps (from 0) that have a mark.
    """
    drawn = list(curve) or list(values)
    low, high = min(drawn), max(drawn)
    room = 0.12 * (high - low) or 1.0
    wide = (WIDTH - LEFT - RIGHT) / max(len(values), 1)

    def up(value: float) -> float:
        return 6 + (high + room - value) / (high - low + 2 * room) * (CURVE - 6)

    line = " ".join(f"{LEFT + (at + 0.5) * wide:.1f},{up(value):.1f}" for at, value in enumerate(drawn))
    words, _ = _step_names(steps, wide, CURVE, dense=False)
    marks = [
        f'<path d="M{LEFT + (at + 0.5) * wide:.1f} 6V{CURVE}" stroke="{INK}" stroke-dasharray="3 3"/>'
        f'<circle cx="{LEFT + (at + 0.5) * wide:.1f}" cy="{up(drawn[at]):.1f}" r="4.5" fill="{INK}"/>'
        for at in peaks
    ]
    height = CURVE + FOOT + (16 if x_name else 0)
    parts = [
        *_ground(values, wide, limit),
        f'<polyline points="{line}" fill="none" stroke="{INK}" stroke-width="1.6" stroke-linejoin="round"/>',
        *marks,
        *(_word(f"{value:.3g}", LEFT - 8, up(value) + 4, MUTED, anchor="end") for value in (low, high)),
        *words,
    ]
    if y_name:
        turned = f'transform="rotate(-90 14 {CURVE / 2})"'
        named = _word(y_name, 14, CURVE / 2, MUTED, anchor="middle")
        parts.append(named.replace("<text ", f"<text {turned} ", 1))
    if x_name:
        parts.append(_word(x_name, WIDTH - RIGHT, height - 4, MUTED, anchor="end"))
    return _svg(height, f"{y_name} over {len(values)} steps, coloured by a unit", parts)


def _ground(values: Sequence[float], wide: float, limit: float) -> list[str]:
    """A column for each step, runs of one colour as one."""
    cells = _runs([values], signed=True, limit=limit)
    return [
        f'<path fill="{_shade(level, signed=True)}" fill-opacity="0.62" d="'
        + "".join(
            f"M{LEFT + start * wide:.1f} 6h{(end - start) * wide:.1f}V{CURVE}H{LEFT + start * wide:.1f}z"
            for _, start, end in own
        )
        + '"/>'
        for level, own in cells.items()
    ]


PANEL, GAP = 196, 22


def squares(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], x_name: str, y_name: str
) -> str:
    """A square of points from 0 to 1 for each name, four in a row, the points of each group in a colour of its own."""
    groups = list(dict.fromkeys(group for own in panels.values() for group in own))
    colours = {group: COLOURS[place % len(COLOURS)] for place, group in enumerate(groups)}
    parts, x = [], float(LEFT - 22)
    for group in groups:
        parts.append(f'<circle cx="{x + 6:.1f}" cy="11" r="5" fill="{colours[group]}" fill-opacity="0.75"/>')
        parts.append(_word(group, x + 17, 15, INK, size=13))
        x += 17 + 7 * len(group) + 26
    for place, (name, own) in enumerate(panels.items()):
        row, column = divmod(place, 4)
        left, top = LEFT - 22 + column * (PANEL + GAP), 58 + row * (PANEL + 62)
        parts += _square(left, top, name, x_name, y_name if column == 0 else "")
        for group, points in own.items():
            dots = "".join(
                f'<circle cx="{left + x * PANEL:.1f}" cy="{top + (1 - y) * PANEL:.1f}" r="3"/>'
                for x, y in points
            )
            parts.append(f'<g fill="{colours[group]}" fill-opacity="0.5">{dots}</g>')
    rows = -(-len(panels) // 4)
    return _svg(58 + rows * (PANEL + 62) - 14, f"{y_name} by {x_name}", parts)


def _square(left: float, top: float, name: str, x_name: str, y_name: str) -> list[str]:
    right, bottom = left + PANEL, top + PANEL
    parts = [
        f'<rect x="{left}" y="{top}" width="{PANEL}" height="{PANEL}" fill="#fbfbfc" stroke="{FRAME}"/>',
        f'<path d="M{left} {top}L{right} {bottom}" stroke="{FRAME}" fill="none"/>',
        _word(name, left + PANEL / 2, top - 9, INK, anchor="middle", size=14),
        _word(x_name, left + PANEL / 2, bottom + 30, MUTED, anchor="middle"),
    ]
    for value in (0.0, 0.5, 1.0):
        parts.append(_word(f"{value:g}", left + value * PANEL, bottom + 15, MUTED, anchor="middle"))
        if y_name:
            parts.append(_word(f"{value:g}", left - 6, bottom - value * PANEL + 4, MUTED, anchor="end"))
    if y_name:
        x, y = left - 30, top + PANEL / 2
        turned = f'transform="rotate(-90 {x} {y})"'
        parts.append(_word(y_name, x, y, MUTED, anchor="middle").replace("<text ", f"<text {turned} ", 1))
    return parts
