"""What a validation finds: the field's own measure, decoded as in use, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from elman.config import UserError

__all__ = ["Remark", "Score", "Streak", "finite", "number"]

NOTHING: Mapping[str, Any] = MappingProxyType({})


def number(value: float) -> str:
    """A value with about four digits: `0.933`, `87.21`, `4.21e+08`."""
    size = abs(value)
    return f"{value:.3f}" if size < 10 else f"{value:.2f}" if size < 1e4 else f"{value:.3g}"


class Remark(NamedTuple):
    """What is to be said beside a score: `text`, and from so many `steps` of the training on `later`, a warning."""

    text: str
    later: str
    steps: int

    def at(self, step: int) -> str:
        """What is said at a step."""
        return self.text if step < self.steps else self.later


class Score(NamedTuple):
    """How good a model is, in the measure by which the best one is chosen: `macro F1 0.933`.

    higher: whether a larger value is the better one. figures: all else that was measured, by name, fit for JSON; a mean
    loss in nats goes by the name "loss". interval: where the value lies at 95 %, if that was asked for.
    """

    name: str
    value: float
    higher: bool
    figures: Mapping[str, Any] = NOTHING
    interval: tuple[float, float] | None = None
    remark: Remark | None = None

    @property
    def cost(self) -> float:
        """The value, turned such that less is better; what is no number costs infinitely much."""
        if math.isnan(self.value):
            return math.inf
        return -self.value if self.higher else self.value

    def reaches(self, other: Score) -> bool:
        """Whether it is as good as another one in the same measure; what is no number reaches nothing."""
        return self.name == other.name and math.isfinite(self.cost) and self.cost <= other.cost

    @property
    def number(self) -> str:
        """The value alone, with its interval where that is known."""
        if self.interval is None:
            return number(self.value)
        low, high = self.interval
        return f"{number(self.value)} ({number(low)} to {number(high)})"

    @property
    def plain_figures(self) -> dict[str, float]:
        """Those of the figures that are one number each."""
        return {name: value for name, value in self.figures.items() if isinstance(value, int | float)}

    def __str__(self) -> str:
        """`macro F1 0.933 (0.927 to 0.939)`."""
        return f"{self.name} {self.number}"

    def to_json(self) -> dict[str, Any]:
        """All of it; a value that JSON cannot hold becomes null."""
        value = self.value if math.isfinite(self.value) else None
        interval = None if self.interval is None else list(self.interval)
        found = {"name": self.name, "value": value, "higher": self.higher, "interval": interval}
        return found | {"figures": finite(dict(self.figures))}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Score:
        """What `to_json` wrote. Raises UserError if it is damaged."""
        try:
            value = math.nan if saved["value"] is None else float(saved["value"])
            interval = None if saved.get("interval") is None else tuple(saved["interval"])
            return cls(saved["name"], value, saved["higher"], saved.get("figures", {}), interval)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"a saved score is damaged ({error!r}); measure anew by elman evaluate") from None


def finite(value: Any) -> Any:
    """A value fit for JSON, which has no form for NaN and infinity: null in their place."""
    if isinstance(value, Mapping):
        return {name: finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Streak:
    """Counts the validations in a row that were not better than the best."""

    def __init__(self) -> None:
        """Nothing has been seen."""
        self.best = math.inf
        self.waited = 0

    def observe(self, cost: float) -> None:
        """Take note of a validation; less is better."""
        if cost < self.best:
            self.best, self.waited = cost, 0
        else:
            self.waited += 1

    def to_json(self) -> dict[str, Any]:
        """What `restore` needs; infinity has no form in JSON and is left out."""
        best = {} if math.isinf(self.best) else {"best": self.best}
        return {"waited": self.waited, **best}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on where `to_json` was called."""
        self.best, self.waited = saved.get("best", math.inf), saved["waited"]
