"""Counts of all processes in one file of numbers, shown as Prometheus reads them.

Each process has a row of numbers in a file that all of them map into memory, and writes into its own row alone; whoever
is asked adds the rows up. Which numbers there are follows from the names of the models, so that nothing grows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from elman.serve.models import VERBS

__all__ = ["CODES", "Board"]

CODES = (200, 400, 401, 403, 404, 405, 408, 409, 410, 413, 414, 415, 422, 426, 431, 499, 500, 503, 504, 505)
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# name: (kind, what it is)
KINDS = {
    "requests_total": ("counter", "Requests, by the code of their answers."),
    "request_seconds": ("histogram", "How long requests of a model took."),
    "messages_total": ("counter", "Messages of sessions that were answered."),
    "message_seconds": ("histogram", "From a message of a session to its answer."),
    "refused_total": ("counter", "Messages of sessions that were refused."),
    "sessions": ("gauge", "Sessions that are open."),
    "sessions_total": ("counter", "Sessions that were opened."),
    "evicted_total": ("counter", "Sessions that were closed because they were idle."),
    "waiting": ("gauge", "Requests that wait or are in progress."),
    "steps_total": ("counter", "Steps of the batch."),
    "rows_total": ("counter", "Rows that took a step; by steps_total: the batch's mean width."),
    "step_seconds_total": ("counter", "Time in steps."),
    "connections": ("gauge", "Connections that are open."),
}


class Board:
    """The numbers. process: which row is written, from 0."""

    def __init__(
        self, models: Sequence[str], path: Path | None = None, *, process: int = 0, processes: int = 1
    ) -> None:
        series = [f'requests_total{{code="{code}"}}' for code in CODES] + ["connections"]
        for model in models:
            label = f'model="{model}"'
            for verb in VERBS:
                series += _histogram("request_seconds", f'{label},request="{verb}"')
            series += _histogram("message_seconds", label)
            series += [
                f"{name}{{{label}}}"
                for name in (
                    "messages_total", "refused_total", "sessions", "sessions_total", "evicted_total", "waiting",
                    "steps_total", "rows_total", "step_seconds_total",
                )
            ]  # fmt: skip
        self.places = {name: i for i, name in enumerate(series)}
        shape = (processes, len(series))
        if path is None:
            self.all = np.zeros(shape)
        else:
            new = not path.exists()
            self.all = np.memmap(path, np.float64, "w+" if new else "r+", shape=shape)
        self.own = self.all[process]
        for name, place in self.places.items():
            if KINDS[_family(name)][0] == "gauge":
                self.own[place] = 0

    def add(self, name: str, amount: float = 1) -> None:
        """Count. name: of a series, with its labels."""
        self.own[self.places[name]] += amount

    def put(self, name: str, value: float) -> None:
        """What is so now."""
        self.own[self.places[name]] = value

    def answered(self, code: int) -> None:
        """A request was answered so."""
        self.add(f'requests_total{{code="{code if code in CODES else 500}"}}')

    def took(self, family: str, labels: str, seconds: float) -> None:
        """Into a histogram."""
        first = self.places[f'{family}_bucket{{{labels},le="{BOUNDS[0]:g}"}}']
        k = bisect_left(BOUNDS, seconds)
        self.own[first + k : first + len(BOUNDS) + 2] += 1  # all wider ones, +Inf and the count
        self.own[first + len(BOUNDS) + 2] += seconds

    def text(self) -> str:
        """As Prometheus reads it."""
        totals = self.all.sum(axis=0)
        lines: dict[str, list[str]] = {}
        for name, place in self.places.items():
            lines.setdefault(_family(name), []).append(f"elman_{name} {totals[place]:.17g}")
        found = []
        for family, entries in lines.items():
            kind, what = KINDS[family]
            found += [f"# HELP elman_{family} {what}", f"# TYPE elman_{family} {kind}", *entries]
        return "\n".join(found) + "\n"


def _histogram(family: str, labels: str) -> list[str]:
    buckets = [f'{family}_bucket{{{labels},le="{bound:g}"}}' for bound in BOUNDS]
    return [
        *buckets,
        f'{family}_bucket{{{labels},le="+Inf"}}',
        f"{family}_count{{{labels}}}",
        f"{family}_sum{{{labels}}}",
    ]


def _family(name: str) -> str:
    bare = name.split("{", maxsplit=1)[0]
    for ending in ("_bucket", "_count", "_sum"):
        if bare.endswith(ending) and bare.removesuffix(ending) in KINDS:
            return bare.removesuffix(ending)
    return bare
