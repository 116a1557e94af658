"""Classifiers of texts, trained and tested from their configurations: `python -m benchmarks.classification [NAME ...]`.

The names are those of configs/classification (emotion, goemotions, sst2, sst5). The data lie in the folder of `--data`
(else the environment's ELMAN_DATA, else ../shared/data), a folder for each set; docs/classification.md says what they
are. Each seed is a training of its own by `elman train`, which reads the test data once, at its end. Five seeds where
there are fewer than 3,000 test texts, else one. A training that stands in the folder of `--runs` already is not done
again. Written (`--out`) are a page and its numbers, with the lines of every run; what is recorded there of other sets
and seeds stays.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.pairing import machine

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
WIDTH = 2048


class Result(NamedTuple):
    """A set with what it is trained by. bars: the least mean, and the one hoped for."""

    name: str
    word: str
    data: str
    seeds: int
    bars: tuple[float, float]


SETS = [
    Result("emotion", "emotion", "emotion", 5, (0.93, 0.94)),
    Result("goemotions", "emotion", "goemotions", 1, (0.465, 0.485)),
    Result("sst2", "sentiment", "sst", 5, (0.845, 0.86)),
    Result("sst5", "sentiment", "sst", 5, (0.47, 0.485)),
]


class Training(NamedTuple):
    """A run that is done: its score on the test data, the baselines beside it, its lines; where: day and processor."""

    seed: int
    metric: str
    value: float
    interval: tuple[float, float]
    valid: float
    baselines: dict[str, float]
    minutes: float
    epochs: int
    lines: list[str]
    where: str = ""


def product_rate() -> float:
    """GFLOP/s of torch.mm of 2048 by 2048 numbers, the median of some calls: by it times are compared."""
    a, b = torch.randn(WIDTH, WIDTH), torch.randn(WIDTH, WIDTH)
    torch.mm(a, b)
    seconds = []
    for _ in range(7):
        begun = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - begun)
    return 2 * WIDTH**3 / statistics.median(seconds) / 1e9


def train(known: Result, seed: int, data: Path, runs: Path, threads: int) -> Training:
    """A run of this seed: as it stands in its folder, or trained now."""
    run = runs / f"{known.name}-{seed}"
    log = run.with_suffix(".log")
    if not _is_done(run):
        command = [sys.executable, "-m", "elman", "train", known.word, *_flags(known, seed, data, threads)]
        # The simple rules beside it draw nothing.
        command += ["--no-baselines"] * (seed > 1)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            subprocess.run([*command, "--run", str(run), "--overwrite"], stderr=file, check=True, cwd=ROOT)
    said = log.read_text(encoding="utf-8") if log.is_file() else ""
    # Where things lay on this machine is of no use elsewhere.
    return read(run, seed, said.replace(str(data.resolve()), "DATA").replace(str(runs.resolve()), "RUNS"))


def _is_done(run: Path) -> bool:
    return (run / "scores.json").is_file()


def _flags(known: Result, seed: int, data: Path, threads: int) -> list[str]:
    config = f"configs/classification/{known.name}.toml"
    return [
        *("--config", config, "--data", str((data / known.data).resolve())),
        *("--seed", str(seed), "--threads", str(threads)),
    ]


def read(run: Path, seed: int, log: str) -> Training:
    """What a run folder says."""
    score = json.loads((run / "scores.json").read_text())["test"]
    beside = json.loads((run / "baselines.json").read_text())
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    valid = [event["score"] for event in events if event["event"] == "valid"]
    # Lines of progress have a share in front; the others are kept.
    lines = [line for line in log.splitlines() if line.strip() and not re.match(r"\s*\d+%", line)]
    return Training(
        seed,
        score["name"],
        score["value"],
        tuple(score["interval"]),
        max(valid),
        {known["baseline"]: known["value"] for known in beside if known["part"] == "test"},
        events[-1]["seconds"] / 60,
        # The line at the end names the epoch that would come next.
        max(event["epoch"] for event in events if event["event"] == "valid"),
        lines,
        f"{events[0]['time'][:10]}, {machine()['processor']}",
    )


def page(found: dict[str, list[Training]], conditions: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = [_row(known, found[known.name]) for known in SETS if known.name in found]
    said = ", ".join(f"{name} {value}" for name, value in conditions.items())
    how = (
        "The test data were read once by each run, at its end. In brackets the spread over the seeds, or, of one seed, "
        "the 95 % interval over the test texts.\n"
    )
    pieces = [
        f"# Classification of texts\n\n    python -m benchmarks.classification\n\n{said}\n",
        how,
        "| set | measure | test | validation | linear | majority | bar | minutes a run | seeds |\n"
        "|---|---|--:|--:|--:|--:|--:|--:|--:|\n" + "\n".join(rows) + "\n",
    ]
    for name, trainings in found.items():
        for one in trainings:
            body = "\n".join(f"    {line}" for line in one.lines)
            pieces.append(f"## {name}, seed {one.seed}\n\n{one.where}\n\n{body}\n")
    return "\n".join(pieces)


def with_recorded(found: dict[str, list[Training]], folder: Path | None) -> dict[str, list[Training]]:
    """The trainings and those of other sets and seeds that are recorded in a folder, in order."""
    record = None if folder is None else folder / "classification.json"
    if record is None or not record.is_file():
        return found
    saved = json.loads(record.read_text(encoding="utf-8"))
    # A record without a place of its own was made where the whole page was.
    where = f"{saved['date']}, {saved['conditions']['processor']}"
    old = {
        name: [Training(**{"where": where, **one}) for one in own] for name, own in saved["results"].items()
    }
    whole: dict[str, list[Training]] = {}
    for known in SETS:
        fresh = found.get(known.name, [])
        kept = [one for one in old.get(known.name, []) if one.seed not in {other.seed for other in fresh}]
        if fresh or kept:
            whole[known.name] = sorted([*fresh, *kept], key=lambda one: one.seed)
    return whole


def _row(known: Result, trainings: Sequence[Training]) -> str:
    values = [one.value for one in trainings]
    first = trainings[0]
    low, high = (min(values), max(values)) if len(values) > 1 else first.interval
    beside = next((one.baselines for one in trainings if one.baselines), {})
    linear = max((value for name, value in beside.items() if name != "majority"), default=math.nan)
    cells = [
        known.name,
        first.metric,
        f"**{statistics.mean(values):.4f}** ({low:.4f} to {high:.4f})",
        f"{statistics.mean(one.valid for one in trainings):.4f}",
        f"{linear:.4f}",
        f"{beside.get('majority', math.nan):.4f}",
        f"{known.bars[0]:g}",
        f"{statistics.mean(one.minutes for one in trainings):.1f}",
        " ".join(str(one.seed) for one in trainings),
    ]
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> int:
    """Train what is not trained yet, print and write. Exit code 1: a mean lies below its bar."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    before = product_rate()
    found: dict[str, list[Training]] = {}
    for known in SETS:
        if options.names and known.name not in options.names:
            continue
        for seed in range(1, (options.seeds or known.seeds) + 1):
            if options.done and not _is_done(options.runs / f"{known.name}-{seed}"):
                continue
            one = train(known, seed, options.data, options.runs, options.threads)
            found.setdefault(known.name, []).append(one)
            print(
                f"{known.name}, seed {seed}: {one.metric} {one.value:.4f}, {one.minutes:.1f} minutes",
                flush=True,
            )
    rates = f"{before:.0f} and {product_rate():.0f} before and after"
    conditions = {**machine(), f"torch.mm {WIDTH} GFLOP/s": rates}
    found = with_recorded(found, options.out)
    written = page(found, conditions)
    print(written.split("\n## ", maxsplit=1)[0])
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        made = {"date": datetime.now(UTC).date().isoformat(), "conditions": conditions}
        numbers = {name: [one._asdict() for one in own] for name, own in found.items()}
        (options.out / "classification.md").write_text(written, encoding="utf-8")
        text = json.dumps({**made, "results": numbers}, indent=1, ensure_ascii=False)
        (options.out / "classification.json").write_text(text + "\n", encoding="utf-8")
    means = {name: statistics.mean(one.value for one in own) for name, own in found.items()}
    missed = [
        f"{known.name} {means[known.name]:.4f}" for known in SETS if means.get(known.name, 1) < known.bars[0]
    ]
    if missed:
        print(f"below the bar: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.classification", description=__doc__)
    parser.add_argument("names", nargs="*", help="which sets (default: all)")
    parser.add_argument(
        "--seeds", type=int, default=0, help="trainings of each (default: 5, of goemotions 1)"
    )
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("ELMAN_DATA", ROOT / "../shared/data"))
    )
    parser.add_argument(
        "--runs", type=Path, default=ROOT / "runs" / "classification", help="folder of the runs"
    )
    parser.add_argument("--done", action="store_true", help="train nothing: show the runs that are there")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--out", type=Path, nargs="?", const=RESULTS, help="write the page and its numbers there"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.names) - {known.name for known in SETS}
    if unknown:
        parser.error(
            f"unknown: {', '.join(sorted(unknown))}; the sets are {', '.join(known.name for known in SETS)}"
        )
    return options


if __name__ == "__main__":
    sys.exit(main())
