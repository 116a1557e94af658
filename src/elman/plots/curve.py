"""The learning curve of a run, from its log."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from elman.config import UserError
from elman.files import read_events
from elman.plots import theme
from elman.plots.files import write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": theme.INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "elman",
    "axes.edgecolor": theme.FAINT,
    "axes.labelcolor": theme.MUTED,
    "xtick.color": theme.MUTED,
    "ytick.color": theme.MUTED,
}
MANY = 150
LARGEST_EXPONENT = 30.0


@dataclass(slots=True)
class Curve:
    """Points (step, value) of both texts in the run's own measure, and what is known of the run."""

    measure: str = "loss"
    epoch_steps: int = 0
    train: dict[int, float] = field(default_factory=dict)
    valid: dict[int, float] = field(default_factory=dict)
    kept: int | None = None

    @property
    def best(self) -> tuple[int, float] | None:
        """The step whose model was kept as the best one; without word of it, the first of the lowest value."""
        if self.kept in self.valid:
            return self.kept, self.valid[self.kept]
        return min(self.valid.items(), key=lambda point: (point[1], point[0]), default=None)

    @property
    def spread(self) -> float:
        """The largest value over the smallest."""
        values = [*self.train.values(), *self.valid.values()]
        return max(values) / min(values) if values and min(values) > 0 else 1.0


def learning_curve(log: Path, picture: Path, *, title: str) -> Path:
    """Draw loss over steps, for training and validation text, as PNG and as SVG beside each other.

    The log has one JSON object a line; drawn are the events "train" and "valid" with "step" and "loss" (nats). The
    first event names the "measure": "perplexity" (exp of the loss), "bits per ..." (loss / ln 2) or else the loss.

    Args:
        log: the run's log.
        picture: where to write, ending in .png or .svg; the other one gets the same name.
        title: the run.

    Returns:
        `picture`.

    Raises:
        UserError: no such log, or another ending.
    """
    if picture.suffix not in {".png", ".svg"}:
        raise UserError(f"a learning curve is drawn as .png and .svg, not as {picture.name}")
    if not log.is_file():
        raise UserError(f"there is no log {log}; training writes one")
    import matplotlib as mpl

    with mpl.rc_context(SETTINGS):  # type: ignore[arg-type]
        figure = _figure(read_curve(log), title)
        for suffix in ("png", "svg"):
            write(picture.with_suffix(f".{suffix}"), _rendered(figure, suffix))
    return picture


def read_curve(log: Path) -> Curve:
    """The points of a log; lines that are no events and values that are not finite are left out."""
    curve = Curve()
    for event in read_events(log):
        curve.measure = str(event.get("measure", curve.measure))
        curve.epoch_steps = int(event.get("epoch_steps", curve.epoch_steps))
        points = {"train": curve.train, "valid": curve.valid}.get(str(event.get("event")))
        step, loss = event.get("step"), event.get("loss")
        if points is None or not isinstance(step, int) or not isinstance(loss, int | float):
            continue
        if math.isfinite(loss):
            points[step] = in_measure(loss, curve.measure)
        curve.kept = step if event.get("best") else curve.kept
    return curve


def in_measure(loss: float, measure: str) -> float:
    """A loss in nats as perplexity or bits."""
    if measure == "perplexity":
        return math.exp(min(loss, LARGEST_EXPONENT))
    return loss / math.log(2) if measure.startswith("bits") else loss


def smooth(values: Sequence[float], share: float = 0.03) -> list[float]:
    """The mean of each value and its neighbours, `share` of all values wide; narrower at the steep start."""
    reach = max(1, round(len(values) * share / 2))
    windows = (
        values[place - min(reach, place) : place + min(reach, place) + 1] for place in range(len(values))
    )
    return [sum(window) / len(window) for window in windows]


def _figure(curve: Curve, title: str) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), dpi=180, facecolor=theme.PAPER)
    axes = figure.add_axes((0.085, 0.125, 0.885, 0.665), facecolor=theme.PAPER)
    figure.text(0.03, 0.925, title, fontsize=15, fontweight="bold")
    figure.text(0.03, 0.872, _summary(curve), color=theme.MUTED)
    _frame(axes, curve)
    _lines(axes, curve)
    if curve.train or curve.valid:
        _scales(axes, curve)
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.2)
    else:
        axes.set(xticks=[], yticks=[])
    return figure


def _summary(curve: Curve) -> str:
    if curve.best:
        step, value = curve.best
        return f"{curve.measure} of the validation text: best {shown(value)} at step {step:,}"
    if curve.train:
        step, value = max(curve.train.items())
        return f"{curve.measure} of the training text: {shown(value)} at step {step:,}"
    return "nothing measured yet: the log has no point of training or validation"


def shown(value: float) -> str:
    """A value with about four digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _frame(axes: "Axes", curve: Curve) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="y", color=theme.FRAME, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6)
    epoch = f"; {curve.epoch_steps:,} steps are one epoch" if curve.epoch_steps else ""
    axes.set_xlabel(f"step{epoch}", labelpad=8)


def _lines(axes: "Axes", curve: Curve) -> None:
    steps, values = list(curve.train), list(curve.train.values())
    marker = "o" if len(steps) == 1 else ""
    if len(steps) > MANY:
        axes.plot(steps, values, color=theme.INPUT, alpha=0.25, linewidth=0.8)
        values = smooth(values)
    if steps:
        axes.plot(steps, values, color=theme.INPUT, linewidth=1.8, marker=marker, label="training")
    if curve.best:
        places, heights = list(curve.valid), list(curve.valid.values())
        size = 5 if len(places) <= 40 else 0
        axes.plot(
            places,
            heights,
            color=theme.RECURRENT,
            linewidth=1.8,
            marker="o",
            markersize=size,
            label="validation",
        )
        axes.plot(
            *curve.best, "o", markersize=10, markerfacecolor="none", color=theme.RECURRENT, label="best"
        )


def _scales(axes: "Axes", curve: Curve) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    plain = FuncFormatter(lambda value, _: f"{value:,.12g}")
    last = max([*curve.train, *curve.valid])
    axes.set_xlim(0, last * 1.02 or 1)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter(plain)
    if curve.spread > 4:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if curve.spread < 1e4 else (1,)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.minorticks_off()
    axes.yaxis.set_major_formatter(plain)
    axes.margins(y=0.12)


def _rendered(figure: "Figure", suffix: str) -> bytes:
    picture = BytesIO()
    made_on = {"Date": None} if suffix == "svg" else {"Software": None}
    figure.savefig(picture, format=suffix, metadata=made_on)
    return picture.getvalue()
