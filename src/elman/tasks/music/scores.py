"""Metrics: nats a step, with and without the first one, and what simple rules reach beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from elman.tasks.base import Baseline
from elman.tasks.music.pieces import Music, Part
from elman.training.score import Score

__all__ = ["METRIC", "baselines_of", "score_of", "with_interval"]

METRIC = "NLL a step"
Floats = npt.NDArray[np.float64]
# Fewer pieces say nothing about how much pieces differ.
FEWEST = 5


def score_of(losses: Sequence[Floats]) -> Score:
    """The sum over all steps of all pieces, divided by their number; the first step of a piece is one of them.

    "without_first": the same over the steps that have one before them.
    """
    steps = sum(map(len, losses))
    total = float(sum(one.sum() for one in losses))
    later = float(sum(one[1:].sum() for one in losses))
    figures = {
        "loss": total / steps,
        "without_first": later / max(1, steps - len(losses)),
        "steps": steps,
        "pieces": len(losses),
    }
    return Score(METRIC, total / steps, higher=False, figures=figures)


def with_interval(score: Score, losses: Sequence[Floats]) -> Score:
    """The same with the 95 % interval over pieces drawn anew 1,000 times; None of too few."""
    if len(losses) < FEWEST:
        return score
    sums, counts = np.array([one.sum() for one in losses]), np.array([len(one) for one in losses])
    drawn = np.random.default_rng(0).integers(len(losses), size=(1000, len(losses)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
    return score._replace(interval=(float(low), float(high)))


Rule = Callable[[npt.NDArray[np.uint8]], Floats]


def baselines_of(prepared: Music) -> Iterator[Baseline]:
    """How often each key sounds, and how often it goes on sounding, or begins."""
    rules: dict[str, Rule] = {
        "frequency of notes": frequency(prepared.parts["train"]),
        "repeat the last step": repetition(prepared.parts["train"]),
    }
    for name, rule in rules.items():
        for part in prepared.parts.values():
            if part.name != "train":
                yield Baseline(name, part.name, score_of([rule(roll) for roll in part.rolls]))


def frequency(train: Part) -> Rule:
    """Each key sounds as often as in the training data: -log p of each step of a roll."""
    steps = np.concatenate([roll[1:] for roll in train.rolls])
    p = (steps.sum(axis=0, dtype=np.float64) + 0.5) / (len(steps) + 1)
    return lambda roll: _cost(roll[1:], p)


def repetition(train: Part) -> Rule:
    """What sounds goes on with one probability, for all keys; what does not begins with one for each key."""
    before = np.concatenate([roll[:-1] for roll in train.rolls]) > 0
    now = np.concatenate([roll[1:] for roll in train.rolls]) > 0
    stay = ((before & now).sum() + 0.5) / (before.sum() + 1)
    begin = ((~before & now).sum(axis=0) + 0.5) / ((~before).sum(axis=0) + 1)
    return lambda roll: _cost(roll[1:], np.where(roll[:-1] > 0, stay, begin))


def _cost(roll: npt.NDArray[np.uint8], p: Floats) -> Floats:
    found: Floats = -np.where(roll > 0, np.log(p), np.log1p(-p)).sum(axis=1)
    return found
