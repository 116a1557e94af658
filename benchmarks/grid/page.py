"""The grid as a Markdown page: what was reached, then every case."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

from benchmarks.grid.bars import BAR_THREADS, Judged, judge_record
from benchmarks.grid.network import MODES, SIZES, Mode, Size
from benchmarks.grid.record import Entry, Record

ABOUT = """\
Each case pairs Elman with one peer in one process, in turns, the order swapped every round, after both gave the same
answers: y, and in training the gradients of x and of every parameter. Sizes are T x B x I x H; float32; the input
projection is inside the time on both sides. Training is forward and backward with all gradients; forward runs under
`torch.inference_mode`. Numbers are speed-ups, time of the peer / time of Elman: the median over the rounds. A `~` marks
a spread (interquartile range of that ratio / its median) above 5 %. Beside flax and onnxruntime, which have threads of
their own, each turn of either side begins after a pause of 60 ms and an untimed call: threads stay awake for a while
after a call, and would take a processor from the other side.

Masks of dropout and zoneout are drawn once, before the time, and handed to both sides. Lengths of the ragged LSTM are
uniform in 1..T; torch.nn gets them packed, inside its time. `loop` is a Python loop over the step (torch.nn's own
fused cell where there is one), `compiled-step` that loop with `torch.compile` on the step, `compiled-loop` with
`torch.compile` on the whole; compiling is outside the time. `flax` is a jitted `flax.linen.RNN`, or, of a cell that a
user has written, a jitted `jax.lax.scan` over the same step, the arrays already on its side; `onnxruntime` runs ONNX's
own node."""
WIDE = 0.05


def page(record: Record) -> str:
    """The whole page."""
    entries = list(record.entries.values())
    stated = ", ".join(f"{name} {value}" for name, value in record.conditions.items())
    parts = ["# grid", ABOUT, f"{stated}.", *reference_lines(entries)]
    parts += ["## Reached"]
    if record.conditions.get("threads") != BAR_THREADS:
        parts += [f"There are bars for {BAR_THREADS} threads only."]
    parts += [summary_table(judge_record(record))]
    if left_out := [entry for entry in entries if entry.status != "measured"]:
        parts += [
            "## Not measured",
            "\n".join(f"- {entry.spot.name}: {entry.status}; {_line(entry.reason)}" for entry in left_out),
        ]
    parts += ["## Every case"]
    for cell in dict.fromkeys(entry.cell for entry in entries):
        parts += [f"### {cell}", cell_table([e for e in entries if e.cell == cell and e.kind == "pair"])]
    return "\n\n".join(parts) + "\n"


def write(record: Record, path: Path) -> None:
    """Write the page."""
    path.write_text(page(record), encoding="utf-8")


def reference_lines(entries: Iterable[Entry]) -> list[str]:
    """The noise of the procedure, and the share of a plain product's rate, where they were measured."""
    lines = []
    for entry in entries:
        if entry.status != "measured":
            continue
        if entry.kind == "noise":
            lines.append(
                f"Noise: {entry.ours} against itself, {entry.size} {entry.mode}: {entry.speedup:.3f}, "
                f"spread {entry.spread:.1%}."
            )
        if entry.kind == "share":
            lines.append(
                f"Share: {entry.ours} in {entry.mode} at {entry.size}, beside {entry.theirs}: {entry.speedup:.0%}."
            )
    return lines


def summary_table(groups: Iterable[Judged]) -> str:
    """Geometric mean and worst of every cell, peer and mode, and the bar where there is one."""
    head = "| cell | peer | mode | cases | mean | bar | worst | bar | at |\n|---|---|---|--:|--:|--:|--:|--:|---|"
    return "\n".join([head, *map(_summary_row, groups)])


def _summary_row(group: Judged) -> str:
    cell = f"{group.cell}, small" if group.small else group.cell
    mean_bar = "" if group.bar is None else _bar(group.mean, group.bar.mean)
    worst_bar = "" if group.bar is None else _bar(group.worst, group.bar.worst)
    return (
        f"| {cell} | {group.peer} | {group.mode} | {group.cases} | {group.mean:.2f} | {mean_bar} "
        f"| {group.worst:.2f} | {worst_bar} | {group.worst_size} |"
    )


def _bar(value: float, bar: float) -> str:
    return f"{bar:g}" if value >= bar else f"**{bar:g} missed**"


def cell_table(entries: list[Entry]) -> str:
    """One row for each size and mode: Elman's time, and the speed-up over each peer."""
    peers = list(dict.fromkeys(entry.peer for entry in entries))
    found = {(entry.size, entry.mode, entry.peer): entry for entry in entries}
    head = ["size", "mode", "Elman ms", *peers]
    lines = [f"| {' | '.join(head)} |", "|---|---|" + "--:|" * (len(peers) + 1)]
    for size, mode in ((size, mode) for size in SIZES for mode in MODES):
        row = [found.get((size, mode, peer)) for peer in peers]
        if any(row):
            lines.append(_size_row(size, mode, row))
    return "\n".join(lines)


def _size_row(size: Size, mode: Mode, row: list[Entry | None]) -> str:
    times = [entry.ours_ms for entry in row if entry is not None and entry.status == "measured"]
    ours = f"{statistics.median(times):.3g}" if times else ""
    return f"| {size} | {mode} | {ours} | {' | '.join(map(_cell, row))} |"


def _cell(entry: Entry | None) -> str:
    if entry is None:
        return ""
    if entry.status != "measured":
        return entry.status
    return f"{'~' if entry.spread > WIDE else ''}{entry.speedup:.2f}"


def _line(text: str) -> str:
    """The text on one line, not too long."""
    flat = " ".join(text.split())
    return flat if len(flat) <= 300 else flat[:297] + "..."
