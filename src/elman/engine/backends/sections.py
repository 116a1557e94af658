"""Sections that run once for all rows: row by row on the core, sums over rows in the core's own order, the rest with
torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from elman.engine.backends.integers import Ranges
from elman.engine.backends.kernel import DTYPES, Kernel, empty, is_plain, shaped, sum_rows, threads
from elman.engine.errors import NotSupported
from elman.engine.program.execute import compile_section
from elman.engine.program.program import Node, Section, Value, refs

__all__ = ["TRANSPOSED", "CoreRows", "RowSection", "RowSum", "section_of", "sum_of_products"]

# Of the widest array of a section, what one thread has at hand at once: a part of a second-level cache.
BLOCK_BYTES = 32 << 10
TRANSPOSED = ([1, 0], (1, 0))
# Nodes for which a section that runs by itself is worth a call of the core.
WORTH = 3


@dataclass(slots=True)
class RowSum:
    """What is summed over the rows of `a` (R, N): itself, or times factors (R, N), or as products with (R, M)."""

    a: Value
    columns: list[tuple[Value | None, Value]] = field(default_factory=list)  # (factor, where it goes)
    products: list[tuple[Value, Value]] = field(default_factory=list)  # (b, where it goes)

    def reads(self) -> list[Value]:
        """What it takes."""
        return [v for v in (self.a, *(v for v, _ in (*self.columns, *self.products))) if v is not None]


class RowSection:
    """A section as up to three parts, one after the other: rows, sums over rows, rest."""

    def __init__(
        self, section: Section, dtype: torch.dtype, integers: Ranges | None = None, *, worth: int = WORTH
    ) -> None:
        """worth: as many nodes as it takes to go to the core, if none of them is a product."""
        self.dtype = dtype
        self.ins = [v.name for v in section.ins]
        self.outs = [v.name for v in section.outs]
        sums, nodes = take_sums(section, dtype)
        rows, rest = split(nodes)
        wanted = {*section.outs, *(v for job in sums for v in job.reads())}
        self.rows = _rows(
            section_of(rows, wanted | {v for n in rest for v in refs(n)}), dtype, integers, worth
        )
        self.sums = sums
        self.rest = _with_torch(section_of(rest, wanted))

    def __call__(self, R: int, device: torch.device, *given: Tensor) -> tuple[Tensor, ...]:
        env = dict(zip(self.ins, given, strict=True))
        for part in (self.rows, self._sum, self.rest):
            if part is not None:
                part(R, device, env)
        return tuple(env[n] for n in self.outs)

    def _sum(self, R: int, device: torch.device, env: dict[str, Tensor]) -> None:
        if not self.sums:
            return
        jobs = []
        for job in self.sums:
            a = env[job.a.name]
            columns = []
            for factor, out in job.columns:
                total = empty(1, a.shape[1], self.dtype)
                env[out.name] = total if len(out.shape) == 2 else total[0]
                columns.append((None if factor is None else env[factor.name], total))
            products = []
            for b, out in job.products:
                env[out.name] = empty(a.shape[1], env[b.name].shape[1], self.dtype)
                products.append((env[b.name], env[out.name]))
            jobs.append((a, columns, products))
        sum_rows(R, jobs)


Part = Callable[[int, torch.device, dict[str, Tensor]], None]


def section_of(nodes: list[Node], wanted: set[Value]) -> Section:
    """The nodes with what they take from outside and what of theirs is wanted there."""
    made = {o for n in nodes for o in n.outs}
    ins = dict.fromkeys(v for n in nodes for v in refs(n) if v not in made)
    return Section(nodes=nodes, ins=list(ins), outs=[o for n in nodes for o in n.outs if o in wanted])


def _rows(section: Section, dtype: torch.dtype, integers: Ranges | None, worth: int) -> Part | None:
    """On the core where that can carry it out and is worth a call, else with torch."""
    if len(section.nodes) < worth and not any(node.op == "mm.default" for node in section.nodes):
        return _with_torch(section)
    try:
        kernel = Kernel.build(
            section, [], [(v.name, v) for v in section.outs], [], dtype,
            lambda v: "static" if v.axis is None else "row", integers=integers,
        )  # fmt: skip
    except NotSupported:
        return _with_torch(section)
    return CoreRows(section, kernel, dtype)


class CoreRows:
    """Rows on the core, a block after the other where there is more to do than products."""

    def __init__(self, section: Section, kernel: Kernel, dtype: torch.dtype) -> None:
        self.kernel = kernel
        self.others = [v for v in section.outs if not is_plain(v, dtype)]
        widest = max((width for widths in kernel.code.widths for width in widths), default=1)
        # Rows of one thread, 0 for all at once.
        self.block = max(BLOCK_BYTES // (widest * dtype.itemsize), 16) if kernel.mixed else 0

    def __call__(self, R: int, device: torch.device, env: dict[str, Tensor]) -> None:
        kernel = self.kernel
        arrays = kernel.arrays(R)
        rows = self.block * threads()
        if 0 < rows < R:  # as if the blocks were steps: what one makes is still near for the next instruction
            offsets = torch.arange(0, R + rows, rows, dtype=torch.int64).clamp_(max=R)
            kernel.call(env, arrays, [], len(offsets) - 1, rows, offsets.data_ptr())
        else:
            kernel.call(env, arrays, [], 1, R)
        env.update(arrays)
        for v in self.others:
            env[v.name] = shaped(arrays[v.name], v)


def _with_torch(section: Section) -> Part | None:
    if not section.nodes:
        return None
    f = compile_section(section, section.outs, sum_of_products)

    def run(R: int, device: torch.device, env: dict[str, Tensor]) -> None:
        results = f(R, device, *[env[v.name] for v in section.ins])
        env.update({v.name: t for v, t in zip(section.outs, results, strict=True)})

    return run


def split(nodes: Sequence[Node]) -> tuple[list[Node], list[Node]]:
    """The nodes that go row by row with the rows first, and those that do not (or that need one that does not)."""
    rows: list[Node] = []
    rest: list[Node] = []
    made: set[Value] = set()
    for node in nodes:
        by_row = all(o.axis == 0 for o in node.outs) and not any(v in made for v in refs(node))
        (rows if by_row else rest).append(node)
        if not by_row:
            made.update(node.outs)
    return rows, rest


def take_sums(section: Section, dtype: torch.dtype) -> tuple[list[RowSum], list[Node]]:
    """Takes the sums over rows out of a section: those of one array together, and a product that is made only to be
    summed with its sum. Gives them, and the nodes that are left."""
    made_by = {o: n for n in section.nodes for o in n.outs}
    uses = Counter(v for n in section.nodes for v in refs(n))
    uses.update(section.outs)
    late = _late(section)
    jobs: dict[Value, RowSum] = {}
    gone: set[int] = set()

    def fits(v: Any) -> bool:
        plain = isinstance(v, Value) and v.axis == 0 and len(v.shape) == 2 and v.factor == 1
        return plain and v.dtype == dtype and v not in late

    def factors(a: Value) -> tuple[Value, Value] | None:
        maker = made_by.get(a)
        if maker is None or maker.op != "mul.Tensor" or uses[a] != 1 or not all(map(fits, maker.args)):
            return None
        left, right = maker.args
        return (left, right) if left.shape == right.shape == a.shape else None

    for node in section.nodes:
        out = node.outs[0]
        if not out.summed or out.dtype != dtype:
            continue
        if node.op == "mm.default":
            turned = made_by.get(node.args[0])
            if turned is None or turned.op != "permute.default" or turned.args[1] not in TRANSPOSED:
                continue
            a, b = turned.args[0], node.args[1]
            if fits(a) and fits(b):
                jobs.setdefault(a, RowSum(a)).products.append((b, out))
                gone.add(id(node))
        elif node.op == "sum.dim_IntList" and list(node.args[1]) == [0] and fits(node.args[0]):
            a = node.args[0]
            pair = factors(a)
            if pair is not None:
                gone.add(id(made_by[a]))
            a, factor = pair or (a, None)
            jobs.setdefault(a, RowSum(a)).columns.append((factor, out))
            gone.add(id(node))
    needed = Counter(v for n in section.nodes if id(n) not in gone for v in refs(n))
    needed.update(section.outs)
    rest = [
        n for n in section.nodes if id(n) not in gone and (n.op != "permute.default" or needed[n.outs[0]])
    ]
    return list(jobs.values()), rest


def _late(section: Section) -> set[Value]:
    """Values that are made of sums over rows, or by what does not go row by row."""
    late: set[Value] = set()
    for node in section.nodes:
        if any(o.axis != 0 for o in node.outs) or any(v in late for v in refs(node)):
            late.update(node.outs)
    return late


def sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b`, (N, R) by (R, M), in the core's own fixed order over R."""
    if a.dtype not in DTYPES or not (a.numel() and b.numel()):
        return torch.mm(a, b)
    out = empty(a.shape[0], b.shape[1], a.dtype)
    sum_rows(a.shape[1], [(a.t(), [], [(b.to(a.dtype), out)])])
    return out
