"""Pair Elman with its peers over cells and sizes: `python -m benchmarks grid --help`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.grid import page, plot
from benchmarks.grid.bars import judge_record
from benchmarks.grid.catalog import CELLS
from benchmarks.grid.measure import EFFORT, Bench, spots
from benchmarks.grid.peers import PEERS, Limits
from benchmarks.grid.record import Conditions, Entry, OtherConditionsError, Record, resumed
from benchmarks.pairing import Effort, machine

RESULTS = Path(__file__).parent.parent / "results"
QUICK = Effort(seconds=0.02, rounds=3, most_rounds=3)


def main(arguments: list[str]) -> int:
    """Measure, print, write. Exit code 1: answers differ, a side failed, or a bar is missed; 2: a wrong call."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    try:
        record = _record(options, conditions())
    except OtherConditionsError as error:
        print(error, file=sys.stderr)
        return 2
    print(", ".join(f"{name} {value}" for name, value in record.conditions.items()))
    bench = Bench(QUICK if options.quick else EFFORT, Limits(options.threads, 60 * options.compile_minutes))
    for entry in record.entries.values():
        bench.remember(entry)
    try:
        _measure(bench, record, options)
    except KeyboardInterrupt:
        print(f"interrupted; `--resume` goes on after {len(record.entries)} cases", file=sys.stderr)
        return 130
    finally:
        _report(record)
    return _judged(record, quick=options.quick)


def _measure(bench: Bench, record: Record, options: argparse.Namespace) -> None:
    """Measure what is asked for and not there yet, saying each case as it is done, until the time is up."""
    begun = time.monotonic()
    for spot in spots(options.cells, options.peers, options.only):
        if record.done(spot.key):
            continue
        if time.monotonic() - begun > 60 * options.minutes:
            print(f"{options.minutes:g} minutes are over; `--resume` goes on from here")
            return
        known = len(bench.missing)
        entry = bench.entry(spot)
        if len(bench.missing) > known:
            print(f"without {spot.peer}: {bench.missing[spot.peer]}", flush=True)
        if entry is not None:
            record.add(entry)
            print(_said(entry), flush=True)


def _said(entry: Entry) -> str:
    if entry.status != "measured":
        return f"{entry.spot.name}: {entry.status}; {entry.reason}"
    times = f"{entry.ours_ms:.3g} ms beside {entry.theirs_ms:.3g} ms"
    return f"{entry.spot.name}: {times}, x{entry.speedup:.2f}, spread {entry.spread:.1%} in {entry.rounds} rounds"


def _report(record: Record) -> None:
    """Print the summary, and write page and picture beside the record."""
    entries = list(record.entries.values())
    print("\n" + "\n".join([*page.reference_lines(entries), "", page.summary_table(judge_record(record))]))
    if record.path is not None and entries:
        page.write(record, record.path.with_suffix(".md"))
        plot.draw(record, record.path.with_suffix(".png"))
        print(f"\nwritten: {record.path.with_suffix('')}.json, .md, .png")


def _judged(record: Record, *, quick: bool) -> int:
    """The exit code, and why on stderr."""
    if not record.entries:
        print("no such case", file=sys.stderr)
        return 2
    broken = [entry for entry in record.entries.values() if entry.status in {"refused", "failed"}]
    for entry in broken:
        print(f"{entry.status}: {entry.spot.name}: {entry.reason}", file=sys.stderr)
    # A glance at a speed is too short to be held against anything.
    missed = [] if quick else [group for group in judge_record(record) if not group.met]
    for group in missed:
        assert group.bar is not None
        print(
            f"below the bar: {group.name}: mean {group.mean:.2f} (bar {group.bar.mean:g}), "
            f"worst {group.worst:.2f} (bar {group.bar.worst:g})",
            file=sys.stderr,
        )
    return 1 if broken or missed else 0


def _record(options: argparse.Namespace, now: Conditions) -> Record:
    """A new record, or the one that is there. Raises OtherConditionsError."""
    if options.out is None:
        return Record(None, now)
    path = options.out / f"grid_{options.threads}_thread{'s' if options.threads > 1 else ''}.json"
    return resumed(path, now) if options.resume and path.exists() else Record(path, now)


def conditions() -> Conditions:
    """What the times depend on: the machine, the versions, the commit."""
    found: Conditions = dict(machine())
    for name in ("jax", "flax", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    ask = ["git", "rev-parse", "--short", "HEAD"]
    answer = subprocess.run(ask, cwd=RESULTS.parent, capture_output=True, text=True, check=False)
    if answer.returncode == 0:
        found["commit"] = answer.stdout.strip()
    return found


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks grid", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases with this text in their name")
    parser.add_argument("--cells", type=_listed(CELLS), default=list(CELLS), help=f"of {', '.join(CELLS)}")
    parser.add_argument("--peers", type=_listed(PEERS), default=list(PEERS), help=f"of {', '.join(PEERS)}")
    parser.add_argument("--threads", type=int, choices=[1, 2], default=2, help="for all sides")
    parser.add_argument("--quick", action="store_true", help="a glance, not a measurement")
    parser.add_argument(
        "--out", type=Path, help=f"where to write; default: {RESULTS.name}/ for the whole grid"
    )
    parser.add_argument("--resume", action="store_true", help="keep what is there, and measure the rest")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no case after so many")
    parser.add_argument(
        "--compile-minutes", type=float, default=10.0, help="the longest that one compilation may take"
    )
    options = parser.parse_args(arguments)
    part = options.only or options.cells != list(CELLS) or options.peers != list(PEERS)
    # A part or a glance does not overwrite the record; a part may be added to it.
    if options.out is None and not options.quick and (options.resume or not part):
        options.out = RESULTS
    return options


def _listed(known: Collection[str]) -> Callable[[str], list[str]]:
    """A reader of names out of a table, separated by commas, in the order of the table."""

    def read(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return [name for name in known if name in names]

    return read
