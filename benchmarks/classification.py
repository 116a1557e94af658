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
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import trainings
from benchmarks.pairing import machine


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


def train(known: Result, seed: int, options: argparse.Namespace) -> Training:
    """A run of this seed: as it stands in its folder, or trained now."""
    run = options.runs / f"{known.name}-{seed}"
    flags = [
        *("--config", f"configs/classification/{known.name}.toml"),
        *("--data", str((options.data / known.data).resolve())),
        *("--seed", str(seed), "--threads", str(options.threads)),
    ]
    # The simple rules beside it draw nothing.
    flags += ["--no-baselines"] * (seed > 1)
    lines = trainings.trained(known.word, flags, run, {"DATA": options.data, "RUNS": options.runs})
    done = trainings.read(run)
    return Training(
        seed,
        done.score["name"],
        done.score["value"],
        done.interval,
        done.best(higher=True),
        done.baselines,
        done.minutes,
        done.epochs,
        lines,
        f"{done.day}, {machine()['processor']}",
    )


def page(found: dict[str, list[Training]], conditions: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = [_row(known, found[known.name]) for known in SETS if known.name in found]
    said = trainings.stated(conditions)
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
    pieces += trainings.sections(found, lambda name, one: f"{name}, seed {one.seed}\n\n{one.where}")
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


def _row(known: Result, own: Sequence[Training]) -> str:
    values = [one.value for one in own]
    first = own[0]
    low, high = trainings.spread(values, first.interval)
    beside = next((one.baselines for one in own if one.baselines), {})
    linear = max((value for name, value in beside.items() if name != "majority"), default=math.nan)
    cells = [
        known.name,
        first.metric,
        f"**{statistics.mean(values):.4f}** ({low:.4f} to {high:.4f})",
        f"{statistics.mean(one.valid for one in own):.4f}",
        f"{linear:.4f}",
        f"{beside.get('majority', math.nan):.4f}",
        f"{known.bars[0]:g}",
        f"{statistics.mean(one.minutes for one in own):.1f}",
        " ".join(str(one.seed) for one in own),
    ]
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> int:
    """Train what is not trained yet, print and write. Exit code 1: a mean lies below its bar."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    before = trainings.product_rate()
    found = trainings.every(
        SETS,
        options,
        lambda known: trainings.seeds(known, options),
        lambda known, seed: train(known, seed, options),
        lambda known, seed, one: (
            f"{known.name}, seed {seed}: {one.metric} {one.value:.4f}, {one.minutes:.1f} minutes"
        ),
    )
    measured = trainings.conditions(before)
    found = with_recorded(found, options.out)
    written = page(found, measured)
    print(written.split("\n## ", maxsplit=1)[0])
    trainings.record(options.out, "classification", written, measured, {"results": trainings.numbers(found)})
    means = trainings.means(found)
    missed = [
        f"{known.name} {means[known.name]:.4f}" for known in SETS if means.get(known.name, 1) < known.bars[0]
    ]
    return trainings.judged(missed, "below")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    made = trainings.parser("classification", __doc__)
    return trainings.chosen(trainings.seeded(made, "5, of goemotions 1"), arguments, SETS)


if __name__ == "__main__":
    sys.exit(main())
