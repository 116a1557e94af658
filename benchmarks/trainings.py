"""What the measured applications share: trainings by the command, read from their folders, told and recorded.

A module of an application (`benchmarks.classification`, ...) names its sets, what each is trained by, and its page.
Each training is one `elman train`, which reads the test data once, at its end; one that stands in its folder is not
done again. Its lines are kept beside the folder and stand in the record.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import torch

from benchmarks.pairing import machine

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
WIDTH = 2048
# Lines of progress have a share in front.
PROGRESS = re.compile(r"\s*\d+%")


class Named(Protocol):
    """A set that is trained on, by its name, which is that of its configuration."""

    @property
    def name(self) -> str:
        """The word on the command line."""


class Told(Protocol):
    """A training that is done, as a record has it: a NamedTuple."""

    @property
    def value(self) -> float:
        """Its score on the test data."""

    @property
    def lines(self) -> list[str]:
        """What it said."""

    def _asdict(self) -> dict[str, Any]: ...


class Done(NamedTuple):
    """What the folder of a run that is done says: its score and the baselines on the test data, its validations."""

    score: dict[str, Any]
    baselines: dict[str, float]
    valid: list[dict[str, Any]]
    seconds: float
    day: str

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the score over the test data."""
        low, high = self.score["interval"]
        return low, high

    @property
    def minutes(self) -> float:
        """How long it was trained."""
        return self.seconds / 60

    @property
    def epochs(self) -> int:
        """The epochs that it was trained for; the line at the end names the one that would come next."""
        return max(int(event["epoch"]) for event in self.valid)

    def best(self, *, higher: bool) -> float:
        """The score of its best validation."""
        return (max if higher else min)(float(event["score"]) for event in self.valid)


Set = TypeVar("Set", bound=Named)
Training = TypeVar("Training", bound=Told)


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


def conditions(before: float) -> dict[str, str | int | float]:
    """The machine as it is now, with its rate of products at the start and at the end."""
    return {
        **machine(),
        f"torch.mm {WIDTH} GFLOP/s": f"{before:.0f} and {product_rate():.0f} before and after",
    }


# Training and reading


def is_done(run: Path) -> bool:
    """Whether a run has been trained and tested."""
    return (run / "scores.json").is_file()


def command(task: str, flags: Sequence[str], run: Path) -> None:
    """Train by the command in a process of its own; what it says goes into the log beside the run."""
    words = [sys.executable, "-m", "elman", "train", task, *flags, "--run", str(run), "--overwrite"]
    with run.with_suffix(".log").open("w", encoding="utf-8") as file:
        subprocess.run(words, stderr=file, check=True, cwd=ROOT)


def trained(
    task: str,
    flags: Sequence[str],
    run: Path,
    hidden: Mapping[str, Path],
    train: Callable[[str, Sequence[str], Path], None] = command,
) -> list[str]:
    """The lines that a training said: one that is in its folder, or done now.

    hidden: folders of this machine, which are of no use elsewhere, by the word that stands for them.
    """
    log = run.with_suffix(".log")
    if not is_done(run):
        log.parent.mkdir(parents=True, exist_ok=True)
        train(task, flags, run)
    said = log.read_text(encoding="utf-8") if log.is_file() else ""
    for word, path in hidden.items():
        said = said.replace(str(path.resolve()), word)
        # A name without a folder may be a word of the lines.
        said = said.replace(str(path), word) if len(path.parts) > 1 else said
    return [line for line in said.splitlines() if line.strip() and not PROGRESS.match(line)]


def read(run: Path) -> Done:
    """What a run folder says."""
    beside = json.loads((run / "baselines.json").read_text(encoding="utf-8"))
    events = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return Done(
        json.loads((run / "scores.json").read_text(encoding="utf-8"))["test"],
        {known["baseline"]: known["value"] for known in beside if known["part"] == "test"},
        [event for event in events if event["event"] == "valid"],
        events[-1]["seconds"],
        events[0].get("time", "")[:10],
    )


def every(
    sets: Iterable[Set],
    options: argparse.Namespace,
    labels: Callable[[Set], Iterable[Any]],
    train: Callable[[Set, Any], Training],
    told: Callable[[Set, Any, Training], str],
) -> dict[str, list[Training]]:
    """The trainings of the sets that were asked for, by set, each told as it is done; `labels` are those of one set."""
    found: dict[str, list[Training]] = {}
    for known in sets:
        if options.names and known.name not in options.names:
            continue
        for label in labels(known):
            if options.done and not is_done(options.runs / f"{known.name}-{label}"):
                continue
            one = train(known, label)
            found.setdefault(known.name, []).append(one)
            print(told(known, label, one), flush=True)
    return found


# Pages and records


def stated(measured: Mapping[str, Any]) -> str:
    """Conditions in a line."""
    return ", ".join(f"{name} {value}" for name, value in measured.items())


def spread(values: Sequence[float], interval: tuple[float, float]) -> tuple[float, float]:
    """The least and the most of some values, or the interval of one."""
    return (min(values), max(values)) if len(values) > 1 else interval


def sections(found: Mapping[str, Sequence[Training]], title: Callable[[str, Training], str]) -> list[str]:
    """A section with the lines of each training; `title` may go on with a paragraph."""
    return [
        f"## {title(name, one)}\n\n" + "\n".join(f"    {line}" for line in one.lines) + "\n"
        for name, own in found.items()
        for one in own
    ]


def record(
    folder: Path | None, name: str, page: str, measured: Mapping[str, Any], parts: Mapping[str, Any]
) -> None:
    """Write NAME.md and NAME.json into a folder, if there is one: the day, the conditions, and the parts."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"date": datetime.now(UTC).date().isoformat(), "conditions": measured, **parts}
    (folder / f"{name}.md").write_text(page, encoding="utf-8")
    text = json.dumps(whole, indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def numbers(found: Mapping[str, Sequence[Training]]) -> dict[str, list[dict[str, Any]]]:
    """The trainings as a record has them."""
    return {name: [one._asdict() for one in own] for name, own in found.items()}


def judged(missed: Sequence[str], side: str) -> int:
    """The exit code: 1, with a line on stderr, where means lie on the wrong side of their bars."""
    if missed:
        print(f"{side} the bar: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def means(found: Mapping[str, Sequence[Training]]) -> dict[str, float]:
    """The mean score of each set."""
    return {name: statistics.mean(one.value for one in own) for name, own in found.items()}


# The command line


def parser(
    name: str, doc: str | None, *, form: type[argparse.HelpFormatter] = argparse.HelpFormatter
) -> argparse.ArgumentParser:
    """The options that all have: --data, --runs, --done, --out."""
    usual = Path(os.environ.get("ELMAN_DATA", ROOT / "../shared/data"))
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=doc, formatter_class=form)
    made.add_argument("--data", type=Path, default=usual, help="folder of the data")
    made.add_argument("--runs", type=Path, default=ROOT / "runs" / name, help="folder of the runs")
    made.add_argument("--done", action="store_true", help="train nothing: show the runs that are there")
    made.add_argument(
        "--out", type=Path, nargs="?", const=RESULTS, help="write the page and its numbers there"
    )
    return made


def chosen(
    made: argparse.ArgumentParser, arguments: Sequence[str] | None, sets: Iterable[Named]
) -> argparse.Namespace:
    """The options, and `names`: the sets that were asked for; an unknown one ends the program."""
    known = [one.name for one in sets]
    made.add_argument("names", nargs="*", help="which sets (default: all)")
    options = made.parse_args(arguments)
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        made.error(f"unknown: {', '.join(unknown)}; the sets are {', '.join(known)}")
    return options


def seeded(made: argparse.ArgumentParser, usual: str) -> argparse.ArgumentParser:
    """The options of sets that are trained with several seeds: --seeds, by default as `usual` says, and --threads."""
    made.add_argument("--seeds", type=int, default=0, help=f"trainings of each (default: {usual})")
    made.add_argument("--threads", type=int, default=2)
    return made


def seeds(known: Any, options: argparse.Namespace) -> range:
    """The seeds of a set: as many as are asked for, or its own number."""
    return range(1, (options.seeds or known.seeds) + 1)
