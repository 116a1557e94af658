"""What was seen inside a network, as pieces of a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from elman.page import (
    COLOURS,
    Line,
    Section,
    activity_map,
    coloured,
    details,
    figure,
    line_chart,
    lit_curve,
    paragraph,
    squares,
    table,
)
from elman.page.activity import NOTHING
from elman.tasks.inspection.looking import Look, Unit
from elman.tasks.inspection.reading import Inside

if TYPE_CHECKING:
    from elman.nn.inspection import Decay, Stretch, Track

__all__ = ["most_steps", "sections_of"]

# Rows of a heat map, and sequences of a unit that are drawn as curves.
UNITS, CURVES = 24, 3
CRITERION = (
    "How much the loss at the last step would change with the state some steps before: the norm of its gradient, "
    "its mean over {rows}, as a share of that one step back. A straight line through it gives the factor a "
    "step; vanishing is what halves in fewer than 20 steps, exploding what doubles in fewer than 20."
)


def most_steps(inside: Inside, names: tuple[str, ...]) -> int:
    """How many steps a heat map shows such that their names can be read."""
    if not inside.dense:
        return 200
    return 84 if max(map(len, names), default=1) <= 1 else 56


def sections_of(found: Look, inside: Inside, *, short: bool) -> Iterator[Section]:
    """The sections. short: as they stand in the report of a run, one heat map and three units."""
    yield Section("Gradient over time", _gradient(found))
    yield Section("Saturated gates", _saturation(found, short=short))
    yield Section("States over time", _maps(found, inside, short=short))
    yield Section("What units respond to", _units(found, inside))


def counted(number: int, what: str) -> str:
    """`1 sequence`, `16 sequences`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def signed(value: float) -> str:
    """`+0.50`, `−0.50`."""
    return f"{value:+.2f}".replace("-", "−")


# The gradient


def _gradient(found: Look) -> str:
    if not found.after:
        return paragraph("The sequences are too short for a gradient over time.", kind="quiet")
    rows = min(16, len(found.readings))
    lines, several = [], len(found.after) > 1
    for place, (before, after) in enumerate(zip(found.before, found.after, strict=True)):
        colour = COLOURS[place % len(COLOURS)]
        lines += [
            _line(before, "" if several else "before training", colour, dashed=True),
            _line(after, _short(after.track) if several else "after training", colour, dashed=False),
        ]
    chart = line_chart(
        [line for line in lines if line.points], "steps back", "gradient, share of that one step back"
    )
    pieces = [
        paragraph(CRITERION.format(rows=counted(rows, "sequence")), kind="quiet"),
        figure(chart, "Dashed: before training." if several else "") if chart else "",
    ]
    pieces.append(
        table(
            ["layer", "training", "a step", "half-life, steps", "left at the end", "called"],
            [
                row
                for before, after in zip(found.before, found.after, strict=True)
                for row in (_row(before, "before"), _row(after, "after"))
            ],
        )
    )
    if any(decay.probed for decay in (*found.before, *found.after)):
        words = (
            "Where the output layer hands no gradient down (it starts at zero, or takes another step's maximum), that "
            "of a direction drawn at random in the last output stands for that of the loss."
        )
        pieces.append(paragraph(words, kind="quiet"))
    return "".join(pieces)


def _short(track: str) -> str:
    """The name of a layer where many stand side by side."""
    return track.replace(", backwards", " ←")


def _line(decay: Decay, name: str, colour: str, *, dashed: bool) -> Line:
    norms = decay.norms.tolist()
    first = norms[0] if norms and norms[0] > 0 else 0.0
    points = [(k, norm / first) for k, norm in enumerate(norms, 1) if first and norm > 0]
    return Line(name, points, colour, dashed=dashed)


def _row(decay: Decay, when: str) -> tuple[object, ...]:
    if decay.word == "none":
        return decay.track, when, "–", "–", "–", "no gradient"
    half = decay.half_life
    time = f"{half:.3g}" if 0 < half < 1e4 else f"doubles in {-half:.3g}" if -1e4 < half < 0 else "stays"
    return decay.track, when, f"× {decay.rate:.3f}", time, f"{decay.left:.1e}", decay.word


# Gates


def _saturation(found: Look, *, short: bool) -> str:
    if not found.saturation:
        return paragraph("This cell has no gate: nothing in it is the value of a sigmoid.", kind="quiet")
    words = (
        "A gate is shut below 0.1 and open above 0.9. A forget gate (f of an LSTM) that is always open, or an update "
        "gate (z of a GRU), belongs to a unit that remembers for long (Karpathy, Johnson & Fei-Fei 2015)."
    )
    rows = [
        (
            one.track,
            one.gate,
            f"{one.low:.1%}",
            f"{one.high:.1%}",
            f"{one.always_low:.1%}",
            f"{one.always_high:.1%}",
        )
        for one in found.saturation
    ]
    header = ["layer", "gate", "shut", "open", "units always shut", "units always open"]
    pieces = [paragraph(words, kind="quiet"), table(header, rows)]
    if not short:
        panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for one in found.saturation:
            points = list(zip(one.units_high.tolist(), one.units_low.tolist(), strict=True))
            panels.setdefault(f"gate {one.gate}", {})[one.track] = points
        chart = squares(panels, "share of steps open", "share of steps shut")
        caption = "A point is a unit. In the lower right corner the gate is always open, in the upper left always shut."
        pieces.append(figure(chart, caption))
    else:
        always = "Always: in 9 of 10 steps."
        pieces.append(paragraph(always, kind="quiet"))
    return "".join(pieces)


# States


def _maps(found: Look, inside: Inside, *, short: bool) -> str:
    where = f" ({found.example.place})" if found.example.place else ""
    words = (
        f"One sequence{where}; a row is a unit, a column is what it holds after reading a step. "
        f"Shown are the {UNITS} units that vary most, those that move alike next to one another."
    )
    pieces = [paragraph(words, kind="quiet")]
    if short:
        track = found.example_tracks[found.shown]
        return pieces[0] + _map(track, *_memory(track), found, inside, signed=True)
    for track in found.example_tracks:
        name, values = _memory(track)
        others = [
            *(
                _map(track, f"{other}, state", own, found, inside, signed=True, as_in=values)
                for other, own in track.states.items()
                if name not in {f"{other}, state", f"tanh {other}, state"}
            ),
            *(
                _map(track, f"{gate}, gate", own, found, inside, signed=False, as_in=values)
                for gate, own in track.gates.items()
            ),
            *(
                _map(track, f"{gate}, candidate", own, found, inside, signed=True, as_in=values)
                for gate, own in track.candidates.items()
            ),
        ]
        pieces.append(_map(track, name, values, found, inside, signed=True))
        if others:
            pieces.append(
                details(f"{track.name}: the other states and the gates of the same units", "".join(others))
            )
    return "".join(pieces)


def _memory(track: Track) -> tuple[str, Any]:
    name, values = track.memory
    return f"{name}, state", values


def _map(
    track: Track,
    name: str,
    values: Any,
    found: Look,
    inside: Inside,
    *,
    signed: bool,
    as_in: Any = None,
) -> str:
    """as_in: the values by which the units are chosen and ordered; only where they are as many."""
    from elman.nn.inspection import alike_together, most_varying

    like = values if as_in is None or as_in.shape != values.shape else as_in
    chosen = most_varying(like, UNITS)
    chosen = [chosen[place] for place in alike_together(like[:, 0, chosen])]
    T = most_steps(inside, found.example.names)
    rows = values[:T, 0, chosen].T
    limit = float(rows[rows.isfinite()].abs().max()) if bool(rows.isfinite().any()) else 1.0
    chart = activity_map(
        rows.tolist(),
        chosen,
        found.example.names[:T],
        title=f"{track.name}: {name}",
        signed=signed,
        limit=(limit or 1.0) if signed else 1.0,
        dense=inside.dense,
        x_name="" if inside.dense else inside.unit,
    )
    return figure(chart)


# Units


def _units(found: Look, inside: Inside) -> str:
    words = (
        f"Units of {found.units[0].layer} at their highest and their lowest in the {found.part} data. Blue is above "
        f"zero, red below, the colour after reading each step; the extreme has a frame."
    )
    return paragraph(words, kind="quiet") + "".join(_unit(unit, found, inside) for unit in found.units)


def _unit(unit: Unit, found: Look, inside: Inside) -> str:
    head = f"Unit {unit.number} ({unit.value}, full colour at {unit.limit:.2g})"
    if unit.means is not None:
        most = 5 if max(len(name) for name, _ in unit.means.highest) <= 8 else 3
        high, low = (
            ", ".join(f"{_shown(name)} {signed(value)}" for name, value in own[:most])
            for own in (unit.means.highest, unit.means.lowest)
        )
        head += f". In the mean highest after {high}; lowest after {low}."
    kinds = [("high", one) for one in unit.highest] + [("low", one) for one in unit.lowest]
    if inside.dense:
        rows = [(kind, _text(unit, one, found, inside), signed(one.value)) for kind, one in kinds]
        return paragraph(head) + table(["", f"the {inside.unit} around it", "value"], rows)
    return paragraph(f"{head}.") + _curves(unit, found, inside)


def _shown(name: str) -> str:
    return NOTHING.get(name, name)


def _text(unit: Unit, one: Stretch, found: Look, inside: Inside) -> str:
    reading = found.readings[one.row]
    values = unit.values[one.start : one.end, one.row].tolist()
    return coloured(
        reading.names[one.start : one.end],
        values,
        unit.limit,
        joined=inside.joined,
        peak=one.peak - one.start,
    )


def _curves(unit: Unit, found: Look, inside: Inside) -> str:
    """The sequences that hold the extremes: what was read on a ground of the unit's colours."""
    rows: dict[int, list[Stretch]] = {}
    for one in (*unit.highest, *unit.lowest):
        rows.setdefault(one.row, []).append(one)
    return "".join(_curve(unit, row, own, found, inside) for row, own in list(rows.items())[:CURVES])


def _curve(unit: Unit, row: int, own: list[Stretch], found: Look, inside: Inside) -> str:
    reading = found.readings[row]
    values = unit.values[: len(reading.names), row].tolist()
    words = ", ".join(f"{signed(one.value)} at {reading.names[one.peak]}" for one in own)
    chart = lit_curve(
        reading.curve,
        values,
        unit.limit,
        reading.names,
        peaks=[one.peak for one in own],
        x_name=inside.unit,
        y_name="what is read" if reading.curve else f"unit {unit.number}",
    )
    return figure(chart, f"{reading.place}: {words}" if reading.place else words)
