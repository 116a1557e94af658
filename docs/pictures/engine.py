"""Draw the path of a call through the engine: python docs/pictures/engine.py [FILE.png].

Writes engine.svg beside this file, as `docs/engine.md` shows it; a name given is written too.
"""

import itertools
import sys
from pathlib import Path

from elman.plots import theme
from elman.plots.canvas import Area, Canvas, Label, Rectangle, arrow, centred
from elman.plots.files import save

LEFT, WIDE = 30.0, 1200.0
TALL = 74.0  # a box
ONCE, WATCHED, LOOP, ROWS = "#eef1f5", "#eaf2f9", "#fff4e6", "#e8f4ee"

# What happens, the file that does it, and how.
FIRST = (
    ("the step", "the user's cell", "is watched"),
    ("record", "tracing/record.py", "at two batch sizes"),
    ("merge", "tracing/merge.py", "one graph"),
    ("passes", "lowering/passes.py", "a list of rewrites"),
    ("lower", "lowering/lower.py", "into sections"),
    ("kernels", "backends/", "core or reference"),
    ("verify", "trust/verify.py", "against the loop"),
)
ASKED = (
    ("like the last call?", "call/quick.py", "shapes, kinds, modes"),
    ("inputs by role", "call/inputs.py", "checked before any work"),
    ("still the same step?", "watching/guards.py", "all that it reads, by place"),
    ("run", "call/run.py", "in one call of the core, or by parts"),
)
FORWARD = (
    ("static", "once a call:", "weights turned, joined"),
    ("hoisted", "once, all T·B rows:", "W x_t"),
    ("loop", "T times:", "U h_{t−1}, the gates"),
    ("trailing", "once, all T·B rows:", "V h_t"),
)
BACKWARD = (
    ("final", "once a call:", "what is left, on the sums"),
    ("post", "once, all T·B rows:", "dx, and sums for dW, dU"),
    ("loop back", "T times:", "dh_{t−1}, from dh_t"),
    ("pre", "once, all T·B rows:", "what needs no dh_t"),
)
QUESTIONS = (190.0, 464.0, 738.0, 1012.0)  # the middles of their boxes
SECTIONS = (205.0, 464.0, 738.0, 1012.0)
HALF = 115.0  # of such a box


class Sheet:
    """A canvas with the boxes and arrows of this picture."""

    def __init__(self, title: str) -> None:
        """An empty sheet."""
        self.canvas = Canvas(title)
        self.canvas.add(Label(LEFT, 46, title, theme.TITLE, bold=True))

    def band(self, top: float, bottom: float, title: str, told: str) -> None:
        """A strip of the sheet, which says when its boxes run."""
        self.canvas.add(
            Rectangle(Area(LEFT, top, LEFT + WIDE, bottom), theme.PANEL),
            Label(LEFT + 16, top + 27, title, theme.HEADING, bold=True),
            Label(LEFT + WIDE - 16, top + 27, told, theme.SMALL, colour=theme.MUTED, anchor="end"),
        )

    def box(self, x: float, y: float, wide: float, fill: str, *lines: str) -> Area:
        """A box around (x, y): a name, then smaller lines."""
        area = Area(x - wide / 2, y - TALL / 2, x + wide / 2, y + TALL / 2)
        self.canvas.add(Rectangle(area, fill, theme.FAINT))
        for i, line in enumerate(lines):
            at = y + (i - (len(lines) - 1) / 2) * 20
            name = Label(x, at + 5, line, theme.BODY, anchor="middle", bold=True)
            self.canvas.add(name if i == 0 else centred(x, at, line, size=13, colour=theme.MUTED))
        return area

    def sign(self, x: float, y: float, text: str) -> None:
        """A value that goes in or comes out."""
        self.canvas.add(centred(x, y, text, size=theme.MATH, style="math"))

    def go(self, *points: tuple[float, float], dash: tuple[float, ...] = (), colour: str = theme.INK) -> None:
        """An arrow along these points."""
        self.canvas.add(arrow(*points, dash=dash, colour=colour))


def first_call(sheet: Sheet, top: float) -> None:
    """From the step to kernels that are believed."""
    sheet.band(
        top,
        top + 148,
        "The first call of its kind",
        "scan.py asks for it; kept while what the step reads is the same",
    )
    apart = WIDE / len(FIRST)
    middles = [LEFT + (i + 0.5) * apart for i in range(len(FIRST))]
    y = top + 92
    for x, lines in zip(middles, FIRST, strict=True):
        sheet.box(x, y, apart - 24, ONCE, *lines)
    for x in middles[:-1]:
        sheet.go((x + apart / 2 - 12, y), (x + apart / 2 + 12, y))


def each_call(sheet: Sheet, top: float) -> float:
    """Questions, then the sections of the forward; how low these stand."""
    sheet.band(top, top + 326, "Each call, forward", "scan.py")
    y, low = top + 108, top + 256
    for x, lines in zip(QUESTIONS, ASKED, strict=True):
        sheet.box(x, y, 2 * HALF, WATCHED, *lines)
    for a, b in itertools.pairwise(QUESTIONS):
        sheet.go((a + HALF, y), (b - HALF, y))
    first, last = QUESTIONS[0], QUESTIONS[-1]
    sheet.go((first, y - TALL / 2), (first, y - 54), (last, y - 54), (last, y - TALL / 2))
    for x, at, answer in ((first + 12, y - 60, "yes"), (first + HALF + 4, y - 7, "no")):
        sheet.canvas.add(Label(x, at, answer, 13, colour=theme.MUTED))
    sheet.sign(44, y, "x, s")
    sheet.go((60, y), (75, y))
    sections(sheet, low, FORWARD)
    sheet.go((last + HALF, y), (1180, y), (1180, y + 68), (66, y + 68), (66, low), (90, low))
    for a, b in itertools.pairwise(SECTIONS):
        sheet.go((a + HALF, low), (b - HALF, low))
    sheet.sign(1200, low, "y, s")
    sheet.go((1127, low), (1182, low))
    return low


def sections(sheet: Sheet, y: float, told: tuple[tuple[str, ...], ...]) -> None:
    """Four sections of a program, from left to right."""
    for x, lines in zip(SECTIONS, told, strict=True):
        fill = LOOP if lines[0].startswith("loop") else ROWS if "rows" in lines[1] else ONCE
        sheet.box(x, y, 2 * HALF, fill, *lines)
        if fill == LOOP:
            side = 70.0 if told is FORWARD else -70.0
            sheet.go(
                (x + side, y - 37), (x + side, y - 54), (x - side, y - 54), (x - side, y - 37),
                colour=theme.RECURRENT,
            )  # fmt: skip


def backward(sheet: Sheet, top: float, low: float) -> None:
    """The sections of the backward, from right to left; what they get from the forward, whose own stand at `low`."""
    sheet.band(top, top + 208, "Backward", "call/run.py, ScanFunction")
    y = top + 118
    sections(sheet, y, BACKWARD)
    for b, a in itertools.pairwise(SECTIONS):
        sheet.go((a - HALF, y), (b + HALF, y))
    for x in SECTIONS[1:]:
        sheet.go((x, low + TALL / 2), (x, y - TALL / 2), dash=(4, 4), colour=theme.MUTED)
    sheet.canvas.add(Label(SECTIONS[-1] + 12, top - 10, "kept for the backward", 13, colour=theme.MUTED))
    sheet.sign(1198, y, "dy, ds")
    sheet.go((1172, y), (1127, y))
    sheet.sign(50, y, "dW")
    sheet.go((90, y), (68, y))
    sheet.sign(464, y + 62, "dx")
    sheet.go((464, y + TALL / 2), (464, y + 53))


def draw() -> Canvas:
    """The whole sheet."""
    sheet = Sheet("The path of a call")
    first_call(sheet, 70)
    backward(sheet, 604, each_call(sheet, 248))
    note = "A step that cannot be seen whole, or whose numbers differ: the plain loop, call/loop.py, which says why."
    sheet.canvas.add(Label(LEFT + 16, 842, note, theme.SMALL))
    return sheet.canvas.close((LEFT * 2 + WIDE, 866))


if __name__ == "__main__":
    for name in [str(Path(__file__).with_suffix(".svg")), *sys.argv[1:]]:
        save(draw(), name)
