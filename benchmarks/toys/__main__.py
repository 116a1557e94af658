"""Toy problems, each trained with some seeds: `python -m benchmarks.toys [--only NAME ...] [--seeds N] [--out FOLDER]`.

Writes toys.json and toys.md. One thread, so that two machines of one kind give the same numbers. Exit code 1: a bar is
missed.
"""

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.pairing import machine
from benchmarks.toys.training import TOYS, Run, Toy, run

RESULTS = Path(__file__).parent.parent / "results"


def main(arguments: list[str] | None = None) -> int:
    """Train, print, write."""
    names = [toy.name for toy in TOYS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.toys", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="problems (default: all)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each (default: 3)")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help="where to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = {}
    for toy in TOYS:
        if toy.name in options.only:
            found[toy.name] = [_told(toy, seed) for seed in range(options.seeds)]
    write(options.out, found)
    met = all(figure.met for runs in found.values() for one in runs for figure in one.figures)
    return 0 if met else 1


def _told(toy: Toy, seed: int) -> Run:
    one = run(toy, seed)
    figures = "; ".join(f"{figure.name}: {figure.value:.5g}" for figure in one.figures)
    print(f"{toy.name}, seed {seed}: {figures}; {one.seconds:.0f} s on {one.path}", flush=True)
    return one


def write(folder: Path, found: dict[str, list[Run]]) -> None:
    """Write toys.json and toys.md; problems that were not run now stay as they are recorded."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "toys.json"
    old: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))["results"] if record.exists() else {}
    results = {**old, **{name: [asdict(one) for one in runs] for name, runs in found.items()}}
    content = {"date": datetime.now(UTC).date().isoformat(), "machine": machine(), "results": results}
    record.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / "toys.md").write_text(page(content), encoding="utf-8")


def page(content: dict[str, Any]) -> str:
    """The results as a page."""
    stated = ", ".join(f"{name} {value}" for name, value in content["machine"].items())
    lines = [
        "# Toy problems",
        "",
        "`python -m benchmarks.toys`: each problem trained anew with each seed and judged on fresh rows, the same for",
        "all seeds. Adam, the rate falling along a cosine, 32 rows a step, one thread; seconds of processor time.",
        "",
        f"{content['date']}; {stated}.",
        "",
        "| problem | steps | measured | bar | by seed | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for toy in TOYS:
        runs = content["results"].get(toy.name, [])
        for place, figure in enumerate(runs[0]["figures"] if runs else []):
            values = ", ".join(f"{one['figures'][place]['value']:.4g}" for one in runs)
            bar = f"{'≤' if figure['most'] else '≥'} {figure['bar']:g}"
            seconds = ", ".join(f"{one['seconds']:.0f}" for one in runs)
            lines.append(f"| {toy.summary} | {toy.steps} | {figure['name']} | {bar} | {values} | {seconds} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
