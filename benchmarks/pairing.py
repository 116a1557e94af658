"""Paired timing: two ways to compute the same thing, measured in turns in one process.

Both sides must give the same answers, values and gradients, or nothing is reported. One round times each side for a
while, and the next round swaps their order, so that a machine that slows down or warms up hits both. What counts is
the ratio within a round; its median is reported with its spread, and the second side timed against itself tells the
noise of the whole procedure.
"""

import gc
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.tolerances import assert_near

Answers = Mapping[str, Tensor]


# Seconds. After a call onnxruntime's threads keep a processor busy for 40 ms, those of torch for 10.
AWAKE = 0.06


class AnswersDifferError(AssertionError):
    """The two sides do not compute the same thing; their times are not comparable."""


@dataclass(frozen=True)
class Side:
    """One way to compute it. `run` does the whole computation; `read` turns its result into answers by name.

    Only `run` is timed. A name that begins with `grad` is held to the tolerance of gradients, any other to that of
    values. Without `read` the result is the answers. own_threads: it brings threads that torch does not know; before
    each turn of such a pair there is a pause, until the other side's threads have gone to sleep, and an untimed call.
    """

    name: str
    run: Callable[[], Any]
    read: Callable[[Any], Answers] | None = None
    own_threads: bool = False

    def answers(self) -> Answers:
        """Compute once and give the answers."""
        result = self.run()
        named: Answers = result if self.read is None else self.read(result)
        return named


@dataclass(frozen=True)
class Case:
    """What is compared, and the least speed-up (time of theirs / time of ours) that the project promises, if any."""

    name: str
    ours: Side
    theirs: Side
    bar: float | None = None


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    seconds: least time of one side in one round. rounds: how many at least. most_rounds: how many at most, while the
    spread of the ratios (interquartile range / median) is above `spread`.
    """

    seconds: float = 0.3
    rounds: int = 6
    most_rounds: int = 18
    spread: float = 0.05


@dataclass(frozen=True)
class Ratios:
    """Times of two sides, in seconds a call, round by round."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median over the rounds of theirs / ours."""
        return statistics.median(self._by_round())

    @property
    def spread(self) -> float:
        """Interquartile range of the ratios / their median."""
        low, _, high = statistics.quantiles(self._by_round(), n=4, method="inclusive")
        return (high - low) / self.median

    def _by_round(self) -> list[float]:
        return [b / a for a, b in zip(self.ours, self.theirs, strict=True)]


@dataclass(frozen=True)
class Result:
    """One line of a report. Times in milliseconds a call, medians; noise: |1 - ratio| of theirs against itself."""

    case: str
    ours: str
    theirs: str
    ours_ms: float
    theirs_ms: float
    speedup: float
    spread: float
    noise: float
    rounds: int
    bar: float | None

    @property
    def met(self) -> bool:
        """Whether the promised speed-up is reached (true where nothing is promised)."""
        return self.bar is None or self.speedup >= self.bar


def compare(case: Case, effort: Effort | None = None) -> Result:
    """Check that both sides give the same answers, then time them. Raises AnswersDifferError."""
    effort = effort or Effort()
    assert_same_answers(case)
    ratios = measure(case.ours, case.theirs, effort)
    noise = measure(case.theirs, case.theirs, effort)
    return Result(
        case=case.name,
        ours=case.ours.name,
        theirs=case.theirs.name,
        ours_ms=1e3 * statistics.median(ratios.ours),
        theirs_ms=1e3 * statistics.median(ratios.theirs),
        speedup=ratios.median,
        spread=ratios.spread,
        noise=abs(1 - noise.median),
        rounds=len(ratios.ours),
        bar=case.bar,
    )


def assert_same_answers(case: Case) -> None:
    """Raise AnswersDifferError unless both sides name the same answers and agree within the tests' tolerances."""
    ours, theirs = case.ours.answers(), case.theirs.answers()
    if ours.keys() != theirs.keys():
        raise AnswersDifferError(f"{case.name}: answers {sorted(ours)} beside {sorted(theirs)}")
    for name, expected in theirs.items():
        try:
            assert_near(ours[name], expected, gradient=name.startswith("grad"), what=f"{case.name}, {name}")
        except AssertionError as error:
            raise AnswersDifferError(f"{error}\nnothing is reported for {case.name}") from None


def measure(ours: Side, theirs: Side, effort: Effort) -> Ratios:
    """Time both sides in turns, the order swapped every round, until the spread is small or the rounds are used up."""
    gc.collect()
    ratios = Ratios()
    pause = AWAKE if ours.own_threads or theirs.own_threads else 0.0
    ours_calls, theirs_calls = _calls(ours, effort.seconds), _calls(theirs, effort.seconds)
    while len(ratios.ours) < effort.rounds or (
        ratios.spread > effort.spread and len(ratios.ours) < effort.most_rounds
    ):
        turns = [(ours, ours_calls, ratios.ours), (theirs, theirs_calls, ratios.theirs)]
        if len(ratios.ours) % 2:
            turns.reverse()
        for side, calls, times in turns:
            if pause:
                time.sleep(pause)
                side.run()
            times.append(_time(side, calls))
    return ratios


def _calls(side: Side, seconds: float) -> int:
    """How many calls take at least `seconds`, from a warm call."""
    side.run()
    return max(1, math.ceil(seconds / _time(side, 3)))


def _time(side: Side, calls: int) -> float:
    """Seconds a call, over so many calls, without the garbage collector."""
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in range(calls):
            side.run()
        return (time.perf_counter() - start) / calls
    finally:
        gc.enable()


def machine() -> dict[str, str | int | float]:
    """What the times depend on, as it is now."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load before": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    """The name that Linux gives the processor, else what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(results: list[Result]) -> str:
    """The results as a Markdown table."""
    head = "| case | ours | ms | theirs | ms | speed-up | spread | noise | bar |\n|---|---|--:|---|--:|--:|--:|--:|--:|"
    return "\n".join([head, *map(_row, results)])


def _row(result: Result) -> str:
    bar = "" if result.bar is None else f"{result.bar:g}" if result.met else f"**{result.bar:g} missed**"
    return (
        f"| {result.case} | {result.ours} | {result.ours_ms:.3g} | {result.theirs} | {result.theirs_ms:.3g} "
        f"| {result.speedup:.2f} | {result.spread:.1%} | {result.noise:.1%} | {bar} |"
    )
