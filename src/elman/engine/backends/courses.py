"""What a whole call on the core comes to: its arrays, and its kernels and sums in order, forward and backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from elman.engine.backends.kernel import DTYPES, CoreRecipe, Kernel, is_plain
from elman.engine.backends.sections import TRANSPOSED, CoreRows, RowSection, RowSum, section_of
from elman.engine.errors import NotSupported
from elman.engine.program.execute import compile_section, kind
from elman.engine.program.program import Node, Program, Value, refs

__all__ = ["AFTER", "KEPT", "PLAIN", "Course", "Writer", "needed_nodes"]

GIVEN, SCRATCH, KEPT, OWN = range(4)
ONE, BATCH, ROWS, HISTORY, PADDED = range(5)
PLAIN, BEFORE, AFTER = range(3)
_VIEWS = ("elman.view", "view.default", "_unsafe_view.default", "reshape.default")
Place = tuple[int, int]  # array, moment
Strides = tuple[int, int]


@dataclass(slots=True)
class Course:
    """One direction's recipe while it is written down: its arrays, where each value lies, its steps."""

    dtype: torch.dtype
    backward: bool = False
    arrays: list[tuple[int, int, int, list[int]]] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)
    spread: dict[str, Place] = field(default_factory=dict)  # contexts, once for each row
    turned: dict[str, tuple[int, Strides]] = field(default_factory=dict)  # matrices: array, strides
    given: list[Any] = field(default_factory=list)  # what each given array is: see `Recipe`
    own: list[str] = field(default_factory=list)
    steps: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, name: str, keeper: int, extent: int, shape: Sequence[int], moment: int = PLAIN) -> int:
        """An array; `shape` is that of a row, or for ONE its own."""
        index = len(self.arrays)
        self.arrays.append((keeper, extent, math.prod(shape), list(shape)))
        self.places[name] = (index, moment)
        if keeper == OWN:
            self.own.append(name)
        return index

    def give(self, name: str, what: Any, extent: int, shape: Sequence[int]) -> int:
        """An array of the caller's."""
        self.given.append(what)
        return self.add(name, GIVEN, extent, shape)

    def given_batch(self, name: str, what: Any, sizes: Sequence[int]) -> int:
        """A batch of the caller's, as it is."""
        return self.give(name, what, BATCH, sizes)

    def array(self, name: str) -> int:
        """The array of a value that lies in one from its beginning."""
        index, moment = self.places[name]
        if moment != PLAIN:
            raise NotSupported(f"{name} is a part of an array")
        return index

    def kernel(
        self, kernel: Kernel, *, carries: Sequence[int] = (), rest: Sequence[int] = (), rows: CoreRows | None = None,
        backward: bool = False,
    ) -> None:  # fmt: skip
        """A call of a kernel. Where its results go is known already; rows: it runs on all rows at once. rest: of each
        carry, what a reset leads to, or in the backward what that is given."""
        vectors = [self._vector(v) for v in kernel.vectors]
        weights = []
        for name, turned in kernel.weights:
            index, (k, n) = self.turned[name]
            weights.append((index, n, k) if turned else (index, k, n))
        self.steps.append((
            "kernel", kernel.kernel, rows is not None, rows.block if rows else 0, backward,
            [self.rows_of(name) if rows else self.places[name] for name, _ in kernel.ins],
            [self.array(name) for name in kernel.contexts], vectors,
            [self.places[name] for name, _ in kernel.outs], list(carries), weights, list(rest),
        ))  # fmt: skip

    def sorted_batch(self, name: str, what: Any, sizes: Sequence[int]) -> int:
        """A batch of the caller's, in the order of the rows."""
        given = self.give(name, what, BATCH, sizes)
        index = self.add(name, SCRATCH, BATCH, sizes)
        self.steps.append(("start", given, index))
        return index

    def taken_rows(self, name: str, what: Any, sizes: Sequence[int]) -> None:
        """The caller's rows that are taken."""
        given = self.give(name, what, PADDED, sizes)
        self.steps.append(("move", given, self.add(name, SCRATCH, ROWS, sizes), False))

    def hand_out(self, name: str, rows: int, sizes: Sequence[int]) -> None:
        """Rows in the places of the caller's, zeros where no step is taken."""
        self.steps.append(("move", self.add(name, OWN, PADDED, sizes), rows, True))

    def rows_of(self, name: str) -> Place:
        """Where a value lies as one row for each step and row of the batch."""
        return self.spread.get(name) or self.places[name]

    def _vector(self, v: str | Tensor) -> int:
        if isinstance(v, str):
            return self.array(v)
        constant = v.to(self.dtype).contiguous()
        return self.give(f"constant {len(self.arrays)}", constant, ONE, [max(constant.numel(), 1)])

    def finish(self, block: int = -1) -> CoreRecipe:
        """The recipe."""
        return CoreRecipe(DTYPES[self.dtype], self.arrays, self.steps, block)


def _row(v: Value, dtype: torch.dtype) -> list[int]:
    """The sizes of a row of a value `(rows, width)`."""
    if not is_plain(v, dtype):
        raise NotSupported(f"{v} is no array of rows")
    return [int(n) for n in v.shape[1:] if isinstance(n, int)]


def _given_shape(program: Program, v: Value, dtype: torch.dtype) -> tuple[int, list[int]]:
    """Extent and sizes of a value that comes from outside."""
    sizes = [int(n) for n in v.shape if isinstance(n, int)]
    if v.dtype != dtype or math.prod(sizes) == 0:
        raise NotSupported(f"{v} is no array of the core")
    what = kind(program, v)
    if what == "static":
        return ONE, sizes
    if v.axis != 0 or v.factor != 1:
        raise NotSupported(f"{v} is no array of rows")
    return (ROWS if what == "row" else BATCH), sizes


class Writer:
    """Writes the recipes of a program. NotSupported where a part of it is not the core's.

    ragged: for calls of which not every row takes every step; what the caller has for each step is gathered first, row
    by row, and put back at the end. resets: for calls with some.
    """

    def __init__(
        self, program: Program, loops: Any, kept: Sequence[str], before: Sequence[Value], grad: bool,
        ragged: bool = False, resets: bool = False,
    ) -> None:  # fmt: skip
        self.program, self.loops, self.grad = program, loops, grad
        self.ragged, self.resets = ragged, resets
        self.dtype: torch.dtype = loops.dtype
        self.sections = program.sections
        self.kept = set(kept) if grad else set()
        self.wanted = [program.s.index(v) for v in before]
        self.inputs = [*program.x, *program.s, *program.s, *program.c, *program.p]
        self.at = {v.name: i for i, v in reversed(list(enumerate(self.inputs)))}
        self.statics = self._torch_part()
        self.copies: dict[str, list[str]] = {}  # of gradients that several parameters have
        self.outs: dict[str, str] = {}  # names of gradients as they are handed out, where these are others

    # -- what is made once a call: joins, sums and turns of parameters on the core, the rest with torch before all else

    def _torch_part(self) -> list[tuple[Callable[..., Any], list[str], list[str]]]:
        nodes = [
            *self.sections["static"].nodes,
            *(n for n in self.sections["pre"].nodes if _is_static(n) and self.grad),
        ]
        by_torch = {v for n in self.sections["context"].nodes for v in refs(n)}
        turned = {n.outs[0] for n in nodes if n.op == "permute.default"}
        for node in reversed(nodes):
            joins = _is_joining(node, self.dtype) and (
                node.op == "permute.default" or turned.isdisjoint(refs(node))
            )
            if node.outs[0] in by_torch or not joins:
                by_torch.update((*node.outs, *refs(node)))
        self.joins = {n.outs[0].name: n for n in nodes if n.outs[0] not in by_torch}
        wanted = self._reads() | {v.name for n in self.joins.values() for v in refs(n)}
        parts, known = [], set(self.at)
        for some in (nodes, self.sections["context"].nodes):
            outs = [o for n in some for o in n.outs if o.name in wanted and o.name not in self.joins]
            needed = needed_nodes(some, outs)
            if needed:
                part = section_of(needed, set(outs))
                if not known.issuperset(v.name for v in part.ins):
                    raise NotSupported("torch would have to wait for the core")
                names = [v.name for v in part.outs]
                known.update(names)
                parts.append((compile_section(part, part.outs), [v.name for v in part.ins], names))
        return parts

    def _reads(self) -> set[str]:
        later = (
            "hoisted",
            "loop",
            "trailing",
            "context",
            *(("pre", "loop_back", "post", "final") if self.grad else ()),
        )
        read = {v.name for n in later for v in self.sections[n].ins}
        return read | {v.name for n in self.sections["pre"].nodes for v in refs(n) if self.grad}

    def _join(self, course: Course, v: Value) -> None:
        """A value that is a join, a sum or a turn of others that have no rows."""
        node = self.joins[v.name]
        parts: list[Value] = (
            node.args[0] if node.op == "cat.default" else [a for a in node.args if isinstance(a, Value)]
        )
        self.outside(course, parts)
        sizes = [int(n) for n in v.shape if isinstance(n, int)]
        if node.op == "permute.default":
            index, (k, n) = course.turned[parts[0].name]
            course.turned[v.name] = (index, (n, k))
            return
        index = course.add(
            v.name, KEPT if v.name in self.kept and not course.backward else SCRATCH, ONE, sizes
        )
        begin, adds = 0, node.op == "add.Tensor"
        for i, part in enumerate(parts):
            source = course.array(part.name)
            course.steps.append(("join", source, index, begin, adds and i > 0))
            begin += 0 if adds else course.arrays[source][2]
        if len(sizes) == 2:
            course.turned[v.name] = (index, (sizes[1], 1))

    # -- arrays

    def outside(self, course: Course, values: Sequence[Value], but: Sequence[Value] = ()) -> None:
        """Makes known what a section takes from outside and the course has not seen."""
        for v in values:
            if v in but or v.name in course.places or v.name in course.turned:
                continue
            if v.name in self.joins:
                self._join(course, v)
                continue
            value = self.inputs[self.at[v.name]] if v.name in self.at else v
            extent, sizes = _given_shape(self.program, value, self.dtype)
            what = self.at.get(v.name, v.name)
            if self.ragged and extent == ROWS:
                course.taken_rows(v.name, what, sizes)
                continue
            if self.ragged and extent == BATCH:
                course.sorted_batch(v.name, what, sizes)
                continue
            index = course.give(v.name, what, extent, sizes)
            if len(sizes) == 2 and extent == ONE:
                course.turned[v.name] = (index, (sizes[1], 1))

    def rows(self, course: Course, name: str, keeper: Callable[[str], int]) -> list[RowSum]:
        """A section for all rows; gives the sums that are left to do."""
        section = self.sections[name]
        if name == "pre":  # some of it has no rows
            nodes = [n for n in section.nodes if not _is_static(n)]
            section = section_of(nodes, {v for v in section.outs if v.name not in self.joins})
        if not section.outs:
            return []
        if any(kind(self.program, v) == "state" and v.name not in course.places for v in section.ins):
            raise NotSupported("a state meets all rows")
        # However little it is: it costs no call of its own here.
        part = RowSection(section, self.dtype, self.loops.integers, worth=0)
        if part.rest is not None or not (part.rows is None or isinstance(part.rows, CoreRows)):
            raise NotSupported(f"the section {name} is not the core's alone")
        self.outside(course, section.ins)
        for v in section.ins:
            if kind(self.program, v) == "context" and v.name not in course.spread:
                index = course.add(f"{v.name} at all steps", SCRATCH, ROWS, _row(v, self.dtype))
                course.spread[v.name] = (index, PLAIN)
                array = course.array(v.name)
                course.steps.append(("move", array, index, False) if self.ragged else ("start", array, index))
        if part.rows is not None:
            if part.rows.others:
                raise NotSupported("a value of rows in another shape")
            self.results(course, part.rows.kernel, {v.name: v for n in section.nodes for v in n.outs}, keeper)
            course.kernel(part.rows.kernel, rows=part.rows)
        return part.sums

    def results(
        self, course: Course, kernel: Kernel, values: dict[str, Value], keeper: Callable[[str], int],
        there: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Arrays for what a kernel stores, but for what is there; what is made a second time gets another one."""
        for name, _ in kernel.outs:
            if name not in there:
                course.add(name, keeper(name), ROWS, _row(values[name], self.dtype))

    # -- forward

    def forward(self) -> Course:
        """The course of a forward call."""
        program, loops, course = self.program, self.loops, Course(self.dtype)
        ys = [v.name for v in program.y]
        made = {v.name for n in ("hoisted", "loop", "trailing") for v in self.sections[n].outs}
        if len(set(ys)) != len(ys) or not made.issuperset(ys):
            raise NotSupported("an output that no loop stores")
        if len({program.ns[j] for j in self.wanted}) != len(self.wanted) or loops.others:
            raise NotSupported("a state that is none of its own")

        def keeper(name: str) -> int:
            return OWN if name in ys and not self.ragged else KEPT if name in self.kept else SCRATCH

        if self.rows(course, "hoisted", keeper):
            raise NotSupported("sums in the forward")
        shifted = not (self.ragged or self.resets)  # the state after a step is that before the next one
        kernel = loops.forward_kernel(
            () if shifted else tuple(self.wanted), tuple(sorted(self.wanted)) if shifted else ()
        )
        stored = {name for name, _ in kernel.outs}
        states = [_row(v, self.dtype) for v in program.s]
        n_x, n_s = len(program.x), len(program.s)
        starts = [course.give(f"start {j}", n_x + j, BATCH, sizes) for j, sizes in enumerate(states)]
        for j in self.wanted:
            if not shifted:
                who = KEPT if program.s[j].name in self.kept else SCRATCH
                index = course.add(f"before{j}", who, ROWS, states[j])
                course.places[program.s[j].name] = (index, PLAIN)
                continue
            name = program.ns[j].name if program.ns[j].name in stored else f"after{j}"
            s = program.s[j].name
            who = OWN if name in ys else KEPT if self.kept & {s, name} else SCRATCH
            index = course.add(name, who, HISTORY, states[j], AFTER)
            course.places[s] = (index, BEFORE)
            course.steps.append(("start", starts[j], index))
        who = SCRATCH if self.ragged else OWN
        carries = [course.add(f"final {j}", who, BATCH, sizes) for j, sizes in enumerate(states)]
        course.steps += [("start", a, b) for a, b in zip(starts, carries, strict=True)]
        give = course.sorted_batch if self.ragged else course.given_batch
        rest = [give(f"initial {j}", n_x + n_s + j, sizes) for j, sizes in enumerate(states) if self.resets]
        loop = self.sections["loop"]
        self.outside(course, loop.ins, program.s)
        histories = [name for name in stored if name in course.places]
        self.results(course, kernel, {v.name: v for n in loop.nodes for v in n.outs}, keeper, histories)
        course.kernel(kernel, carries=carries, rest=rest)
        if self.rows(course, "trailing", keeper):
            raise NotSupported("sums in the forward")
        if self.ragged:
            for i, v in enumerate(program.y):
                course.hand_out(f"y {i}", course.array(v.name), _row(v, self.dtype))
        self._unsort(course, [(f"final {j}", array) for j, array in enumerate(carries)])
        return course

    def _unsort(self, course: Course, batches: Sequence[tuple[str, int]]) -> None:
        """Hands out what lies in the order of the rows."""
        for name, array in batches if self.ragged else ():
            course.steps.append(("unsort", array, course.add(name, OWN, BATCH, course.arrays[array][3])))

    # -- backward

    def backward(self, forward: Course) -> tuple[Course, int]:
        """The course of a backward call, and which given array is the block of kept arrays (-1: none)."""
        program, course = self.program, Course(self.dtype, backward=True)
        block = self._take_over(course, forward)
        for i, v in enumerate(program.gy):
            if v is not None and self.ragged:
                course.taken_rows(v.name, f"gy {i}", _row(v, self.dtype))
            elif v is not None:
                course.give(v.name, f"gy {i}", ROWS, _row(v, self.dtype))
        own = {v.name for role in ("dx", "dc") for v in getattr(program, role) if v is not None}

        def keeper(name: str) -> int:
            return OWN if name in own and not self.ragged else SCRATCH

        if self.rows(course, "pre", keeper):
            raise NotSupported("sums before the loop")
        gs = [(j, v) for j, v in enumerate(program.gs) if v is not None]
        kernel, others = self.loops.backward_kernel()
        if kernel is None or others:
            raise NotSupported("a gradient in another shape")
        carries, rest = [], []
        who = SCRATCH if self.ragged else OWN
        for j, v in gs:
            start = course.give(f"gs {j}", f"gs {j}", BATCH, _row(v, self.dtype))
            carries.append(course.add(f"ds {j}", who, BATCH, _row(v, self.dtype)))
            course.steps.append(("start", start, carries[-1]))
            if self.resets:
                rest.append(course.add(f"dinitial {j}", who, BATCH, _row(v, self.dtype)))
                course.steps.append(("start", -1, rest[-1]))
        loop = self.sections["loop_back"]
        self.outside(course, loop.ins, [v for _, v in gs])
        self.results(course, kernel, {v.name: v for n in loop.nodes for v in n.outs}, keeper)
        course.kernel(kernel, carries=carries, rest=rest, backward=True)
        sums = self.rows(course, "post", keeper)
        for v in dict.fromkeys(v for v in (*program.dx, *program.dc) if v is not None):
            if self.ragged:
                self.outs[v.name] = f"{v.name} out"
                course.hand_out(self.outs[v.name], course.array(v.name), _row(v, self.dtype))
        self._last(course, sums)
        self._unsort(course, [(f"ds {j}", array) for (j, _), array in zip(gs, carries, strict=True)])
        self._unsort(course, [(f"dinitial {j}", array) for (j, _), array in zip(gs, rest, strict=False)])
        self._again(course)
        return course, block

    def _take_over(self, course: Course, forward: Course) -> int:
        """What the forward has kept; gives which given array is the block of it (-1: none)."""
        block = -1
        names: dict[int, list[tuple[str, int]]] = {}
        for name, (index, moment) in forward.places.items():
            names.setdefault(index, []).append((name, moment))
        for index, (who, extent, width, sizes) in enumerate(forward.arrays):
            if who == KEPT and block < 0:
                block = course.give("block", "block", ONE, [1])
            if who == KEPT or (who == OWN and extent != BATCH and self.kept & {n for n, _ in names[index]}):
                new = len(course.arrays)
                course.arrays.append((KEPT if who == KEPT else GIVEN, extent, width, sizes))
                course.places.update({name: (new, moment) for name, moment in names[index]})
                course.turned.update(
                    {name: (new, t) for name, (i, t) in forward.turned.items() if i == index}
                )
                if who == OWN:
                    course.given.append(next(n for n, _ in names[index] if n in forward.own))
        return block

    def _again(self, course: Course) -> None:
        """Copies of gradients that several parameters have."""
        seen: set[str] = set()
        for v in self.program.dp:
            if v is None or v.name not in course.own:
                continue
            if v.name in seen:
                index = course.array(v.name)
                copy = course.add(f"{v.name} again {len(course.own)}", OWN, ONE, course.arrays[index][3])
                course.steps.append(("join", index, copy, 0, False))
                self.copies.setdefault(v.name, []).append(course.own[-1])
            seen.add(v.name)

    def _last(self, course: Course, sums: list[RowSum]) -> None:
        """The sums over rows, in the slices and the shapes in which the section `final` would give them."""
        nodes = self.sections["final"].nodes
        users: dict[str, list[Node | None]] = {}
        for v, node in (*((v, n) for n in nodes for v in refs(n)), *((v, None) for v in self.program.dp)):
            if v is not None:
                users.setdefault(v.name, []).append(node)
        jobs: list[tuple[RowSum, int, int, list[Any], list[Any]]] = []
        for job in sums:
            width = _row(job.a, self.dtype)[0]
            pieces: dict[tuple[int, int], tuple[list[Any], list[Any]]] = {}
            wanted = [(0, f, out) for f, out in job.columns] + [(1, b, out) for b, out in job.products]
            for k, other, out in wanted:
                for begin, end, v in _slices(out, users, width):
                    sizes = [int(n) for n in v.shape if isinstance(n, int)]
                    index = course.add(v.name, OWN, ONE, sizes)
                    place = (-1, PLAIN) if other is None else course.rows_of(other.name)
                    pieces.setdefault((begin, end - begin), ([], []))[k].append((*place, index))
            jobs += [(job, *columns, *found) for columns, found in sorted(pieces.items(), key=lambda p: p[0])]
        if jobs:
            course.steps.append(("sums", [
                (*course.rows_of(job.a.name), begin, N, columns, products) for job, begin, N, columns, products in jobs
            ]))  # fmt: skip


def _slices(out: Value, users: dict[str, list[Node | None]], width: int) -> list[tuple[int, int, Value]]:
    """The parts (first column, behind the last one, value) that a sum is wanted in, and their shape."""
    found = users.get(out.name, [])
    parts: list[tuple[int, int, Value]] = []
    for node in found:
        if node is None or node.op != "slice.Tensor" or len(node.args) != 4:
            break
        dim = int(node.args[1]) % len(out.shape)
        if out.shape[dim] != width or any(n != 1 for n in out.shape[:dim]):
            break
        parts.append((int(node.args[2]), int(node.args[3]), _viewed(node.outs[0], users)))
    else:
        if parts:
            return parts
    return [(0, width, _viewed(out, users))]


def _viewed(v: Value, users: dict[str, list[Node | None]]) -> Value:
    """A value, or what it becomes by being seen in another shape and nothing else."""
    found = users.get(v.name, [])
    if len(found) == 1 and found[0] is not None and found[0].op in _VIEWS:
        return found[0].outs[0]
    return v


def _is_static(node: Node) -> bool:
    return all(v.axis is None and not v.summed for v in node.outs)


def _is_joining(node: Node, dtype: torch.dtype) -> bool:
    """Whether the core makes it: a cat of whole rows, a sum of two of one shape, a matrix turned."""
    out = node.outs[0]
    if out.dtype != dtype or any(v.dtype != dtype for v in refs(node)) or out.shape == ():
        return False
    if node.op == "cat.default":
        return len(node.args) == 1 or node.args[1] == 0
    if node.op == "add.Tensor":
        same = all(isinstance(a, Value) and a.shape == out.shape for a in node.args)
        return same and len(node.args) == 2 and not node.kwargs
    return node.op == "permute.default" and node.args[1] in TRANSPOSED


def needed_nodes(nodes: Sequence[Node], outs: Sequence[Value]) -> list[Node]:
    """Those of the nodes that `outs` are made by."""
    wanted, needed = set(outs), []
    for node in reversed(nodes):
        if wanted & set(node.outs):
            needed.append(node)
            wanted.update(refs(node))
    return needed[::-1]
