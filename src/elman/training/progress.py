"""Progress on the terminal: a bar where there is one, a line now and then where there is not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

__all__ = ["Bar", "Display", "Glance", "Lines", "Reading", "Silent", "duration", "fitted", "for_console"]

LINE_SECONDS = 10.0


class Glance(NamedTuple):
    """How it stands: share done (0 to 1), epoch of epochs, the loss and its measure as text, speed, seconds left."""

    done: float
    epoch: str
    figures: str
    speed: str
    left: float | None


class Display(Protocol):
    """Where a training shows how it stands."""

    def open(self) -> None:
        """Begin."""

    def show(self, glance: Glance) -> None:
        """Replace what was shown."""

    def note(self, text: str) -> None:
        """Print a line that stays."""

    def close(self) -> None:
        """End."""


def duration(seconds: float | None) -> str:
    """`1:02:03`, `2:03`."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# What a narrow line does without, the first the first; figures, the share and the time left stay.
SPARED = ("speed", "epoch")
# Of the narrowest bar, with the spaces between six columns and the percentage.
BAR_WIDTH, SPACES, PERCENTAGE = 4, 5, 4


def fitted(fields: Mapping[str, str], width: int) -> dict[str, str]:
    """The fields of a bar that fit into a line of `width` characters: some go as a whole, none is cut."""
    kept = dict(fields)
    for name in SPARED:
        if sum(map(len, kept.values())) + BAR_WIDTH + SPACES + PERCENTAGE > width:
            kept[name] = ""
    return kept


class Bar:
    """A bar on a terminal."""

    def __init__(self, console: Console) -> None:
        """Draw on `console`."""
        self.console = console
        # Only the bar gives way where the line is short.
        whole = Column(no_wrap=True, min_width=PERCENTAGE)
        self._progress = Progress(
            TextColumn("{task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%", table_column=whole),
            TextColumn("[bold]{task.fields[figures]}"),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[left]}"),
            console=console,
            refresh_per_second=4,
            expand=True,
        )
        self._task = self._progress.add_task("", total=1.0, epoch="", figures="", speed="", left="")

    def open(self) -> None:
        """Begin to draw."""
        self._progress.start()

    def show(self, glance: Glance) -> None:
        """Move the bar."""
        left = f"{duration(glance.left)} left"
        fields = {"epoch": glance.epoch, "figures": glance.figures, "speed": glance.speed, "left": left}
        shown: dict[str, Any] = {**fitted(fields, self.console.width)}
        self._progress.update(self._task, completed=glance.done, **shown)

    def note(self, text: str) -> None:
        """Print above the bar."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._progress.stop()


class Lines:
    """A line every ten seconds, for files and pipes."""

    def __init__(self, console: Console) -> None:
        """Print on `console`."""
        self.console = console
        self._next = 0.0

    def open(self) -> None:
        """Wait for the first ten seconds."""
        self._next = time.monotonic() + LINE_SECONDS

    def show(self, glance: Glance) -> None:
        """Print a line if it is time."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_SECONDS
            parts = (
                f"{glance.done:4.0%}",
                glance.epoch,
                glance.figures,
                glance.speed,
                f"{duration(glance.left)} left",
            )
            self.note("  ".join(parts))

    def note(self, text: str) -> None:
        """Print a line, however long."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing is left to do."""


class Silent:
    """Shows nothing."""

    def open(self) -> None:
        """Nothing."""

    def show(self, glance: Glance) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Reading:
    """What is read before the training, as a display shows it; `elman.data.watching` tells it."""

    def __init__(self, display: Display) -> None:
        """Nothing is shown yet."""
        self._display = display
        self._what = ""
        self._begun = 0.0

    def __call__(self, what: str, done: float) -> None:
        """Show how far something is."""
        now = time.monotonic()
        if not self._what:
            self._display.open()
        if what != self._what:
            self._what, self._begun = what, now
        left = (now - self._begun) * (1 - done) / done if done else None
        self._display.show(Glance(done, f"{what} the text", "", "", left))

    def __enter__(self) -> Reading:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End, where anything was shown."""
        if self._what:
            self._display.close()


def for_console(console: Console) -> Display:
    """A bar on a terminal, lines elsewhere."""
    return Bar(console) if console.is_terminal and not console.is_dumb_terminal else Lines(console)
