"""What a step does, as a list of plain things that can be compared: with another run of it, at other sizes.

Two runs at two values of each size that varies give a pattern, in which the numbers that differ are formulas of the
sizes. A run at the sizes of a call fits it where it does the same operations on the same tensors with the numbers that
the formulas give: then what was made of the two runs is what the step does at these sizes, whatever it decides by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from elman.engine.errors import NotSupported
from elman.engine.program.program import INPUTS, OUTPUTS, Rows
from elman.engine.tracing.lengths import Length, Portion, Symbols
from elman.engine.tracing.merge import size_of
from elman.engine.tracing.record import Tracer, record
from elman.engine.tracing.trace import Sample, differentiate
from elman.engine.watching.reached import Entered

__all__ = ["Pattern"]

_LARGEST_CONSTANT = 4096
_ROUNDING = 1e-12
_PRIMES = tuple(p for p in range(3, 400) if all(p % d for d in range(2, p)))


class Pattern:
    """What a step does at any sizes, seen at two."""

    def __init__(
        self, step: Callable[..., Any], samples: Sequence[Sample], p: Sequence[Tensor], grad: bool,
        labels: dict[int, str], symbols: Symbols,
    ) -> None:  # fmt: skip
        self.step, self.grad, self.labels = step, grad, labels
        self.entered = Entered()
        first, second = (self._things(sample, p) for sample in samples)
        rows = (samples[0].rows, samples[1].rows)
        if len(first) != len(second):
            raise NotSupported("the step does other operations at another size")
        self.things = [_general(m, n, rows, symbols) for m, n in zip(first, second, strict=True)]
        self.numbers = {n for n in self.things if isinstance(n, int) and not isinstance(n, bool)}
        self.entered.known = True

    def rows(self, sizes: Sequence[int]) -> int:
        """How many rows a check at these sizes takes: few, a prime by which no other number in it can be divided."""
        numbers = {abs(n.at(sizes)) if isinstance(n, Length) else abs(n) for n in self.numbers}
        free = (p for p in _PRIMES if all(n % p or not n for n in numbers))
        return next(free, _PRIMES[-1])

    def check(self, sample: Sample, p: Sequence[Tensor], sizes: Sequence[int]) -> None:
        """Raise NotSupported where the step does something else on this sample, whose sizes are given."""
        things = self._things(sample, p)
        rows = sample.rows
        if len(things) != len(self.things) or not all(
            _fits(a, b, rows, sizes) for a, b in zip(self.things, things, strict=True)
        ):
            raise NotSupported(f"the step does something else at the sizes {tuple(sizes)}")
        if self.entered.others:
            raise NotSupported(f"the step calls other functions at the sizes {tuple(sizes)}")

    def _things(self, sample: Sample, p: Sequence[Tensor]) -> list[Any]:
        roles: dict[str, list[Any]] = {"x": sample.x, "s": sample.s, "c": sample.c, "p": list(p)}

        def call(tracer: Tracer) -> None:
            tracer.told = ("", "")  # nobody asks where an operation is
            y, ns, _ = sample.call(self.step)
            roles["y"], roles["ns"] = y, ns
            if self.grad:
                differentiate(roles, y, ns)

        tracer, _ = record(call, self.labels, sample.rows)
        # by itself: while the tracer is at work, most that is entered is the tracer's own
        self.entered.during(lambda: sample.call(self.step))
        names: dict[int, str] = {}
        things: list[Any] = []
        for role in INPUTS:
            _write([t for t in roles.get(role, ()) if isinstance(t, Tensor)], names, things)
        for entry in tracer.records:
            things.append(entry.func)
            _write((entry.args, entry.kwargs, entry.outs), names, things)
            if entry.func is torch.ops.aten.lift_fresh.default and entry.args[0].numel() <= _LARGEST_CONSTANT:
                things.append(repr(entry.args[0].tolist()))
        things += [None if t is None else names.get(id(t)) for role in OUTPUTS for t in roles.get(role, ())]
        return things


def _write(tree: Any, names: dict[int, str], things: list[Any]) -> None:
    """What is in a nest of lists, tuples and dicts; a tensor by a name, at the first time with its shape."""
    if isinstance(tree, Tensor):
        name = names.get(id(tree))
        if name is None:
            names[id(tree)] = name = f"t{len(names)}"
            things += (name, tree.dtype, *tree.shape)
        else:
            things.append(name)
    elif isinstance(tree, list | tuple):
        things.append(len(tree))
        for item in tree:
            _write(item, names, things)
    elif isinstance(tree, dict):
        for key in sorted(tree):
            things.append(key)
            _write(tree[key], names, things)
    else:
        things.append(int(tree) if isinstance(tree, int) and not isinstance(tree, bool) else tree)


def _general(m: Any, n: Any, rows: tuple[int, int], symbols: Symbols) -> Any:
    """The thing that is `m` in one run and `n` in the other."""
    if type(m) is type(n) and (m == n or repr(m) == repr(n)):
        return m
    if isinstance(m, int) and isinstance(n, int) and not isinstance(m, bool):
        return size_of(int(m), int(n), rows, symbols)
    found = symbols.portion(m, n) if isinstance(m, float) and isinstance(n, float) else None
    if found is None:
        raise NotSupported("a size that varies enters a computation")
    return found


def _fits(a: Any, b: Any, rows: int, sizes: Sequence[int]) -> bool:
    if a is b:
        return True
    if isinstance(a, Rows):
        return bool(b == rows * (a.factor.at(sizes) if isinstance(a.factor, Length) else a.factor))
    if isinstance(a, Length):
        return bool(b == a.at(sizes))
    if isinstance(a, Portion):
        return isinstance(b, float) and math.isclose(b, a.at(sizes), rel_tol=_ROUNDING)
    return bool(a == b or repr(a) == repr(b))
