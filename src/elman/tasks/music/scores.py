"""Metrics: nats a step, with and without the first one, and what simple rules reach beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from elman.tasks.base import Baseline
from elman.tasks.music.pieces import Music, Part, Sequenced
from elman.training.score import Score

__all__ = ["METRICS", "baselines_of", "score_of", "with_interval"]

METRICS = {"step": "NLL a step", "event": "NLL an event"}
Floats = npt.NDArray[np.float64]
# Fewer pieces say nothing about how much pieces differ.
FEWEST = 5


def score_of(losses: Sequence[Floats], unit: str = "step") -> Score:
    """The sum over all steps of all pieces, divided by their number; the first step of a piece is one of them.

    unit: "step" or "event". "without_first": the same over the steps that have one before them.
    """
    steps = sum(map(len, losses))
    total = float(sum(one.sum() for one in losses))
    later = float(sum(one[1:].sum() for one in losses))
    figures = {
        "loss": total / steps,
        "without_first": later / max(1, steps - len(losses)),
        f"{unit}s": steps,
        "pieces": len(losses),
    }
    return Score(METRICS[unit], total / steps, higher=False, figures=figures)


def with_interval(score: Score, losses: Sequence[Floats]) -> Score:
    """The same with the 95 % interval over pieces drawn anew 1,000 times; None of too few."""
    if len(losses) < FEWEST:
        return score
    sums, counts = np.array([one.sum() for one in losses]), np.array([len(one) for one in losses])
    drawn = np.random.default_rng(0).integers(len(losses), size=(1000, len(losses)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
    return score._replace(interval=(float(low), float(high)))


Rule = Callable[[Sequenced], Floats]
# How many times an event is taken to have come, by its frequency alone, after each other one.
PRIOR = 5.0


def baselines_of(prepared: Music) -> Iterator[Baseline]:
    """How often each key sounds, and how often it goes on sounding or begins; of events, how often each comes, and how
    often after the one before.
    """
    train, unit = prepared.parts["train"], prepared.codec.unit
    rules: dict[str, Rule]
    if prepared.codec.words is None:
        rules = {"frequency of notes": frequency(train), "repeat the last step": repetition(train)}
    else:
        once, twice = event_rules(train, prepared.codec.size)
        rules = {"frequency of events": once, "the event before": twice}
    for name, rule in rules.items():
        for part in prepared.parts.values():
            if part.name != "train":
                yield Baseline(name, part.name, score_of([rule(one) for one in part.sequences], unit))


def frequency(train: Part) -> Rule:
    """Each key sounds as often as in the training data: -log p of each step of a roll."""
    steps = np.concatenate([roll[1:] for roll in train.sequences])
    p = (steps.sum(axis=0, dtype=np.float64) + 0.5) / (len(steps) + 1)
    return lambda roll: _cost(roll[1:], p)


def repetition(train: Part) -> Rule:
    """What sounds goes on with one probability, for all keys; what does not begins with one for each key."""
    before = np.concatenate([roll[:-1] for roll in train.sequences]) > 0
    now = np.concatenate([roll[1:] for roll in train.sequences]) > 0
    stay = ((before & now).sum() + 0.5) / (before.sum() + 1)
    begin = ((~before & now).sum(axis=0) + 0.5) / ((~before).sum(axis=0) + 1)
    return lambda roll: _cost(roll[1:], np.where(roll[:-1] > 0, stay, begin))


def _cost(roll: npt.NDArray[np.uint8], p: Floats) -> Floats:
    found: Floats = -np.where(roll > 0, np.log(p), np.log1p(-p)).sum(axis=1)
    return found


def event_rules(train: Part, size: int) -> tuple[Rule, Rule]:
    """-log p of each event by its frequency, and by that after the event before it.

    p(b) = (n(b) + 1/2) / (n + size / 2)        p(b | a) = (n(ab) + k p(b)) / (n(a) + k), k = 5
    (MacKay & Peto 1995: a Dirichlet prior around the frequencies.)
    """
    pairs = np.zeros((size, size))
    for events in train.sequences:
        np.add.at(pairs, (events[:-1], events[1:]), 1)
    once = (pairs.sum(axis=0) + 0.5) / (pairs.sum() + size / 2)
    after = (pairs + PRIOR * once) / (pairs.sum(axis=1, keepdims=True) + PRIOR)
    return (
        lambda events: -np.log(once[events[1:]]),
        lambda events: -np.log(after[events[:-1], events[1:]]),
    )
