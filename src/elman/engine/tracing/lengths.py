"""Sizes that vary from call to call, like the batch: integers that know which size they are made of.

A step is traced with two prime values for each such size. A number of the trace that differs between the two is a
formula of the sizes: a `Length` (an integer), a `Portion` (a number made of one). In sums and products of the passes a
Length goes on to know what it is; its `at` gives the number for the sizes of a call.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

__all__ = ["Length", "Portion", "Symbols"]

# Powers of the sizes (their numbers, in order, as often as they are multiplied) -> factor
Formula = dict[tuple[int, ...], int]
# What a step makes of a size where it needs a number; each times a constant.
_PORTIONS: dict[str, Callable[[float], float]] = {
    "n": float, "1/n": lambda n: 1 / n, "sqrt n": math.sqrt, "1/sqrt n": lambda n: 1 / math.sqrt(n), "log n": math.log,
    "1/log n": lambda n: 1 / math.log(n),
}  # fmt: skip
_ROUNDING = 1e-12
_MOST_OFFSET = 64


class Length(int):
    """An integer of a trace, with the formula that gives it."""

    formula: Formula

    @classmethod
    def of(cls, value: int, formula: Formula) -> int:
        """A plain integer where no size is left in the formula."""
        formula = {powers: factor for powers, factor in formula.items() if factor}
        if not any(formula):
            return int(value)
        length = cls(value)
        length.formula = formula
        return length

    def __repr__(self) -> str:
        return f"{int(self)}:{sorted(self.formula.items())}"  # no other size, nor number, reads like it

    __str__ = __repr__

    def __add__(self, other: int) -> int:
        formula = dict(self.formula)
        for powers, factor in _formula(other).items():
            formula[powers] = formula.get(powers, 0) + factor
        return Length.of(int(self) + int(other), formula)

    def __neg__(self) -> int:
        return Length.of(-int(self), {powers: -factor for powers, factor in self.formula.items()})

    def __sub__(self, other: int) -> int:
        return self + -other

    def __rsub__(self, other: int) -> int:
        return -self + other

    def __mul__(self, other: int) -> int:
        formula: Formula = {}
        for p, f in self.formula.items():
            for q, g in _formula(other).items():
                powers = tuple(sorted((*p, *q)))
                formula[powers] = formula.get(powers, 0) + f * g
        return Length.of(int(self) * int(other), formula)

    __radd__, __rmul__ = __add__, __mul__

    def at(self, sizes: Sequence[int]) -> int:
        """The integer for these sizes."""
        return sum(factor * math.prod(sizes[k] for k in powers) for powers, factor in self.formula.items())


def _formula(number: int) -> Formula:
    return number.formula if isinstance(number, Length) else {(): int(number)}


class Portion(float):
    """A number of a trace that is made of a size."""

    kind: str  # of _PORTIONS
    factor: float
    size: int
    offset: int

    @classmethod
    def of(cls, value: float, kind: str, factor: float, size: int, offset: int) -> Portion:
        portion = cls(value)
        portion.kind, portion.factor, portion.size, portion.offset = kind, factor, size, offset
        return portion

    def __repr__(self) -> str:
        return f"{float(self)}:{self.factor}*{self.kind}[{self.size}+{self.offset}]"

    __str__ = __repr__

    def at(self, sizes: Sequence[int]) -> float:
        """The number for these sizes."""
        return self.factor * _PORTIONS[self.kind](sizes[self.size] + self.offset)


class Symbols:
    """The sizes that vary, each with its values in the two runs of a trace."""

    def __init__(self, pairs: Sequence[tuple[int, int]] = ()) -> None:
        self.pairs = pairs

    def length(self, m: int, n: int) -> int | None:
        """The integer that is `m` in one run and `n` in the other, or None where no formula gives both."""
        if m == n:
            return m
        powers: list[int] = []
        c, d = m, n
        for k, (a, b) in enumerate(self.pairs):
            while c and d and c % a == 0 and d % b == 0:
                c, d = c // a, d // b
                powers.append(k)
        if c == d:
            return Length.of(m, {tuple(powers): c})
        found = [
            {(k,): slope, (): m - slope * a}
            for k, (a, b) in enumerate(self.pairs)
            if (slope := (n - m) // (b - a)) * (b - a) == n - m and abs(m - slope * a) <= _MOST_OFFSET
        ]
        return Length.of(m, found[0]) if len(found) == 1 else None

    def portion(self, m: float, n: float) -> float | None:
        """The number that is `m` in one run and `n` in the other, or None where no formula gives both."""
        for k, (a, b) in enumerate(self.pairs):
            for offset, (kind, of) in itertools.product((0, -1, 1), _PORTIONS.items()):
                factor = m / of(a + offset)
                if math.isclose(factor, n / of(b + offset), rel_tol=_ROUNDING):
                    return Portion.of(m, kind, factor, k, offset)
        return None
