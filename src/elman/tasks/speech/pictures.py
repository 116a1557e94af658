"""A recording as a picture: its features above, the chances of the symbols over the same time below."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from elman.page import COLOURS, text
from elman.tasks.speech.hearing import Heard, step_seconds
from elman.tasks.speech.recordings import Codec
from elman.tasks.speech.settings import FeatureSettings

__all__ = ["heard_picture"]

WIDTH, LEFT, RIGHT = 860, 56, 12
TOP, TALL, GAP, LOW, WORDS = 8, 150, 8, 110, 44
# Symbols that never have this chance have no line.
SHOWN = 0.2
# Columns of the features, and how many shades they have.
COLUMNS, SHADES = 220, 10


def heard_picture(
    frames: npt.NDArray[np.float32],
    logs: Any,
    found: Heard,
    codec: Codec,
    features: FeatureSettings,
    name: str,
) -> str:
    """An SVG of a recording: features `(T, F)`, log p `(steps, V)`, and the words."""
    hop = codec.mel.hop / codec.mel.rate
    seconds = max(len(frames) * hop, hop)
    across = (WIDTH - LEFT - RIGHT) / seconds
    parts = [_image(frames), *_bands(codec), *_chances(logs, codec, features, across)]
    parts += [*_named(found, across), *_seconds(seconds, across)]
    height = TOP + TALL + GAP + LOW + WORDS
    label = f"the {name} recording: features, and chances of the symbols"
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{text(label)}">{"".join(parts)}</svg>'


def _image(frames: npt.NDArray[np.float32]) -> str:
    """The features in shades, dark where it is loud: a path for each shade, of runs of equal cells."""
    cells = _columns(frames)
    low, high = np.quantile(cells, [0.05, 0.995]) if len(cells) else (0.0, 1.0)
    loud = np.clip((cells - low) / max(float(high - low), 1e-6), 0, 1)
    levels = np.round(loud * (SHADES - 1)).astype(np.int64)[:, ::-1].T
    wide, tall = (WIDTH - LEFT - RIGHT) / max(len(cells), 1), TALL / cells.shape[1]
    runs: list[list[str]] = [[] for _ in range(SHADES)]
    for row, values in enumerate(levels):
        cuts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
        y = f"{TOP + row * tall:.1f}"
        for begin, end in pairwise(cuts):
            if end > begin and values[begin]:
                x, size = LEFT + begin * wide, (end - begin) * wide
                runs[int(values[begin])].append(f"M{x:.1f} {y}h{size:.1f}v{tall:.1f}h{-size:.1f}z")
    paths = "".join(
        f'<path fill-opacity="{level / (SHADES - 1):.2f}" d="{"".join(own)}"/>'
        for level, own in enumerate(runs)
        if own
    )
    return f'<g fill="currentColor" shape-rendering="crispEdges">{paths}</g>'


def _columns(frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """At most `COLUMNS` frames, each the mean of its neighbours."""
    if len(frames) <= COLUMNS:
        return frames
    return np.stack([piece.mean(axis=0) for piece in np.array_split(frames, COLUMNS)])


def _bands(codec: Codec) -> list[str]:
    """The edges of the bands, in hertz."""
    place = f'x="{LEFT - 6}" text-anchor="end" class="tick"'
    return [
        f'<text {place} y="{TOP + 10}">{codec.mel.high / 1000:.1f} kHz</text>',
        f'<text {place} y="{TOP + TALL}">{codec.mel.low:g} Hz</text>',
    ]


def _chances(logs: Any, codec: Codec, features: FeatureSettings, across: float) -> list[str]:
    """A line for each symbol that comes to be likely, with its name at its peaks."""
    p = np.exp(logs.double().numpy())
    seconds = step_seconds(codec, features)
    base = TOP + TALL + GAP + LOW
    parts = [f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>']
    at = LEFT + (np.arange(len(p)) + 0.5) * seconds * across
    best = p.argmax(axis=1) if len(p) else np.zeros(0, dtype=np.int64)
    for number in range(1, p.shape[1]):
        own = p[:, number]
        if not len(own) or own.max() < SHOWN:
            continue
        points = " ".join(f"{x:.1f},{base - (LOW - 16) * y:.1f}" for x, y in zip(at, own, strict=True))
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<polyline class="faint" points="{points}" style="stroke: {colour}; opacity: 0.9"/>')
        parts += _letters(own, best == number, codec.symbols.names[number - 1], at, base, colour)
    return parts


def _letters(own: Any, best: Any, name: str, at: Any, base: float, colour: str) -> list[str]:
    """The symbol over each of its spikes."""
    parts = []
    begins = [t for t in range(len(own)) if best[t] and (t == 0 or not best[t - 1])]
    for begin in begins:
        end = begin
        while end + 1 < len(own) and best[end + 1]:
            end += 1
        t = begin + int(own[begin : end + 1].argmax())
        y = base - (LOW - 16) * float(own[t]) - 4
        shown = "␣" if name == " " else text(name)
        place = f'x="{at[t]:.1f}" y="{y:.1f}" text-anchor="middle"'
        parts.append(f'<text class="tick" {place} style="fill: {colour}">{shown}</text>')
    return parts


def _named(found: Heard, across: float) -> list[str]:
    y = TOP + TALL + GAP + LOW + 16
    return [
        f'<text x="{LEFT + (word.start + word.end) / 2 * across:.1f}" y="{y}" text-anchor="middle" '
        f'style="font-size: 13px; fill: currentColor">{text(word.word)}</text>'
        for word in found.words
    ]


def _seconds(seconds: float, across: float) -> list[str]:
    step = next(size for size in (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 600, 1e9) if seconds / size <= 10)
    y = TOP + TALL + GAP + LOW + 38
    times = [number * step for number in range(int(seconds / step) + 1)]
    return [
        f'<text class="tick" x="{LEFT + at * across:.1f}" y="{y}" text-anchor="middle">{at:g} s</text>'
        for at in times
    ]
