"""Taggers, trained and tested from their configurations: `python -m benchmarks.tagging [NAME ...]`.

The names are those of configs/tagging (lines, btc). The data lie in the folder of `--data` (else the environment's
ELMAN_DATA, else ../shared/data), a folder for each set; docs/tagging.md says what they are. Each of five seeds is a
training of its own by `elman train`, which reads the test data once, at its end. A training that stands in the folder
of `--runs` already is not done again. Beside the tweets of btc stands the rule "@ and the next word are each PER".
Written (`--out`) are a page and its numbers, with the lines of every run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import trainings


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


def train(known: Result, seed: int, options: argparse.Namespace) -> Training:
    """A run of this seed: as it stands in its folder, or trained now."""
    run = options.runs / f"{known.name}-{seed}"
    files = [
        word
        for part, paths in known.files.items()
        for word in (f"--{part}", *(str((options.data / path).resolve()) for path in paths))
    ]
    flags = ["--config", f"configs/tagging/{known.name}.toml", *files]
    flags += ["--seed", str(seed), "--threads", str(options.threads)]
    lines = trainings.trained("tagging", flags, run, {"DATA": options.data, "RUNS": options.runs})
    done = trainings.read(run)
    return Training(
        seed,
        done.score["name"],
        done.score["value"],
        done.interval,
        {name: value for name, value in done.score["figures"].items() if isinstance(value, int | float)},
        done.best(higher=True),
        done.baselines,
        done.minutes,
        done.epochs,
        lines,
    )


def page(found: dict[str, list[Training]], rule: dict[str, float], conditions: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = [_row(known, found[known.name]) for known in SETS if known.name in found]
    said = trainings.stated(conditions)
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
    pieces += trainings.sections(found, lambda name, one: f"{name}, seed {one.seed}")
    return "\n".join(pieces)


def _row(known: Result, own: Sequence[Training]) -> str:
    values = [one.value for one in own]
    first = own[0]
    low, high = trainings.spread(values, first.interval)
    cells = [
        known.name,
        first.metric,
        f"**{statistics.mean(values):.4f}** ({low:.4f} to {high:.4f})",
        f"{statistics.mean(one.valid for one in own):.4f}",
        *(
            f"{first.baselines[name]:.4f}"
            for name in ("linear model of words and affixes", "most frequent tag")
        ),
        f"{known.bars[0]:g}, {known.bars[1]:g}",
        f"{statistics.mean(one.minutes for one in own):.1f}",
        " ".join(str(one.seed) for one in own),
    ]
    return f"| {' | '.join(cells)} |"


def _totals(own: Sequence[Training], rule: dict[str, float]) -> str:
    """With the mentions, of which a rule gets most: the total says little."""
    total = statistics.mean(one.figures["total_span_F1"] for one in own)
    first = own[0].figures
    return (
        f"Outside of mentions (@ and the word behind it) lie {first['spans']:,} of the {first['total_spans']:,} spans "
        f"of btc's test. Over all spans the F1 is {total:.4f}; the rule that @ and the next word are each PER has "
        f"{rule['total_span_F1']:.4f}, and none outside of them.\n"
    )


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
    rule = mention_rule(options.data / SETS[1].files["test"][0]) if "btc" in found else {}
    written = page(found, rule, measured)
    print(written.split("\n## ", maxsplit=1)[0])
    parts = {"rule": rule, "results": trainings.numbers(found)}
    trainings.record(options.out, "tagging", written, measured, parts)
    means = trainings.means(found)
    missed = [
        f"{known.name} {means[known.name]:.4f}" for known in SETS if means.get(known.name, 1) < known.bars[0]
    ]
    return trainings.judged(missed, "below")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    made = trainings.parser("tagging", __doc__)
    return trainings.chosen(trainings.seeded(made, "5"), arguments, SETS)


if __name__ == "__main__":
    sys.exit(main())
