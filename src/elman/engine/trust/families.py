"""Calls that differ in a size beside T and B (the source lengths of an attention decoder): one trace for all of them.

At the second value of such a size the step is traced with sizes that vary (see `lengths`). What a call then takes is
that graph with its own numbers in it. Before the first call with some sizes the step is run once at these, to see that
it does what the graph says (see `pattern`), and the program is compared with it, values and gradients.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from elman.engine.call.inputs import Inputs, batch_sizes, sample
from elman.engine.call.run import Plan
from elman.engine.errors import NotSupported
from elman.engine.lowering.linear import assert_linear
from elman.engine.lowering.lower import Needs, lower
from elman.engine.lowering.passes import optimize
from elman.engine.program.program import (
    OUTPUTS,
    PROGRAM_INPUTS,
    Graph,
    Node,
    Program,
    Rows,
    Section,
    Value,
    refs,
)
from elman.engine.structure import leaves_of, mapped
from elman.engine.tracing.lengths import Length, Portion, Symbols
from elman.engine.tracing.trace import trace
from elman.engine.trust.pattern import Pattern
from elman.engine.watching.guards import Guard, Reached
from elman.engine.watching.snapshot import Snapshot

__all__ = ["Anew", "Axes", "Entry", "Family", "Wanted", "bound", "same_way", "traced", "widened"]

# Of each size of a call (see `Inputs.sizes`): itself where it is fixed, -1 - k where it is the k-th that varies.
Axes = tuple[int, ...]
_MOST_ENTRIES = 512
_MOST_PAIRS = 64  # of sizes and batch sizes that are compared one by one
_ENOUGH = 8  # sizes at which a program has been compared, before it is believed at others between these
# A layer says that it is traced again and again from so many times on, if they take such a part of its time.
_OFTEN, _MUCH = 8, 0.2
Key = tuple[Any, tuple[int, ...]]  # see `Inputs.key`
Wanted = tuple[Needs, str | None]  # gradients and backend: what a plan is for


def widened(axes: Axes, sizes: Sequence[int]) -> Axes:
    """With as many sizes that vary as it takes for these sizes to fit: one for those that have changed together."""
    groups: dict[tuple[int, int], int] = {}
    return tuple(
        a if a == n else -1 - groups.setdefault((a, n), len(groups)) for a, n in zip(axes, sizes, strict=True)
    )


def bound(axes: Axes, sizes: Sequence[int]) -> tuple[int, ...] | None:
    """The sizes that vary, of a call with these sizes; None where it does not fit."""
    found: dict[int, int] = {}
    for a, n in zip(axes, sizes, strict=True):
        if (a >= 0 and a != n) or (a < 0 and found.setdefault(-1 - a, n) != n):
            return None
    return tuple(found[k] for k in range(len(found)))


@dataclass(slots=True)
class Entry:
    """A traced step that may be used while its guard holds; or the reason why there is none."""

    key: Key
    guard: Guard
    graph: Graph | None = None
    dtypes: list[torch.dtype] = field(default_factory=list)
    reason: NotSupported | None = None
    plans: dict[Wanted, Plan] = field(default_factory=dict)
    family: Family | None = None
    sizes: tuple[int, ...] = ()  # those that vary

    def needs(self, given: Inputs) -> Needs:
        """Which gradients a call wants."""
        if not torch.is_grad_enabled():
            return Needs()
        p = tuple(t.requires_grad for t in self.guard.tensors())
        x = tuple(t.requires_grad for t in given.x)
        c = tuple(t.requires_grad for t in given.c)
        s = any(t.requires_grad for t in (*given.s, *given.initial))
        needs = Needs(x, c, p, s, given.return_states)
        return needs if needs.any else Needs()

    def lowered(self, needs: Needs) -> Program:
        """The program for a call with these needs."""
        if self.family is not None:
            return self.family.program(needs, self.sizes)
        assert self.graph is not None
        return lower(self.graph, needs)

    # what has been compared with the loop, and what is believed after that

    def knows(self, batch: int) -> bool:
        """Whether a batch size has been compared, at any sizes."""
        return self.family is not None and batch in self.family.batches

    def believes(self, batch: int) -> bool:
        """Whether a batch size need not be compared once more at other sizes: it has been at some, and so have many
        pairs of both, or a program at many sizes."""
        if self.family is None or batch not in self.family.batches:
            return False
        agreed = self.family.agreed.values()
        return self.family.pairs >= _MOST_PAIRS or any(len(sizes) >= _ENOUGH for sizes in agreed)

    def believe(self, batch: int) -> None:
        """A batch size has been compared."""
        if self.family is not None:
            self.family.batches.add(batch)
            self.family.pairs += 1

    def agree(self, plan: Wanted) -> None:
        """A program has been compared at these sizes."""
        if self.family is not None:
            self.family.agreed.setdefault(plan, set()).add(self.sizes)

    def is_between(self, plan: Wanted, batch: int) -> bool:
        """Whether a program need not be compared at these sizes, at which the step has been seen to do what the graph
        says: it has agreed at smaller and at larger ones, at many in all, and they are equal to no other size, which
        could hide a mistaken axis."""
        if self.family is None or not self.knows(batch):
            return False
        agreed = self.family.agreed.get(plan, ())
        others = {1, batch, *(a for a in self.family.axes if a >= 0)}
        others |= {n for t in self.guard.tensors() for n in t.shape}
        if len(agreed) < _ENOUGH or len({*self.sizes} - others) < len(self.sizes):
            return False
        known = zip(*agreed, strict=True)
        return all(min(k) < n < max(k) for n, k in zip(self.sizes, known, strict=True))


@dataclass(slots=True)
class Family:
    """A step traced with sizes that vary, and its entry for each of their values. pattern: None for a step that runs on
    the plain loop at any sizes, with one entry that says why."""

    kind: Any
    axes: Axes
    guard: Guard
    graph: Graph | None = None
    dtypes: list[torch.dtype] = field(default_factory=list)
    pattern: Pattern | None = None
    entries: dict[tuple[int, ...], Entry] = field(default_factory=dict)
    programs: dict[Needs, _Open] = field(default_factory=dict)
    seen: dict[Wanted, set[Any]] = field(default_factory=dict)
    agreed: dict[Wanted, set[tuple[int, ...]]] = field(default_factory=dict)
    batches: set[int] = field(default_factory=set)  # batch sizes that have been seen to agree, at any sizes
    pairs: int = 0

    def entry(self, key: Key, sizes: tuple[int, ...], reason: NotSupported | None = None) -> Entry:
        """A new entry for sizes at which the step has been seen to fit (`check`), or the reason why it does not."""
        if len(self.entries) >= _MOST_ENTRIES:
            self.entries.pop(next(iter(self.entries)))
        entry = Entry(key, self.guard, self.graph, self.dtypes, reason, family=self, sizes=sizes)
        self.entries[sizes] = entry
        return entry

    def check(self, given: Inputs, sizes: tuple[int, ...]) -> None:
        """Raise NotSupported where the step does something else at the sizes of a call."""
        if self.pattern is None:
            raise self.entries[()].reason or NotSupported("")
        few = sample(given, self.pattern.rows(sizes), self.dtypes, self.pattern.grad)
        self.pattern.check(few, self.guard.tensors(), sizes)

    def program(self, needs: Needs, sizes: tuple[int, ...]) -> Program:
        """The program for these sizes."""
        assert self.graph is not None
        if needs not in self.programs:
            self.programs[needs] = _Open(lower(self.graph, needs))
        return self.programs[needs].at(sizes)


def same_way(entry: Entry, entries: Sequence[Entry]) -> Family | None:
    """The family of a step that runs on the loop for the same reason at other sizes too."""
    if entry.reason is None:
        return None
    (kind, sizes), why = entry.key, _without_numbers(entry.reason)
    others = [e for e in entries if e.reason is not None and e.key[0] == kind and e.key[1] != sizes]
    for other in others:
        if other.reason is not None and _without_numbers(other.reason) == why:
            return Family(kind, widened(other.key[1], sizes), entry.guard, entries={(): entry})
    return None


def _without_numbers(reason: NotSupported) -> str:
    return re.sub(r"\d+", "n", reason.reason)


@dataclass(slots=True)
class Anew:
    """How often a step is traced and what that costs; what to say where it is too often."""

    unfit: dict[tuple[Any, Axes], str] = field(default_factory=dict)  # sizes that cannot vary, and why
    count: int = 0
    spent: float = 0.0
    first: float = 0.0
    said: bool = False
    text: str = ""

    def axes(self, entries: Sequence[Entry], families: Sequence[Family], key: Key) -> Axes:
        """Which sizes are to vary in a new trace: those that have done so already."""
        kind, sizes = key
        of_kind = [f for f in families if f.kind == kind and f.pattern is not None]
        if any(bound(f.axes, sizes) is not None and f.guard.holds() for f in of_kind):
            return sizes  # there is a family, and the step does not fit into it at these sizes
        known = [f.axes for f in of_kind] + [e.key[1] for e in entries if e.key[0] == kind]
        if not known:
            return sizes
        axes = known[0] if bound(known[0], sizes) is not None else widened(known[0], sizes)
        return sizes if (kind, axes) in self.unfit else axes

    @contextmanager
    def measured(self, entries: Sequence[Entry], key: Key) -> Iterator[None]:
        """While the step is traced."""
        start = time.perf_counter()
        self.first = self.first or start
        why = self._why(entries, key)
        yield
        now = time.perf_counter()
        self.count, self.spent = self.count + 1, self.spent + now - start
        if not self.said and self.count >= _OFTEN and self.spent > _MUCH * (now - self.first):
            self.said = True
            self.text = (
                f"this cell was traced {self.count} times, {self.spent:.1f} s in all: {why}; "
                "a call like an earlier one needs no trace"
            )

    def take(self) -> str:
        """What is to be said now."""
        text, self.text = self.text, ""
        return text

    def _why(self, entries: Sequence[Entry], key: Key) -> str:
        kind, sizes = key
        same = [e for e in entries if e.key == key]
        if same:
            name = same[0].guard.changed()
            return (
                f"{name!r}, which it reads, has changed"
                if name
                else "a tensor that it reads is of another kind"
            )
        reasons = [
            why for (k, axes), why in self.unfit.items() if k == kind and bound(axes, sizes) is not None
        ]
        if any(e.key[0] == kind for e in entries):
            return f"sizes beside T and B vary{f' ({reasons[0]})' if reasons else ''}"
        return "its inputs are of another kind each time (rank, dtype, structure, grad mode, autocast)"


def traced(
    step: Callable[..., Any], given: Inputs, snapshot: Snapshot, reached: Reached, axes: Axes
) -> tuple[Graph, list[torch.dtype], Pattern | None]:
    """The graph of a step, with the dtypes that the state settles on (autocast turns some of it bfloat16 after one
    step); where some axes vary, the pattern of what it does."""
    dtypes = [s.dtype for s in given.s]
    grad = torch.is_grad_enabled()
    count = -min((*axes, 0))
    for _ in range(3):
        rows, *pairs = batch_sizes(given, snapshot.tensors(), 1 + count)
        symbols = Symbols(pairs)
        wanted = [[a if a >= 0 else pairs[-1 - a][i] for a in axes] for i in range(2)]
        first, second = (sample(given, rows[i], dtypes, grad, wanted[i]) for i in range(2))
        labels = snapshot.labels()
        graph = trace(step, (first, second), grad=grad, labels=labels, reached=reached, symbols=symbols)
        after = [v.dtype for v in graph.ns]
        if after == dtypes:
            assert_linear(graph)
            pattern = None
            if count:
                pattern = Pattern(step, (first, second), graph.externals, grad, labels, symbols)
            return optimize(graph), dtypes, pattern
        dtypes = after
    raise NotSupported(f"the dtypes of the state do not settle: {dtypes}")


class _Open:
    """A program with sizes that vary, and what of it depends on them."""

    def __init__(self, program: Program) -> None:
        self.program = program
        sections = program.sections.values()
        known = {v for s in sections for n in s.nodes for v in (*refs(n), *n.outs)}
        known |= {v for s in sections for v in (*s.ins, *s.outs)}
        known |= {v for role in _ROLES for v in getattr(program, role) if v is not None}
        self.values = {v for v in known if any(map(_varies, v.shape))}
        self.nodes = {
            id(n)
            for s in sections
            for n in s.nodes
            if not self.values.isdisjoint((*refs(n), *n.outs))
            or any(map(_varies, leaves_of((n.args, n.kwargs))))
        }

    def at(self, sizes: tuple[int, ...]) -> Program:
        """The program with plain numbers in the place of the sizes that vary; the rest of it is the same."""
        values = {
            v: Value(v.name, tuple(_size(n, sizes) for n in v.shape), v.dtype, v.summed) for v in self.values
        }

        def value(v: Value | None) -> Any:
            return values.get(v, v) if v is not None else None

        def tree(a: Any) -> Any:
            return mapped(a, lambda leaf: value(leaf) if isinstance(leaf, Value) else _size(leaf, sizes))

        def node(n: Node) -> Node:
            if id(n) not in self.nodes:
                return n
            return Node(n.op, tree(n.args), tree(n.kwargs), tuple(map(value, n.outs)), n.source)

        sections = {
            name: Section([node(n) for n in s.nodes], [value(v) for v in s.ins], [value(v) for v in s.outs])
            for name, s in self.program.sections.items()
        }
        roles = {role: [value(v) for v in getattr(self.program, role)] for role in _ROLES}
        return Program(**roles, sections=sections)


_ROLES = (*PROGRAM_INPUTS, *OUTPUTS)


def _varies(n: Any) -> bool:
    return isinstance(n.factor if isinstance(n, Rows) else n, Length | Portion)


def _size(n: Any, sizes: tuple[int, ...]) -> Any:
    if isinstance(n, Rows):
        return Rows(n.factor.at(sizes)) if isinstance(n.factor, Length) else n
    return n.at(sizes) if isinstance(n, Length | Portion) else n
