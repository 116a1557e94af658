"""The grid as one picture: a lane for each cell and peer, a dot for each size, speed-up on a log scale."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.grid.bars import geometric_mean
from benchmarks.grid.network import MODES, Mode
from benchmarks.grid.record import Entry, Record
from elman.plots import theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "torch.nn": theme.RECURRENT,
    "elman.nn.LSTM": theme.INK,
    "loop": theme.INPUT,
    "compiled-step": theme.OUTPUT,
    "compiled-loop": "#b07d00",
    "flax": theme.EMBEDDING,
    "onnxruntime": "#5f7d95",
}
TITLES: dict[Mode, str] = {"training": "forward and backward", "forward": "forward alone"}
LANE_INCHES = 0.2
GAP = 0.7
# Dots: area of the smallest and of what is added for each doubling of B·H.
SMALLEST_DOT, DOT_GROWTH = 10.0, 6.0


class Lane(NamedTuple):
    """A row of the picture: the cases of one cell beside one peer, at a height that grows downwards."""

    cell: str
    peer: str
    height: float
    entries: list[Entry]


def draw(record: Record, path: Path) -> None:
    """Write the picture as PNG; nothing where nothing was measured."""
    entries = [e for e in record.entries.values() if e.status == "measured" and e.kind == "pair"]
    if not entries:
        return
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 9, "text.color": theme.INK}):
        found = lanes(entries)
        height = LANE_INCHES * (found[-1].height + 1) + 1.95
        figure = Figure(figsize=(12, height), dpi=150, facecolor=theme.PAPER)
        modes = [mode for mode in MODES if any(entry.mode == mode for entry in entries)]
        panels: Any = figure.subplots(1, len(modes), sharey=True, squeeze=False)
        top, bottom = 1 - 1.4 / height, 0.45 / height
        figure.subplots_adjust(left=0.15, right=0.985, top=top, bottom=bottom, wspace=0.04)
        for axes, mode in zip(panels[0], modes, strict=True):
            _panel(axes, found, mode)
        _names(panels[0][0], found)
        _head(figure, record, found, height)
        figure.savefig(path, metadata={"Software": None})


def lanes(entries: list[Entry]) -> list[Lane]:
    """One lane for each cell and peer, cells in their order and apart from each other."""
    found: list[Lane] = []
    height = 0.0
    for cell, group in groupby(sorted_by_cell(entries), key=lambda entry: entry.cell):
        by_peer: dict[str, list[Entry]] = {}
        for entry in group:
            by_peer.setdefault(entry.peer, []).append(entry)
        for peer in sorted(by_peer, key=list(COLOURS).index):
            found.append(Lane(cell, peer, height, by_peer[peer]))
            height += 1
        height += GAP
    return found


def sorted_by_cell(entries: list[Entry]) -> list[Entry]:
    """Entries of one cell beside each other, cells in the order in which they first come."""
    order = list(dict.fromkeys(entry.cell for entry in entries))
    return sorted(entries, key=lambda entry: order.index(entry.cell))


def _panel(axes: Axes, found: list[Lane], mode: Mode) -> None:
    for lane in found:
        group = [entry for entry in lane.entries if entry.mode == mode]
        if not group:
            continue
        colour = COLOURS[lane.peer]
        ratios = [entry.speedup for entry in group]
        axes.plot(
            [min(ratios), max(ratios)], [lane.height] * 2, color=colour, alpha=0.25, linewidth=2, zorder=2
        )
        dots = [_dot(entry) for entry in group]
        axes.scatter(
            ratios, [lane.height] * len(ratios), s=dots, color=colour, alpha=0.55, linewidth=0, zorder=3
        )
        mean = geometric_mean(ratios)
        axes.plot([mean] * 2, [lane.height - 0.4, lane.height + 0.4], color=colour, linewidth=2.2, zorder=4)
        axes.annotate(
            f"{mean:.2f}" if mean < 10 else f"{mean:.1f}",
            (max(ratios), lane.height),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=colour,
        )
    _frame(axes, found)
    axes.set_title(TITLES[mode], loc="left", fontsize=11, color=theme.INK, pad=8)


def _dot(entry: Entry) -> float:
    return SMALLEST_DOT + DOT_GROWTH * max(0, (entry.size.B * entry.size.H).bit_length() - 6)


def _frame(axes: Axes, found: list[Lane]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ratios = [entry.speedup for lane in found for entry in lane.entries]
    axes.set_xscale("log")
    axes.set_xlim(min(0.7, min(ratios) / 1.3), max(2.0, max(ratios) * 1.9))
    axes.set_ylim(found[-1].height + 1, -1)
    wide = max(ratios) / min(0.7, *ratios) > 60
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(length=0, colors=theme.MUTED)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    axes.grid(axis="x", which="both", color=theme.FRAME, linewidth=0.6, zorder=0)
    axes.axvline(1, color=theme.MUTED, linewidth=1.2, zorder=1)
    for number, (_, group) in enumerate(groupby(found, key=lambda lane: lane.cell)):
        heights = [lane.height for lane in group]
        if number % 2 == 0:
            axes.axhspan(
                heights[0] - 0.5 - GAP / 2,
                heights[-1] + 0.5 + GAP / 2,
                color=theme.PANEL,
                zorder=-1,
                linewidth=0,
            )


def _names(axes: Axes, found: list[Lane]) -> None:
    middles, names = [], []
    for cell, group in groupby(found, key=lambda lane: lane.cell):
        heights = [lane.height for lane in group]
        middles.append((heights[0] + heights[-1]) / 2)
        names.append(cell)
    axes.set_yticks(middles, names, color=theme.INK, fontsize=10)


def _head(figure: Any, record: Record, found: list[Lane], height: float) -> None:
    from matplotlib.lines import Line2D

    figure.text(
        0.012,
        1 - 0.3 / height,
        "How many times as fast as its peers Elman is",
        fontsize=15,
        fontweight="bold",
    )
    known = record.conditions
    threads = f"{known.get('threads')} thread{'' if known.get('threads') == 1 else 's'}"
    stated = f"{known.get('processor')}, {threads}, torch {known.get('torch')}"
    how = "a dot is a size, larger with B·H; a bar and the number are the geometric mean"
    figure.text(0.012, 1 - 0.55 / height, f"{stated}; {how}", color=theme.MUTED)
    there = {lane.peer for lane in found}
    handles = [
        Line2D([], [], color=colour, marker="o", linewidth=2, label=peer)
        for peer, colour in COLOURS.items()
        if peer in there
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.005, 1 - 0.62 / height),
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        handlelength=1.4,
        columnspacing=1.4,
    )
