"""Pictures of clips: some of their frames side by side, and under them the chances of the tags over time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.video import Skeleton
from elman.page import COLOURS

__all__ = ["Shown", "sheet"]

Floats = npt.NDArray[np.float64]
# Frames side by side, and tags whose chances are drawn.
SIDE_BY_SIDE, LINES = 10, 6


class Shown(NamedTuple):
    """A clip: pictures `(T, H, W, 3)` or features `(T, F)`, and p `(T, K)` over time; rate: frames a second.

    truth: zeros and ones `(T, K)`, drawn as bars, where the moments are known; right: tags that are in the clip.
    """

    title: str
    frames: npt.NDArray[Any]
    p: Floats
    names: Sequence[str]
    rate: float
    right: Sequence[str] = ()
    truth: Any = None
    skeleton: Skeleton | None = None


def sheet(shown: Shown) -> bytes:
    """The picture as a PNG file."""
    from matplotlib.figure import Figure

    count = min(SIDE_BY_SIDE, len(shown.frames))
    picks = np.unique(np.linspace(0, len(shown.frames) - 1, count).round().astype(int))
    figure = Figure(figsize=(10, 3.6), dpi=110, layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(1, 2))
    top, bottom = halves
    top.suptitle(shown.title, fontsize=9, x=0.01, ha="left")
    for axes, at in zip(np.atleast_1d(top.subplots(1, len(picks))), picks, strict=True):
        _frame(axes, shown, int(at))
        axes.set_xlabel(f"{at / shown.rate:.1f} s", fontsize=7, labelpad=2)
        axes.set_xticks([])
        axes.set_yticks([])
    _chances(bottom.subplots(), shown)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _frame(axes: Any, shown: Shown, at: int) -> None:
    frame = shown.frames[at]
    if frame.ndim == 3:
        axes.imshow(frame, interpolation="nearest")
    elif shown.skeleton is not None:
        points = shown.frames.reshape(len(shown.frames), shown.skeleton.joints, -1)
        axes.scatter(points[at, :, 0], points[at, :, 1], s=4, color=COLOURS[0])
        low, high = points[..., :2].min(axis=(0, 1)), points[..., :2].max(axis=(0, 1))
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(low[1], high[1])
        axes.set_aspect("equal", adjustable="box")
    else:
        axes.bar(np.arange(len(frame)), frame, color=COLOURS[0])
        axes.set_ylim(float(shown.frames.min()), float(shown.frames.max()) or 1.0)


def _chances(axes: Any, shown: Shown) -> None:
    """The tags that are in the clip, and those that are thought likeliest."""
    own = [k for k, name in enumerate(shown.names) if name in shown.right]
    others = [int(k) for k in np.argsort(-shown.p.max(axis=0)) if k not in own]
    times = np.arange(len(shown.p)) / shown.rate
    for place, k in enumerate([*own, *others][:LINES]):
        colour, style = COLOURS[place % len(COLOURS)], "-" if k in own else ":"
        axes.plot(
            times,
            shown.p[:, k],
            style,
            color=colour,
            label=shown.names[k],
            marker="." if len(times) == 1 else "",
        )
        if shown.truth is not None:
            held = shown.truth[:, k].astype(bool)
            axes.fill_between(
                times, -0.02 - 0.03 * place, -0.045 - 0.03 * place, where=held, color=colour, step="post"
            )
    axes.set_ylim(-0.25 if shown.truth is not None else -0.03, 1.03)
    axes.set_xlim(0, max(float(times[-1]), 1 / shown.rate))
    axes.set_xlabel("seconds", fontsize=8)
    axes.set_ylabel("probability", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
