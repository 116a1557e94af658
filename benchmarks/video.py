"""Taggers of clips, trained and tested from their configurations: `python -m benchmarks.video [NAME ...]`.

as1, as2, as3, actions: MSR-Action3D, its three sets of eight actions and all twenty, five seeds each; subjects 1, 3, 5,
7 and 9 train, the others are the test. The skeletons lie in the folder msr_action3d of `--data` (else the environment's
ELMAN_DATA, else ../shared/data). clips: `benchmarks.clips`, made where they are missing, read with what has changed
since the frame before; beside it the same network without these changes, on the middle frame alone, and one without
memory whose frames are averaged, without the changes and with them. Each training is one `elman train
video-tagging`, which reads the test data once, at its end; one that stands in the folder of `--runs` is not done again.
Written (`--out`) are a page and its numbers, with the lines of every run; what is recorded there of other sets and
seeds stays.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import clips
from benchmarks.pairing import machine
from benchmarks.trainings import ROOT, product_rate

RESULTS = Path(__file__).parent / "results"
HOW = (
    "The test data were read once by each run, at its end. In brackets the spread over the seeds, or, of one seed, the "
    "95 % interval over the test clips.\n"
)
# The actions of each set: Li, Zhang & Liu 2010, "Action recognition based on a bag of 3D points", table 1.
AS1 = (2, 3, 5, 6, 10, 13, 18, 20)
AS2 = (1, 4, 7, 8, 9, 11, 12, 14)
AS3 = (6, 14, 15, 16, 17, 18, 19, 20)
# What has changed since the frame before, beside each frame.
CHANGES = ("--differences", "1")
MEMORYLESS = (
    "--cell",
    "benchmarks.frame_cell:FrameCell",
    "--pooling",
    "mean",
    "--no-bidirectional",
    "--allow-code",
)


class Result(NamedTuple):
    """A configuration with its further flags and seeds."""

    name: str
    config: str
    flags: tuple[str, ...] = ()
    seeds: int = 5


def _actions(numbers: Sequence[int]) -> tuple[str, ...]:
    return "--where", "action=" + ",".join(f"{number:02}" for number in numbers)


SETS = [
    Result("as1", "msr_action3d", _actions(AS1)),
    Result("as2", "msr_action3d", _actions(AS2)),
    Result("as3", "msr_action3d", _actions(AS3)),
    Result("actions", "msr_action3d"),
    Result("clips", "clips", CHANGES, 1),
    Result("clips-frames", "clips", seeds=1),
    Result("clips-middle", "clips", ("--only", "middle"), 1),
    Result("clips-mean", "clips", MEMORYLESS, 1),
    Result("clips-mean-changes", "clips", (*MEMORYLESS, *CHANGES), 1),
]


class Training(NamedTuple):
    """A run that is done. moving: of clips the mean average precision of the six tags on movement."""

    seed: int
    metric: str
    value: float
    interval: tuple[float, float]
    moving: float | None
    baselines: dict[str, float]
    minutes: float
    epochs: int
    waiting: list[float]
    lines: list[str]
    where: str


class Bar(NamedTuple):
    """What is asked for, and what is hoped for; higher: whether more is better."""

    name: str
    value: float
    asked: float
    hoped: float
    higher: bool = True

    @property
    def met(self) -> bool:
        """Whether it is what is asked for."""
        return self.value >= self.asked if self.higher else self.value < self.asked


def train(known: Result, seed: int, options: argparse.Namespace) -> Training:
    """A run of this seed: as it stands in its folder, or trained now."""
    run = options.runs / f"{known.name}-{seed}"
    log = run.with_suffix(".log")
    data = (options.data / "msr_action3d") if known.config == "msr_action3d" else _clips(options.runs)
    if not (run / "scores.json").is_file():
        command = [sys.executable, "-m", "elman", "train", "video-tagging", *known.flags]
        command += ["--config", f"configs/video_tagging/{known.config}.toml", "--data", str(data.resolve())]
        command += ["--seed", str(seed), "--threads", str(options.threads), "--run", str(run), "--overwrite"]
        if known.config == "clips":
            # The first epoch decodes, whatever an earlier run has left.
            cache = run.with_suffix(".cache").resolve()
            shutil.rmtree(cache, ignore_errors=True)
            command += ["--cache", str(cache)]
        # The simple rules beside it draw nothing.
        command += ["--no-baselines"] * (seed > 1)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            subprocess.run(command, stderr=file, check=True, cwd=ROOT)
    said = log.read_text(encoding="utf-8") if log.is_file() else ""
    return read(run, seed, said.replace(str(data.resolve()), "DATA").replace(str(options.runs), "RUNS"))


def _clips(runs: Path) -> Path:
    folder = runs / "made"
    clips.write(folder)
    return folder


def read(run: Path, seed: int, log: str) -> Training:
    """What a run folder and its log say."""
    score = json.loads((run / "scores.json").read_text())["test"]
    beside = json.loads((run / "baselines.json").read_text())
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    # Lines of progress have a share in front; the others are kept.
    lines = [line for line in log.splitlines() if line.strip() and not re.match(r"\s*\d+%", line)]
    tags = score["figures"]["tags"]
    moving = [tags[name]["AP"] for name in clips.MOVING] if set(clips.MOVING) <= set(tags) else []
    return Training(
        seed,
        score["name"],
        score["value"],
        tuple(score["interval"]),
        statistics.mean(moving) if moving else None,
        {known["baseline"]: known["value"] for known in beside if known["part"] == "test"},
        events[-1]["seconds"] / 60,
        events[-1]["epoch"] - 1,
        [float(found) / 100 for found in re.findall(r"^epoch .* waiting ([\d.]+)%", log, re.MULTILINE)],
        lines,
        f"{events[0]['time'][:10]}, {machine()['processor']}",
    )


def bars_of(found: Mapping[str, list[Training]]) -> list[Bar]:
    """The bars whose runs are there."""
    means = {name: statistics.mean(one.value for one in own) for name, own in found.items()}
    bars = []
    if {"as1", "as2", "as3"} <= means.keys():
        three = statistics.mean(means[name] for name in ("as1", "as2", "as3"))
        bars.append(Bar("mean accuracy of AS1, AS2, AS3", three, 0.90, 0.93))
    if "actions" in means:
        bars.append(Bar("accuracy of all 20 actions", means["actions"], 0.885, 0.91))
    if "clips" in means:
        first, *rest = found["clips"][0].waiting
        bars.append(Bar("mAP of the made clips", means["clips"], 0.95, 0.98))
        bars.append(Bar("waiting for data, first epoch", first, 0.5, 0.5, higher=False))
        bars.append(
            Bar("waiting for data, later epochs, at most", max(rest, default=0), 0.05, 0.05, higher=False)
        )
    for name, asked, word in (
        ("clips-middle", 0.55, "the middle frame alone"),
        ("clips-mean", 0.75, "the mean of frames"),
    ):
        if name in found and found[name][0].moving is not None:
            moving = statistics.mean(one.moving or 0.0 for one in found[name])
            bars.append(Bar(f"the six tags on movement, {word}", moving, asked, asked, higher=False))
    return bars


def page(found: Mapping[str, list[Training]], conditions: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    said = ", ".join(f"{name} {value}" for name, value in conditions.items())
    rows = [_row(known, found[known.name]) for known in SETS if known.name in found]
    marks = {True: "at least", False: "below"}
    bars = [
        f"| {bar.name} | **{bar.value:.3f}** | {marks[bar.higher]} {bar.asked:g} | {bar.hoped:g} | "
        f"{'yes' if bar.met else 'no'} |"
        for bar in bars_of(found)
    ]
    pieces = [
        f"# Video tagging\n\n    python -m benchmarks.video\n\n{said}\n",
        "| bar | measured | asked | hoped | met |\n|---|--:|--:|--:|---|\n" + "\n".join(bars) + "\n",
        HOW,
        "| set | measure | test | six tags on movement | nearest clips | commonest | minutes a run | seeds |\n"
        "|---|---|--:|--:|--:|--:|--:|--:|\n" + "\n".join(rows) + "\n",
    ]
    for name, trainings in found.items():
        for one in trainings:
            body = "\n".join(f"    {line}" for line in one.lines)
            pieces.append(f"## {name}, seed {one.seed}\n\n{one.where}\n\n{body}\n")
    return "\n".join(pieces)


def _row(known: Result, trainings: Sequence[Training]) -> str:
    values, first = [one.value for one in trainings], trainings[0]
    low, high = (min(values), max(values)) if len(values) > 1 else first.interval
    beside = next((one.baselines for one in trainings if one.baselines), {})
    nearest = [value for name, value in beside.items() if "nearest" in name]
    cells = [
        known.name,
        first.metric,
        f"**{statistics.mean(values):.4f}** ({low:.4f} to {high:.4f})",
        "" if first.moving is None else f"{statistics.mean(one.moving or 0.0 for one in trainings):.4f}",
        f"{nearest[0]:.4f}" if nearest else "",
        f"{beside['the commonest answer']:.4f}" if beside else "",
        f"{statistics.mean(one.minutes for one in trainings):.1f}",
        " ".join(str(one.seed) for one in trainings),
    ]
    return f"| {' | '.join(cells)} |"


def with_recorded(found: Mapping[str, list[Training]], folder: Path | None) -> dict[str, list[Training]]:
    """The trainings and those of other sets and seeds that are recorded in a folder, in order."""
    record = None if folder is None else folder / "video.json"
    old: dict[str, list[Training]] = {}
    if record is not None and record.is_file():
        saved = json.loads(record.read_text(encoding="utf-8"))["results"]
        old = {name: [Training(**one) for one in own] for name, own in saved.items()}
    whole: dict[str, list[Training]] = {}
    for known in SETS:
        fresh = found.get(known.name, [])
        kept = [one for one in old.get(known.name, []) if one.seed not in {other.seed for other in fresh}]
        if fresh or kept:
            whole[known.name] = sorted([*fresh, *kept], key=lambda one: one.seed)
    return whole


def main(arguments: list[str] | None = None) -> int:
    """Train what is not trained yet, print and write. Exit code 1: a bar is not met."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    before = product_rate()
    found: dict[str, list[Training]] = {}
    for known in SETS:
        if options.names and known.name not in options.names:
            continue
        for seed in range(1, (options.seeds or known.seeds) + 1):
            if options.done and not (options.runs / f"{known.name}-{seed}" / "scores.json").is_file():
                continue
            one = train(known, seed, options)
            found.setdefault(known.name, []).append(one)
            print(
                f"{known.name}, seed {seed}: {one.metric} {one.value:.4f}, {one.minutes:.1f} minutes",
                flush=True,
            )
    rates = f"{before:.0f} and {product_rate():.0f} before and after"
    conditions = {**machine(), "torch.mm 2048 GFLOP/s": rates}
    found = with_recorded(found, options.out)
    written = page(found, conditions)
    print(written.split("\n## ", maxsplit=1)[0])
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        made = {"date": datetime.now(UTC).date().isoformat(), "conditions": conditions}
        numbers = {name: [one._asdict() for one in own] for name, own in found.items()}
        (options.out / "video.md").write_text(written, encoding="utf-8")
        text = json.dumps({**made, "results": numbers}, indent=1, ensure_ascii=False)
        (options.out / "video.json").write_text(text + "\n", encoding="utf-8")
    missed = [f"{bar.name} {bar.value:.3f}" for bar in bars_of(found) if not bar.met]
    if missed:
        print(f"not met: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.video", description=__doc__)
    parser.add_argument("names", nargs="*", help="which sets (default: all)")
    parser.add_argument("--seeds", type=int, default=0, help="trainings of each (default: 5, of clips 1)")
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("ELMAN_DATA", ROOT / "../shared/data"))
    )
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "video", help="folder of the runs")
    parser.add_argument("--done", action="store_true", help="train nothing: show the runs that are there")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--out", type=Path, nargs="?", const=RESULTS, help="write the page and its numbers there"
    )
    options = parser.parse_args(arguments)
    options.runs = options.runs.resolve()
    unknown = set(options.names) - {known.name for known in SETS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; the sets are {', '.join(k.name for k in SETS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
