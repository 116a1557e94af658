"""The whole training loop beside torch.nn: `python -m benchmarks.training [--rounds N] [--steps N] [--out]`.

The classifier of configs/classification/emotion.toml (LSTM 128 both ways, 32 texts a batch) is trained twice in turns,
with the recurrent layers of elman.nn and with those of torch.nn, from the same weights on the same batches by the same
loop (`elman.training.loop.Trainer`): batch, loss, gradient, clipping, update, log. First with texts of like lengths
side by side, then with all lengths mixed, which torch.nn reads as packed sequences. A turn is so many steps that
follow each other; the two sides change their order from round to round. Time is that of the processor, of one thread,
so that other work on the machine counts little. What counts is the ratio within a round; its median is reported with
its spread (interquartile range / median). Both sides must give the same loss and the same gradients, or nothing is
reported. The data lie in the folder of `--data` (else the environment's ELMAN_DATA, else ../shared/data). Exit code 1:
a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.pairing import Case, Ratios, Side, assert_same_answers, machine
from elman.config import read_settings, values_of
from elman.tasks.base import configure, find
from elman.tasks.session import TaskLearner
from elman.training.loop import Trainer
from elman.training.progress import Silent
from elman.training.run import stage

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
CONFIG = ROOT / "configs" / "classification" / "emotion.toml"
# How batches are made, and how many times as fast as torch.nn the loop has to be.
KINDS = {"like lengths": (True, 1.4), "mixed lengths": (False, 2.0)}
WARM = 6


class Loop(Trainer):
    """A training that is timed: it writes its log, and no checkpoint at the end of a turn."""

    def save(self) -> None:
        """Keep nothing."""


class Turns:
    """A training that goes on by so many steps at a call. tokens: how many it has read, without padding."""

    def __init__(self, config: Any, prepared: Any, folder: Path, steps: int) -> None:
        """Draw the first weights by the seed of the settings."""
        torch.manual_seed(config.training.seed)
        task = find("emotion")
        self.learner = TaskLearner(task, config, prepared)
        with stage(folder, task.name, {}, {}, overwrite=False) as run:
            pass
        self.trainer = Loop(self.learner, config.optimizer, config.training, run, Silent())
        self.steps, self.tokens = steps, 0
        self._whole = self.learner.batches

    def __call__(self, steps: int = 0) -> float:
        """Train on; returns tokens a second of the processor."""
        where = self.trainer.position
        # An epoch is not ended in a turn: what follows it, a validation, is not timed.
        if self.learner.epoch_steps - where.index <= (steps or self.steps):
            where.index = 0
        read = sum(self._tokens(where.epoch, where.index + i) for i in range(steps or self.steps))
        self.trainer.total_steps = where.step + (steps or self.steps)
        begun = time.process_time()
        self.trainer.fit()
        return read / (time.process_time() - begun)

    def _tokens(self, epoch: int, index: int) -> int:
        batch, _ = self._whole(epoch, index)
        return int(batch.lengths.sum())

    def answers(self) -> dict[str, torch.Tensor]:
        """Loss and gradients of the first batch, without dropout."""
        model = self.learner.model.eval()
        out = self.learner.loss(1, 0, self.learner.initial_state()).objective
        named = dict(model.named_parameters())
        found = torch.autograd.grad(out, list(named.values()))
        ours = sorted(zip((f"grad {name}" for name in named), found, strict=True))
        return {"loss": out.detach(), **dict(ours)}


@dataclass
class Pair:
    """Tokens a second of the processor in each round, of both sides."""

    kind: str
    bar: float
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> Ratios:
        """As times a token, of which the ratio is the speed-up."""
        return Ratios([1 / rate for rate in self.ours], [1 / rate for rate in self.theirs])


def measure(kind: str, data: Path, rounds: int, steps: int) -> Pair:
    """Train both in turns."""
    alike, bar = KINDS[kind]
    pair = Pair(kind, bar)
    with tempfile.TemporaryDirectory() as folder:
        sides = {
            engine: _turns(engine, data, Path(folder) / engine, steps, alike=alike)
            for engine in ("elman", "torch")
        }
        ours, theirs = sides["elman"], sides["torch"]
        assert_same_answers(Case(kind, Side("elman.nn", ours.answers), Side("torch.nn", theirs.answers)))
        for side in sides.values():
            side(WARM)
        for number in range(rounds):
            turns = [(ours, pair.ours), (theirs, pair.theirs)]
            for side, rates in reversed(turns) if number % 2 else turns:
                rates.append(side())
    return pair


def _turns(engine: str, data: Path, folder: Path, steps: int, *, alike: bool) -> Turns:
    task = find("emotion")
    given = {
        **values_of(task.settings, read_settings(CONFIG), source=str(CONFIG)),
        "data.train": (str(data / "emotion"),),
        "data.alike": alike,
        "model.engine": engine,
        "training.checkpoint_seconds": 0.0,
    }
    config = configure(task, given)
    prepared: Any = task.prepare(config, None)
    # Nothing to validate on: the steps alone are timed.
    return Turns(config, replace(prepared, parts={"train": prepared.parts["train"]}), folder, steps)


def page(pairs: Sequence[Pair], conditions: dict[str, Any], steps: int) -> str:
    """The results as Markdown."""
    said = ", ".join(f"{name} {value}" for name, value in conditions.items())
    lines = [
        "# The training loop beside torch.nn",
        "",
        "`python -m benchmarks.training`: the emotion classifier (LSTM 128 both ways, 32 texts a batch), trained by",
        f"the same loop with layers of elman.nn and of torch.nn in turns of {steps} steps. Tokens a second of the",
        "processor, one thread; padding is not counted. Medians over the rounds; spread: interquartile range / median.",
        "",
        f"{datetime.now(UTC).date().isoformat()}; {said}.",
        "",
        "| batches | elman.nn | torch.nn | times as fast | spread | rounds | bar |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for pair in pairs:
        ratios = pair.ratios
        bar = f"{pair.bar:g}" if ratios.median >= pair.bar else f"**{pair.bar:g} missed**"
        lines.append(
            f"| {pair.kind} | {statistics.median(pair.ours):,.0f} | {statistics.median(pair.theirs):,.0f} "
            f"| {ratios.median:.2f} | {ratios.spread:.1%} | {len(pair.ours)} | {bar} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--rounds", type=int, default=11, metavar="N", help="turns of each (default: 11)")
    parser.add_argument("--steps", type=int, default=25, metavar="N", help="steps of a turn (default: 25)")
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("ELMAN_DATA", ROOT / "../shared/data"))
    )
    parser.add_argument(
        "--out", type=Path, nargs="?", const=RESULTS, help="write the page and its numbers there"
    )
    options = parser.parse_args(arguments)
    if options.rounds < 2 or options.steps < 1:
        parser.error("a spread needs two rounds or more, and a turn one step or more")
    torch.set_num_threads(1)
    conditions = machine()
    pairs = [measure(kind, options.data, options.rounds, options.steps) for kind in KINDS]
    written = page(pairs, conditions, options.steps)
    print(written)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        rates = {pair.kind: {"elman.nn": pair.ours, "torch.nn": pair.theirs} for pair in pairs}
        made = {"date": datetime.now(UTC).date().isoformat(), "machine": conditions, "tokens a second": rates}
        (options.out / "training.md").write_text(written, encoding="utf-8")
        (options.out / "training.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    missed = [pair.kind for pair in pairs if pair.ratios.median < pair.bar]
    if missed:
        print(f"below the promised speed: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
