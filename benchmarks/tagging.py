"""Taggers, trained and tested from their configurations: `python -m benchmarks.tagging [NAME ...]`.

The names are those of configs/tagging (lines, btc). The data lie in the folder of `--data` (else the environment's
ELMAN_DATA, else ../shared/data), a folder for each set; docs/tagging.md says what they are. Each of five seeds is a
training of its own by `elman train`, which reads the test data once, at its end. A training that stands in the folder
of `--runs` already is not done again. Beside the tweets of btc stands the rule "@ and the next word are each PER".
Written (`--out`) are a page and its numbers, with the lines of every run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.classification import WIDTH, product_rate
from benchmarks.pairing import machine

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"


class Result(NamedTuple):
    """A set: its files by part, and its bars: the least mean, and the one hoped for."""

    name: str
    files: dict[str, tuple[str, ...]]
    seeds: int
    bars: tuple[float, float]


SETS = [
    Result(
        "lines",
        {
            "data": ("ud_english_lines/train.conllu",),
            "valid": ("ud_english_lines/dev.conllu",),
            "test": ("ud_english_lines/test.conllu",),
        },
        5,
        (0.956, 0.962),
    ),
    Result(
        "btc",
        {
            "data": tuple(f"btc_ner/{section}.conll" for section in "abeg"),
            "valid": ("btc_ner/f.conll",),
            "test": ("btc_ner/h.conll",),
        },
        5,
        (0.36, 0.43),
    ),
]


class Training(NamedTuple):
    """A run that is done: its score on the test data, the figures and the baselines beside it, its lines."""

    seed: int
    metric: str
    value: float
    interval: tuple[float, float]
    figures: dict[str, float]
    valid: float
    baselines: dict[str, float]
    minutes: float
    epochs: int
    lines: list[str]


def mention_rule(path: Path) -> dict[str, float]:
    """What the rule "@ and the next word are each PER" reaches on a file: the span F1, in total and elsewhere."""
    from elman.data.account import Account
    from elman.data.schemes import TagSpan, spans_of
    from elman.data.tagged import read_sentences
    from elman.metrics import span_counts, span_f1

    sentences = read_sentences([str(path)], Account())
    said = [
        [
            TagSpan(at, at + 1, "PER")
            for at in range(len(s.words))
            if s.words[at] == "@" or (at and s.words[at - 1] == "@")
        ]
        for s in sentences
    ]
    return {
        "total_span_F1": span_f1(span_counts([spans_of(s.tags) for s in sentences], said)),
        "span F1": 0.0,
    }


def train(known: Result, seed: int, data: Path, runs: Path, threads: int) -> Training:
    """A run of this seed: as it stands in its folder, or trained now."""
    run = runs / f"{known.name}-{seed}"
    log = run.with_suffix(".log")
    if not _is_done(run):
        command = [sys.executable, "-m", "elman", "train", "tagging", *_flags(known, seed, data, threads)]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            subprocess.run([*command, "--run", str(run), "--overwrite"], stderr=file, check=True, cwd=ROOT)
    said = log.read_text(encoding="utf-8") if log.is_file() else ""
    # Where things lay on this machine is of no use elsewhere.
    return read(run, seed, said.replace(str(data.resolve()), "DATA").replace(str(runs.resolve()), "RUNS"))


def _is_done(run: Path) -> bool:
    return (run / "scores.json").is_file()


def _flags(known: Result, seed: int, data: Path, threads: int) -> list[str]:
    files = [
        word
        for part, paths in known.files.items()
        for word in (f"--{part}", *(str((data / path).resolve()) for path in paths))
    ]
    config = f"configs/tagging/{known.name}.toml"
    return ["--config", config, *files, "--seed", str(seed), "--threads", str(threads)]


def read(run: Path, seed: int, log: str) -> Training:
    """What a run folder says."""
    score = json.loads((run / "scores.json").read_text())["test"]
    beside = json.loads((run / "baselines.json").read_text())
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    valid = [event for event in events if event["event"] == "valid"]
    # Lines of progress have a share in front; the others are kept.
    lines = [line for line in log.splitlines() if line.strip() and not re.match(r"\s*\d+%", line)]
    return Training(
        seed,
        score["name"],
        score["value"],
        tuple(score["interval"]),
        {name: value for name, value in score["figures"].items() if isinstance(value, int | float)},
        max(event["score"] for event in valid),
        {known["baseline"]: known["value"] for known in beside if known["part"] == "test"},
        events[-1]["seconds"] / 60,
        # The line at the end names the epoch that would come next.
        max(event["epoch"] for event in valid),
        lines,
    )


def page(found: dict[str, list[Training]], rule: dict[str, float], conditions: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = [_row(known, found[known.name]) for known in SETS if known.name in found]
    said = ", ".join(f"{name} {value}" for name, value in conditions.items())
    how = (
        "The test data were read once by each run, at its end. In brackets the spread over the seeds, or, of one seed, "
        "the 95 % interval over the test sentences.\n"
    )
    pieces = [
        f"# Taggers\n\n    python -m benchmarks.tagging\n\n{said}\n",
        how,
        "| set | measure | test | validation | linear | most frequent tag | bars | minutes a run | seeds |\n"
        "|---|---|--:|--:|--:|--:|--:|--:|--:|\n" + "\n".join(rows) + "\n",
    ]
    if "btc" in found:
        pieces.append(_totals(found["btc"], rule))
    for name, trainings in found.items():
        for one in trainings:
            body = "\n".join(f"    {line}" for line in one.lines)
            pieces.append(f"## {name}, seed {one.seed}\n\n{body}\n")
    return "\n".join(pieces)


def _row(known: Result, trainings: Sequence[Training]) -> str:
    values = [one.value for one in trainings]
    first = trainings[0]
    low, high = (min(values), max(values)) if len(values) > 1 else first.interval
    cells = [
        known.name,
        first.metric,
        f"**{statistics.mean(values):.4f}** ({low:.4f} to {high:.4f})",
        f"{statistics.mean(one.valid for one in trainings):.4f}",
        *(
            f"{first.baselines[name]:.4f}"
            for name in ("linear model of words and affixes", "most frequent tag")
        ),
        f"{known.bars[0]:g}, {known.bars[1]:g}",
        f"{statistics.mean(one.minutes for one in trainings):.1f}",
        " ".join(str(one.seed) for one in trainings),
    ]
    return f"| {' | '.join(cells)} |"


def _totals(trainings: Sequence[Training], rule: dict[str, float]) -> str:
    """With the mentions, of which a rule gets most: the total says little."""
    total = statistics.mean(one.figures["total_span_F1"] for one in trainings)
    first = trainings[0].figures
    return (
        f"Outside of mentions (@ and the word behind it) lie {first['spans']:,} of the {first['total_spans']:,} spans "
        f"of btc's test. Over all spans the F1 is {total:.4f}; the rule that @ and the next word are each PER has "
        f"{rule['total_span_F1']:.4f}, and none outside of them.\n"
    )


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
    rule = mention_rule(options.data / SETS[1].files["test"][0]) if "btc" in found else {}
    written = page(found, rule, conditions)
    print(written.split("\n## ", maxsplit=1)[0])
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        made = {"date": datetime.now(UTC).date().isoformat(), "conditions": conditions}
        numbers = {name: [one._asdict() for one in own] for name, own in found.items()}
        (options.out / "tagging.md").write_text(written, encoding="utf-8")
        text = json.dumps({**made, "rule": rule, "results": numbers}, indent=1, ensure_ascii=False)
        (options.out / "tagging.json").write_text(text + "\n", encoding="utf-8")
    means = {name: statistics.mean(one.value for one in own) for name, own in found.items()}
    missed = [
        f"{known.name} {means[known.name]:.4f}" for known in SETS if means.get(known.name, 1) < known.bars[0]
    ]
    if missed:
        print(f"below the bar: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tagging", description=__doc__)
    parser.add_argument("names", nargs="*", help="which sets (default: all)")
    parser.add_argument("--seeds", type=int, default=0, help="trainings of each (default: 5)")
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("ELMAN_DATA", ROOT / "../shared/data"))
    )
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "tagging", help="folder of the runs")
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
