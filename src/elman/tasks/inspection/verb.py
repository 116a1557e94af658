"""`elman inspect RUN`: a page about what goes on inside a trained network, and the short of it on the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from elman.config import Count, Flag, UserError, Whole, option
from elman.data.inputs import check_inputs
from elman.files import write_bytes
from elman.page import document
from elman.tasks.inspection.looking import Look, Unit, Wanted, look
from elman.tasks.inspection.reading import Inside, Reading
from elman.tasks.inspection.shown import counted, most_steps, sections_of
from elman.tasks.replacing import check_page_replaced

if TYPE_CHECKING:
    from elman.nn.inspection import Stretch

__all__ = ["Inspect", "inspect"]


@dataclass(frozen=True)
class Inspect:
    """Flags of `elman inspect`, the same for all tasks."""

    inputs: tuple[str, ...] = option(
        (),
        "a file whose first sequence is shown over time (none: the first of the data)",
        unit="FILE",
        positional=True,
    )
    text: str = option("", "a text that is shown over time", unit="TEXT")
    layer: Whole = option(0, "layer whose units are shown, from 1 as listed (0: the last one)", unit="NUMBER")
    unit: tuple[str, ...] = option((), "units that are shown (none: those that vary most)", unit="NUMBER")
    units: Count = option(3, "how many units, where none is named", unit="COUNT", needs={"unit": False})
    to: str = option("", "the page (empty: inspect.html in the run's own folder)", unit="FILE")
    json: Flag = option(False, "print the measures as one JSON object")
    checkpoint: Literal["best", "last"] = option("best", "the model at its best validation, or the last one")

    def check(self) -> None:
        """Raise UserError for a file that is not there, and for what is no number of a unit."""
        if self.inputs:
            check_inputs(self.inputs)
        if len(self.inputs) > 1 or (self.inputs and self.text):
            raise UserError("one sequence is shown over time: give one FILE, or --text, not both")
        for word in self.unit:
            if not word.isdecimal():
                raise UserError(f"--unit {word} is no number of a unit; expected 0, 1, ...")

    @property
    def wanted(self) -> Wanted:
        """The layer and the units."""
        return Wanted(self.layer, tuple(map(int, self.unit)), self.units)


def inspect(trained: Any, settings: Inspect) -> Iterator[str]:
    """Look inside; gives what was found in lines, and at the end the path of the page."""
    inside = trained.inside()
    if isinstance(inside, str):
        raise UserError(inside)
    path = Path(settings.to) if settings.to else trained.run.path / "inspect.html"
    check_page_replaced(path)
    example = _example(inside, settings)
    found = look(trained, inside, example=example, wanted=settings.wanted)
    write_bytes(path, _page(trained, found, inside).encode())
    if settings.json:
        import json

        yield json.dumps({**as_json(found), "page": str(path)}, ensure_ascii=False) + "\n"
        return
    yield from lines_of(found, inside, colour=_in_colour())
    shown = most_steps(inside, found.example.names)
    if example is not None and len(example.names) > shown:
        sys.stderr.write(f"the heat maps show the first {shown} of {len(example.names):,} {inside.unit}\n")
    yield f"\n{path}\n"


def _example(inside: Inside, settings: Inspect) -> Reading | None:
    if settings.text:
        return inside.of_text(settings.text)
    return inside.of_file(settings.inputs[0]) if settings.inputs else None


def _page(trained: Any, found: Look, inside: Inside) -> str:
    task = trained.run.entry("task")
    size = sum(len(reading.names) for reading in found.readings)
    steps = "steps" if inside.unit == "seconds" else inside.unit
    about = f"{task}; {counted(len(found.readings), 'sequence')} of the {found.part} data, {size:,} {steps}"
    footer = (
        f"Made by `elman inspect` from the run folder {trained.run.path.name}; this file needs no network."
    )
    sections = sections_of(found, inside, short=False)
    return document(f"Inside {trained.run.path.name}", [about], sections, footer)


def as_json(found: Look) -> dict[str, Any]:
    """The measures, for a program."""
    return {
        "part": found.part,
        "gradient": [
            {
                "layer": decay.track,
                "when": when,
                "rate": decay.rate,
                "half_life": decay.half_life,
                "left": decay.left,
                "word": decay.word,
                "norms": decay.norms.tolist(),
                "probed": decay.probed,
            }
            for when, own in (("before", found.before), ("after", found.after))
            for decay in own
        ],
        "saturation": [
            {"layer": one.track, "gate": one.gate, "shut": one.low, "open": one.high}
            for one in found.saturation
        ],
        "units": [
            {"layer": unit.layer, "unit": unit.number, "highest": [one._asdict() for one in unit.highest]}
            for unit in found.units
        ],
    }


# The terminal


def _in_colour() -> bool:
    return sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def lines_of(found: Look, inside: Inside, *, colour: bool) -> Iterator[str]:
    """The gradient, the gates, the units, in lines."""
    yield "gradient over time\n"
    for when, decays in (("before training", found.before), ("after training", found.after)):
        for decay in decays:
            yield f"  {when}, {decay}\n"
    if found.saturation:
        yield "\nsaturated gates: shut (< 0.1), open (> 0.9)\n"
        wide = max(len(one.track) for one in found.saturation)
        tall = max(len(one.gate) for one in found.saturation)
        for one in found.saturation:
            yield f"  {one.track:<{wide}}  {one.gate:<{tall}}  {one.low:6.1%}  {one.high:6.1%}\n"
    yield f"\nunits of {found.units[0].layer}, at their highest in the {found.part} data\n"
    for unit in found.units:
        yield f"  unit {unit.number} ({unit.value})\n"
        for peak in unit.highest:
            yield f"    {peak.value:+.2f}  {_stretch(unit, peak, found, inside, colour=colour)}\n"


def _stretch(unit: Unit, one: Stretch, found: Look, inside: Inside, *, colour: bool) -> str:
    from elman.page.activity import NOTHING

    reading = found.readings[one.row]
    if not inside.dense:
        return f"{reading.place + ', ' if reading.place else ''}{reading.names[one.peak]}"
    names = [name if name == " " else NOTHING.get(name, name) for name in reading.names[one.start : one.end]]
    values = unit.values[one.start : one.end, one.row].tolist()
    if colour:
        return inside.joined.join(
            _painted(name, value / unit.limit) for name, value in zip(names, values, strict=True)
        )
    peak = one.peak - one.start
    return inside.joined.join([*names[:peak], f"»{names[peak]}«", *names[peak + 1 :]])


def _painted(name: str, part: float) -> str:
    """On a ground from white to blue (above zero) or red, in black or white letters."""
    share = min(1.0, abs(part))
    end = (11, 98, 168) if part > 0 else (200, 67, 29)
    red, green, blue = (round(255 + (high - 255) * share) for high in end)
    ink = "30" if share < 0.6 else "97"
    return f"\x1b[{ink};48;2;{red};{green};{blue}m{name}\x1b[0m"
