"""The pictures of the gallery, each made of what a command has said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elman.plots import theme
from elman.plots.canvas import Area, Canvas, Label, Rectangle
from elman.plots.heat import colour
from elman.plots.svg import svg
from elman.plots.text import width

__all__ = ["forecast", "sound", "weighed"]

BLUE, RED, INK = "#0b62a8", "#c8431d", "#2b333d"
WIDE, SIZE, LINE = 760.0, 17.0, 34.0


def weighed(answers: Sequence[dict[str, Any]], picture: Path) -> None:
    """Texts, each word on the colour of its weight: blue for the answer, red against it; and the answer."""
    title = "What each text says, and which words weighed"
    canvas = Canvas(title)
    canvas.add(Label(36, 48, title, theme.TITLE, bold=True))
    y = 98.0
    for answer in answers:
        label = answer["label"]
        p = f"{label} {answer['probabilities'][label]:.2f}"
        canvas.add(Label(36, y, p, SIZE, bold=True))
        x, top = 176.0, max(abs(one["weight"]) for one in answer["words"]) or 1.0
        weights = {one["start"]: one["weight"] for one in answer["words"]}
        for found in re.finditer(r"\S+", answer["text"]):
            word = found[0]
            if x + width(word, SIZE) > 36 + WIDE:
                x, y = 176.0, y + LINE
            weight = weights.get(found.start(), 0.0) / top
            if abs(weight) > 0.08:
                area = Area(x - 4, y - 18, x + width(word, SIZE) + 4, y + 7)
                canvas.add(Rectangle(area, colour(0.55 * weight), radius=4))
            canvas.add(Label(x, y, word, SIZE))
            x += width(word, SIZE) + 10
        y += 1.45 * LINE
    canvas.add(Label(36, y, "blue: for the answer, red: against it", theme.SMALL, colour=theme.MUTED))
    picture.write_text(svg(canvas.close((WIDE + 72, y + 28))), encoding="utf-8")


def _figure(height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, height), dpi=100, layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure, axes


def sound(samples: Any, rate: int, words: Sequence[dict[str, Any]], picture: Path) -> None:
    """A spectrogram of a recording, above it the words that were heard, from where to where."""
    figure, axes = _figure(3.2)
    axes.specgram(samples, NFFT=256, Fs=rate, noverlap=224, cmap="Blues", vmin=-56, vmax=-30)
    axes.set_ylim(400, 2250)
    for word in words:
        middle = (word["start"] + word["end"]) / 2
        axes.plot([word["start"], word["end"]], [1800, 1800], color=RED, linewidth=2.5)
        axes.text(middle, 1880, word["word"], ha="center", fontsize=17, color=INK, weight="bold")
    axes.set_xlabel("seconds", fontsize=9)
    axes.set_ylabel("Hz", fontsize=9)
    figure.savefig(picture)


def forecast(
    past: Sequence[float], rows: Sequence[dict[str, float]], truth: Sequence[float], picture: Path
) -> None:
    """What was known, what may come (median, low, high of each row ahead), and what came."""
    figure, axes = _figure(3.4)
    before, ahead = np.arange(-len(past) + 1, 1), np.arange(1, len(rows) + 1)
    low, median, high = ([row[word] for row in rows] for word in ("low", "median", "high"))
    axes.fill_between(ahead, low, high, color=BLUE, alpha=0.2, linewidth=0, label="90 % should lie here")
    axes.plot(before, past, color=INK, linewidth=1.2, label="seen")
    axes.plot(ahead, median, color=BLUE, linewidth=2, label="median")
    axes.plot(ahead, truth, color=RED, linewidth=1.4, marker=".", label="what came")
    axes.set_xlabel("days from the last one that was seen", fontsize=9)
    axes.set_ylabel("visitors", fontsize=9)
    axes.set_xlim(before[0], ahead[-1] + 0.5)
    axes.legend(fontsize=8, frameon=False, loc="upper left", ncols=4)
    axes.set_ylim(0, 1.2 * max(*past, *truth, *high))
    figure.savefig(picture)
