"""Recognizers of speech, trained and tested from their configurations: `python -m benchmarks.speech [NAME ...]`.

digits: spoken digits, the official split, five seeds. unseen: each of the six speakers left out in turn. connected,
streaming: strings of digits (`benchmarks.connected_digits`, made where they are missing), three seeds, read from both
ends, and as they are spoken. The recordings lie in the folder fsdd of `--data` (else the environment's ELMAN_DATA, else
../shared/data). Each training is one `elman train speech`, which reads the test data once, at its end; one that stands
in the folder of `--runs` is not done again. Of the streaming runs the real-time factor is measured on one core, and for
each word that is right how much sound had been heard when its last symbol was final, less the end of its recording,
plus the time of computing. Written (`--out`) are a page and its numbers, with the lines of every run.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import elman
from benchmarks import trainings
from benchmarks.connected_digits import RATE, write
from benchmarks.trainings import ROOT

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
SEED, CHUNK = 1, 0.16
ONCE = (
    "The test data were read once by each run, at its end. In brackets the spread over the runs, or, of one, the 95 % "
    "interval over the test recordings.\n"
)


class Result(NamedTuple):
    """A configuration with the trainings that make its figure. bars: the mean asked for, and the one hoped for."""

    name: str
    runs: tuple[str, ...]
    bars: tuple[float, float]
    higher: bool


SETS = [
    Result("digits", ("1", "2", "3", "4", "5"), (0.985, 0.995), True),
    Result("unseen", SPEAKERS, (0.83, 0.90), True),
    Result("connected", ("1", "2", "3"), (0.025, 0.012), False),
    Result("streaming", ("1", "2", "3"), (0.03, 0.015), False),
]


class Training(NamedTuple):
    """A run that is done: its score on the test data, the baselines beside it, its lines."""

    run: str
    metric: str
    value: float
    interval: tuple[float, float]
    valid: float
    baselines: dict[str, float]
    minutes: float
    epochs: int
    lines: list[str]


class Speed(NamedTuple):
    """Of a streaming run: processor seconds for one of sound; delays of words, their median and 95th percentile."""

    run: str
    factor: float
    median: float
    late: float
    words: int


def flags(known: Result, run: str, data: Path) -> list[str]:
    """What a training is told beside its configuration."""
    digits, strings = str((data / "fsdd").resolve()), str(strings_of(data))
    own = {
        "digits": ["--data", digits, "--seed", run],
        "unseen": ["--data", digits, "--test-where", f"speaker={run}"],
        "connected": ["--data", strings, "--seed", run],
        "streaming": ["--data", strings, "--seed", run],
    }
    return own[known.name]


def strings_of(data: Path) -> Path:
    """The folder of the strings, beside the runs: they are made where they are missing."""
    folder = ROOT / "runs" / "speech" / "strings"
    if not (folder / "test.csv").is_file():
        write(data / "fsdd", folder, SEED, {})
    return folder.resolve()


def train(known: Result, name: str, options: argparse.Namespace) -> Training:
    """A run: as it stands in its folder, or trained now."""
    run = options.runs / f"{known.name}-{name}"
    config = f"configs/speech/{known.name}.toml"
    words = ["--config", config, *flags(known, name, options.data), "--threads", "1"]
    hidden = {"DATA": options.data, "RUNS": options.runs, "ROOT": ROOT}
    lines = trainings.trained("speech", words, run, hidden)
    done = trainings.read(run)
    return Training(
        name,
        done.score["name"],
        done.score["value"],
        done.interval,
        done.best(higher=known.higher),
        done.baselines,
        done.minutes,
        done.epochs,
        lines,
    )


def speed_of(run: Path, name: str, folder: Path) -> Speed:
    """How fast a streaming run is, and how late: the test strings in chunks of `CHUNK` seconds, one thread."""
    import soundfile

    trained = elman.load(run)
    size = round(CHUNK * RATE)
    heard, begun_at = 0.0, time.process_time()
    delays: list[float] = []
    for row in csv.DictReader((folder / "test.csv").read_text(encoding="utf-8").splitlines()):
        samples, _ = soundfile.read(str(folder / row["path"]), dtype="float32")
        listener, known = trained.listen(endpoint=0), [0]
        times = [0.0]
        pieces: list[Any] = [*(samples[at : at + size] for at in range(0, len(samples), size)), None]
        for piece in pieces:
            begun = time.perf_counter()
            listener.finish() if piece is None else listener(piece)
            took = time.perf_counter() - begun
            known.append(len(listener.symbols))
            times.append(min(len(samples), size * (len(known) - 1)) / RATE + took)
        heard += len(samples) / RATE
        delays += delays_of(trained.codec.symbols, listener.symbols, known, times, row)
    late = np.array(delays)
    # Of the processor's own seconds, so that other work on the machine does not count; with what is around the calls.
    spent = time.process_time() - begun_at
    return Speed(name, spent / heard, float(np.median(late)), float(np.quantile(late, 0.95)), len(late))


def delays_of(
    symbols: Any, numbers: Sequence[int], known: Sequence[int], times: Sequence[float], row: dict[str, str]
) -> list[float]:
    """For each word of a string that was heard right: when its last symbol was there, less the end of its recording."""
    import jiwer

    pieces = symbols.pieces(numbers)
    ends = [float(word) for word in row["ends"].split()]
    found = jiwer.process_words(row["text"], " ".join(word for word, _, _ in pieces))
    delays = []
    for chunk in found.alignments[0]:
        if chunk.type == "equal":
            for own, other in zip(
                range(chunk.ref_start_idx, chunk.ref_end_idx),
                range(chunk.hyp_start_idx, chunk.hyp_end_idx),
                strict=True,
            ):
                last = pieces[other][2]
                step = next(place for place, count in enumerate(known) if count > last)
                delays.append(times[step] - ends[own])
    return delays


def page(found: dict[str, list[Training]], speeds: list[Speed], conditions: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = [_row(known, found[known.name]) for known in SETS if known.name in found]
    said = trainings.stated(conditions)
    pieces = [
        f"# Speech\n\n    python -m benchmarks.speech\n\n{said}\n",
        ONCE,
        "| set | measure | test | validation | nearest recording | bar | minutes a run | runs |\n"
        "|---|---|--:|--:|--:|--:|--:|---|\n" + "\n".join(rows) + "\n",
    ]
    if speeds:
        pieces.append(
            "| streaming, seed | real-time factor | delay of a word's last symbol, median | 95th percentile | words |\n"
            "|---|--:|--:|--:|--:|\n" + "".join(map(_speed, speeds))
        )
    pieces += trainings.sections(found, lambda name, one: f"{name}, {one.run}")
    return "\n".join(pieces)


def _speed(one: Speed) -> str:
    times = f"{1000 * one.median:.0f} ms | {1000 * one.late:.0f} ms"
    return f"| {one.run} | {one.factor:.4f} | {times} | {one.words:,} |\n"


def _row(known: Result, own: Sequence[Training]) -> str:
    values = [one.value for one in own]
    first = own[0]
    low, high = trainings.spread(values, first.interval)
    cells = [
        known.name,
        first.metric,
        f"**{statistics.mean(values):.4f}** ({low:.4f} to {high:.4f})",
        f"{statistics.mean(one.valid for one in own):.4f}",
        f"{statistics.mean(one.baselines['nearest recording'] for one in own):.4f}",
        f"{known.bars[0]:g}",
        f"{statistics.mean(one.minutes for one in own):.1f}",
        ", ".join(f"{one.run} {one.value:.4f}" for one in own),
    ]
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> int:
    """Train what is not trained yet, print and write. Exit code 1: a mean lies beyond its bar."""
    options = _options(arguments)
    torch.set_num_threads(1)
    before = trainings.product_rate()
    speeds: list[Speed] = []

    def timed(known: Result, name: str, one: Training) -> str:
        said = f"{known.name}, {name}: {one.metric} {one.value:.4f}, {one.minutes:.1f} minutes"
        if known.name != "streaming":
            return said
        speeds.append(speed_of(options.runs / f"{known.name}-{name}", name, strings_of(options.data)))
        return f"{said}\n    {speeds[-1]}"

    found = trainings.every(
        SETS,
        options,
        lambda known: known.runs[: options.most or None],
        lambda known, name: train(known, name, options),
        timed,
    )
    measured = trainings.conditions(before)
    written = page(found, speeds, measured)
    print(written.split("\n## ", maxsplit=1)[0])
    parts = {"results": trainings.numbers(found), "speeds": [one._asdict() for one in speeds]}
    trainings.record(options.out, "speech", written, measured, parts)
    return _judged(found)


def _judged(found: dict[str, list[Training]]) -> int:
    missed, means = [], trainings.means(found)
    for known in SETS:
        mean = means.get(known.name, known.bars[0])
        if (mean < known.bars[0]) if known.higher else (mean > known.bars[0]):
            missed.append(f"{known.name} {mean:.4f}")
    return trainings.judged(missed, "beyond")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    made = trainings.parser("speech", __doc__)
    made.add_argument("--most", type=int, default=0, help="trainings of each at most (default: all)")
    return trainings.chosen(made, arguments, SETS)


if __name__ == "__main__":
    sys.exit(main())
