"""A whole call on the core in one go: every section, loop and sum of a Program as the steps of one recipe, forward and
backward, on arrays that the core lays out and makes.

This is for plain calls (every row takes every step, nothing is reset) of programs whose parts the core carries out
altogether; others run part by part (`native`, `sections`). What is computed is the same: the same kernels on the same
rows. What is spared is Python, which costs more than the kernels of a small layer, and several times as much where a
large one has just swept it out of the caches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from elman.engine.backends.kernel import DTYPES, Kernel, from_dlpack, is_plain, threads
from elman.engine.backends.kernel import Recipe as CoreRecipe
from elman.engine.backends.sections import CoreRows, RowSection, RowSum
from elman.engine.errors import NotSupported
from elman.engine.execute import compile_section, kind
from elman.engine.program import Node, Program, Section, Value, refs

__all__ = ["Recipe", "make_recipe"]

GIVEN, SCRATCH, KEPT, OWN = range(4)
ONE, BATCH, ROWS, HISTORY = range(4)
PLAIN, BEFORE, AFTER = range(3)
_VIEWS = ("elman.view", "view.default", "_unsafe_view.default", "reshape.default")
_TURNS = ([1, 0], (1, 0))
Place = tuple[int, int]  # array, moment
Strides = tuple[int, int]


@dataclass(slots=True)
class Course:
    """One direction's recipe while it is written down: its arrays, where each value lies, its steps."""

    dtype: torch.dtype
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

    def array(self, name: str) -> int:
        """The array of a value that lies in one from its beginning."""
        index, moment = self.places[name]
        if moment != PLAIN:
            raise NotSupported(f"{name} is a part of an array")
        return index

    def kernel(
        self, kernel: Kernel, *, carries: Sequence[int] = (), rows: CoreRows | None = None, backward: bool = False
    ) -> None:  # fmt: skip
        """A call of a kernel. Where its results go is known already; rows: it runs on all rows at once."""
        vectors = [self._vector(v) for v in kernel.vectors]
        weights = []
        for name, turned in kernel.weights:
            index, (k, n) = self.turned[name]
            weights.append((index, n, k) if turned else (index, k, n))
        self.steps.append((
            "kernel", kernel.kernel, rows is not None, rows.block if rows else 0, backward,
            [self.rows_of(name) if rows else self.places[name] for name, _ in kernel.ins], [self.array(name) for name in kernel.contexts], vectors,
            [self.places[name] for name, _ in kernel.outs], list(carries), weights,
        ))  # fmt: skip

    def rows_of(self, name: str) -> Place:
        """Where a value lies as one row for each step and row of the batch."""
        return self.spread.get(name) or self.places[name]

    def _vector(self, v: str | Tensor) -> int:
        if isinstance(v, str):
            return self.array(v)
        constant = v.to(self.dtype).contiguous()
        return self.give(f"constant {len(self.arrays)}", constant, ONE, [max(constant.numel(), 1)])

    def sums(self, sums: Sequence[RowSum]) -> None:
        """Sums over rows; where they go is known already."""
        self.steps.append(("sums", [
            (*self.rows_of(job.a.name),
             [(*((-1, PLAIN) if f is None else self.rows_of(f.name)), self.array(out.name)) for f, out in job.columns],
             [(*self.rows_of(b.name), self.array(out.name)) for b, out in job.products])
            for job in sums
        ]))  # fmt: skip

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


class _Writer:
    """Writes the recipes of a program. NotSupported where a part of it is not the core's."""

    def __init__(self, program: Program, loops: Any, kept: Sequence[str], before: Sequence[Value], grad: bool) -> None:
        self.program, self.loops, self.grad = program, loops, grad
        self.dtype: torch.dtype = loops.dtype
        self.sections = program.sections
        self.kept = set(kept) if grad else set()
        self.wanted = [program.s.index(v) for v in before]
        self.inputs = [*program.x, *program.s, *program.s, *program.c, *program.p]
        self.at = {v.name: i for i, v in reversed(list(enumerate(self.inputs)))}
        self.statics = self._torch_part(("static", "context"))

    # -- what torch does: a few operations on parameters and contexts, before the rest

    def _torch_part(self, names: Sequence[str]) -> list[tuple[Callable[..., Any], list[str], list[str]]]:
        parts = []
        self.turns: dict[str, str] = {}
        for name in names:
            section = self.sections[name]
            nodes = []
            for node in section.nodes:
                if _turns(node) and node.outs[0] in section.outs and node.args[0] in self.program.p:
                    self.turns[node.outs[0].name] = node.args[0].name
                nodes.append(node)
            used = self._reads()
            outs = [v for v in section.outs if v.name not in self.turns and v.name in used]
            needed = _needed(nodes, outs)
            if needed:
                section = _sub_section(needed, outs)
                parts.append((compile_section(section, outs), [v.name for v in section.ins], [v.name for v in outs]))
        return parts

    def _reads(self) -> set[str]:
        later = ("hoisted", "loop", "trailing", "context", *(("pre", "loop_back", "post", "final") if self.grad else ()))
        return {v.name for n in later for v in self.sections[n].ins}

    # -- arrays

    def outside(self, course: Course, section: Section, but: Sequence[Value] = ()) -> None:
        """Makes known what a section takes from outside and the course has not seen."""
        for v in section.ins:
            if v not in but and v.name not in course.places and v.name not in course.turned:
                self._outside(course, v)

    def _outside(self, course: Course, v: Value) -> None:
        source = self.turns.get(v.name, v.name)
        value = self.inputs[self.at[source]] if source in self.at else v
        extent, sizes = _given_shape(self.program, value, self.dtype)
        what: Any = self.at.get(source, source)
        index = course.places[source][0] if source in course.places else course.give(source, what, extent, sizes)
        if len(sizes) == 2 and extent == ONE:
            strides = (1, sizes[1]) if v.name != source else (sizes[1], 1)
            course.turned[v.name] = (index, strides)
            course.turned.setdefault(source, (index, (sizes[1], 1)))

    def rows(self, course: Course, name: str, keeper: Callable[[str], int]) -> list[RowSum]:
        """A section for all rows; gives the sums that are left to do."""
        section = self.sections[name]
        if not section.outs:
            return []
        if any(kind(self.program, v) == "state" and v.name not in course.places for v in section.ins):
            raise NotSupported("a state meets all rows")
        part = self.loops.compile(section, section.outs)
        assert isinstance(part, RowSection)
        if part.rest is not None or not (part.rows is None or isinstance(part.rows, CoreRows)):
            raise NotSupported(f"the section {name} is not the core's alone")
        self.outside(course, section)
        for v in section.ins:
            if kind(self.program, v) == "context" and v.name not in course.spread:
                index = course.add(f"{v.name} at all steps", SCRATCH, ROWS, _row(v, self.dtype))
                course.spread[v.name] = (index, PLAIN)
                course.steps.append(("start", course.array(v.name), index))
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
            return OWN if name in ys else KEPT if name in self.kept else SCRATCH

        if self.rows(course, "hoisted", keeper):
            raise NotSupported("sums in the forward")
        kernel = loops.forward_kernel((), tuple(sorted(self.wanted)))
        stored = {name for name, _ in kernel.outs}
        states = [_row(v, self.dtype) for v in program.s]
        starts = [course.give(f"start {j}", len(program.x) + j, BATCH, sizes) for j, sizes in enumerate(states)]
        for j in self.wanted:
            name = program.ns[j].name if program.ns[j].name in stored else f"after{j}"
            s = program.s[j].name
            who = OWN if name in ys else KEPT if self.kept & {s, name} else SCRATCH
            index = course.add(name, who, HISTORY, states[j], AFTER)
            course.places[s] = (index, BEFORE)
            course.steps.append(("start", starts[j], index))
        carries = [course.add(f"final {j}", OWN, BATCH, sizes) for j, sizes in enumerate(states)]
        course.steps += [("start", a, b) for a, b in zip(starts, carries, strict=True)]
        loop = self.sections["loop"]
        self.outside(course, loop, program.s)
        histories = [name for name in stored if name in course.places]
        self.results(course, kernel, {v.name: v for n in loop.nodes for v in n.outs}, keeper, histories)
        course.kernel(kernel, carries=carries)
        if self.rows(course, "trailing", keeper):
            raise NotSupported("sums in the forward")
        return course

    # -- backward

    def backward(self, forward: Course) -> tuple[Course, int]:
        """The course of a backward call, and which given array is the block of kept arrays (-1: none)."""
        program, course = self.program, Course(self.dtype)
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
                if who == OWN:
                    course.given.append(next(n for n, _ in names[index] if n in forward.own))
        for i, v in enumerate(program.gy):
            if v is not None:
                course.give(v.name, f"gy {i}", ROWS, _row(v, self.dtype))
        own = {v.name for role in ("dx", "dc") for v in getattr(program, role) if v is not None}

        def keeper(name: str) -> int:
            return OWN if name in own else SCRATCH

        if self.rows(course, "pre", keeper):
            raise NotSupported("sums before the loop")
        gs = [(j, v) for j, v in enumerate(program.gs) if v is not None]
        kernel, others = self.loops.backward_kernel()
        if kernel is None or others:
            raise NotSupported("a gradient in another shape")
        carries = []
        for j, v in gs:
            start = course.give(f"gs {j}", f"gs {j}", BATCH, _row(v, self.dtype))
            carries.append(course.add(f"ds {j}", OWN, BATCH, _row(v, self.dtype)))
            course.steps.append(("start", start, carries[-1]))
        loop = self.sections["loop_back"]
        self.outside(course, loop, [v for _, v in gs])
        self.results(course, kernel, {v.name: v for n in loop.nodes for v in n.outs}, keeper)
        course.kernel(kernel, carries=carries, backward=True)
        self._last(course, self.rows(course, "post", keeper))
        return course, block

    def _last(self, course: Course, sums: list[RowSum]) -> None:
        """The sums over rows, in the shapes that the section `final` would give them."""
        nodes = self.sections["final"].nodes
        uses: dict[str, int] = {}
        for v in (*(v for n in nodes for v in refs(n)), *self.sections["final"].outs, *self.program.dp):
            if v is not None:
                uses[v.name] = uses.get(v.name, 0) + 1
        seen_as = {
            n.args[0].name: n.outs[0] for n in nodes if n.op in _VIEWS and isinstance(n.args[0], Value) and uses[n.args[0].name] == 1
        }
        for job in sums:
            for _, out in (*job.columns, *job.products):
                v = seen_as.get(out.name, out)
                sizes = [int(n) for n in v.shape if isinstance(n, int)]
                index = course.add(v.name, OWN, ONE, sizes)
                course.places[out.name] = (index, PLAIN)
        if sums:
            course.sums(sums)


def _turns(node: Node) -> bool:
    return node.op == "permute.default" and node.args[1] in _TURNS


def _needed(nodes: Sequence[Node], outs: Sequence[Value]) -> list[Node]:
    wanted, needed = set(outs), []
    for node in reversed(nodes):
        if wanted & set(node.outs):
            needed.append(node)
            wanted.update(refs(node))
    return needed[::-1]


def _sub_section(nodes: list[Node], outs: list[Value]) -> Section:
    made = {o for n in nodes for o in n.outs}
    ins = dict.fromkeys(v for n in nodes for v in refs(n) if v not in made)
    return Section(nodes=nodes, ins=list(ins), outs=outs)


class Recipe:
    """The recipes of a program, forward and backward. Tensors of a call: x, state, initial state, context, parameters.

    What a given array is: an integer (its place among these tensors), a name (made by torch before the rest, or by the
    forward call), "gy i", "gs j", "block", or a constant tensor.
    """

    def __init__(self, writer: _Writer) -> None:
        program = writer.program
        self.dtype, self.statics = writer.dtype, writer.statics
        self.dtypes = {i: v.dtype for i, v in enumerate(writer.inputs)}
        self.program, self.grad = program, writer.grad
        forward = writer.forward()
        self._forward = forward.finish()
        self._given = forward.given
        self._names = [f"p{i}" for i in range(len(writer.inputs))]
        self._inputs = [(v.name, i) for i, v in enumerate(writer.inputs)]
        self._tensors = sorted({i for i in forward.given if isinstance(i, int)})
        block = any(who == KEPT for who, *_ in forward.arrays)
        self._made = [*(["block"] if block else []), *forward.own]
        self._ys = [(v.name, forward.places[v.name][1]) for v in program.y]
        self._finals = [f"final {j}" for j in range(len(program.s))]
        self._saved: list[str] = []
        if not self.grad:
            return
        backward, at = writer.backward(forward)
        self._backward = backward.finish(at)
        self._given_back = backward.given
        self._tensors_back = sorted({i for i in backward.given if isinstance(i, int)})
        self._saved = [
            g for g in backward.given if isinstance(g, str) and not g.startswith(("gy ", "gs "))
        ]
        self._made_back = backward.own
        self._plan_grads(writer, backward)

    def _plan_grads(self, writer: _Writer, course: Course) -> None:
        """Where each gradient that goes out comes from: a name of what is made, or None."""
        program = self.program
        ready = set(course.own)
        rest = [n for n in writer.sections["final"].nodes if n.outs[0].name not in ready]
        later = [v for v in program.dp if v is not None and v.name not in ready]
        needed = _needed(rest, later)
        self._final = None
        if needed:
            section = _sub_section(needed, list(dict.fromkeys(later)))
            if any(v.name not in ready for v in section.ins):
                raise NotSupported("gradients of parameters that the core does not make alone")
            self._final = (compile_section(section, section.outs), [v.name for v in section.ins], [v.name for v in section.outs])
            ready |= {v.name for v in section.outs}
        for role in ("dx", "dc", "dp"):
            for v in getattr(program, role):
                if v is not None and v.name not in ready:
                    raise NotSupported(f"the gradient {v.name} is not made by the core")
        names: list[str | None] = [None if v is None else v.name for v in program.dx]
        names += [None if v is None else f"ds {j}" for j, v in enumerate(program.gs)]
        names += [None] * len(program.s)
        names += [None if v is None else v.name for v in (*program.dc, *program.dp)]
        first: dict[str, int] = {}
        self._grads = [
            (n, n is not None and first.setdefault(n, i) != i) for i, n in enumerate(names)
        ]  # (name, whether another has it already)
        c = len(program.dx) + 2 * len(program.s)
        self._summed = {n for n in names[c : c + len(program.dc)] if n is not None}
        self._gy = [v is not None for v in program.gy]
        self._gs = [v is not None for v in program.gs]

    def forward(self, tensors: Sequence[Tensor], T: int, B: int, reverse: bool) -> tuple[list[Tensor], list[Tensor]]:
        """Outputs and final states, and what the backward needs beside the tensors."""
        tensors = self._in_place(tensors, self._tensors)
        env = self._torch(tensors, B)
        addresses = [
            tensors[g].data_ptr() if isinstance(g, int) else (env[g] if isinstance(g, str) else g).data_ptr()
            for g in self._given
        ]
        for name, capsule in zip(self._made, self._forward.run(T, B, reverse, addresses, threads()), strict=True):
            env[name] = from_dlpack(capsule)
        outs = [
            env[name] if moment == PLAIN else env[name][:T] if reverse else env[name][1:] for name, moment in self._ys
        ]
        outs += [env[name] for name in self._finals]
        return outs, [env[name] for name in self._saved]

    def backward(
        self, tensors: Sequence[Tensor], saved: Sequence[Tensor], grads: Sequence[Tensor | None], T: int, B: int,
        reverse: bool,
    ) -> list[Tensor | None]:  # fmt: skip
        """Gradients of the tensors. grads: of the outputs and the final states."""
        tensors = self._in_place(tensors, self._tensors_back)
        env = dict(zip(self._saved, saved, strict=True))
        addresses = []
        alive: list[Tensor] = []
        for g in self._given_back:
            if isinstance(g, int):
                addresses.append(tensors[g].data_ptr())
            elif not isinstance(g, str):
                addresses.append(g.data_ptr())
            elif g in env:
                addresses.append(env[g].data_ptr())
            else:
                addresses.append(self._incoming(g, grads, (T, B), alive))
        made = self._backward.run(T, B, reverse, addresses, threads())
        env = {name: from_dlpack(capsule) for name, capsule in zip(self._made_back, made, strict=True)}
        if self._final is not None:
            f, ins, outs = self._final
            env.update(zip(outs, f(B, tensors[0].device, *[env[n] for n in ins]), strict=True))
        for name in self._summed:
            env[name] = env[name].sum(0)
        return [None if name is None else env[name].clone() if again else env[name] for name, again in self._grads]

    def _incoming(self, what: str, grads: Sequence[Tensor | None], shape: tuple[int, int], alive: list[Tensor]) -> int:
        role, i = what.split()
        g = grads[int(i) + (len(self.program.y) if role == "gs" else 0)]
        if g is None:
            if role == "gs":
                return 0
            g = torch.zeros(*shape, *self.program.y[int(i)].shape[1:], dtype=self.dtype)
        elif g.dtype != self.dtype or not g.is_contiguous():
            g = g.to(self.dtype).contiguous()
        alive.append(g)
        return g.data_ptr()

    def _in_place(self, tensors: Sequence[Tensor], places: Sequence[int]) -> Sequence[Tensor]:
        for i in places:
            t = tensors[i]
            if t.dtype is not self.dtype or not t.is_contiguous():
                own = list(tensors)
                for k in places:
                    own[k] = own[k].to(self.dtype).contiguous()
                return own
        return tensors

    def _torch(self, tensors: Sequence[Tensor], B: int) -> dict[str, Tensor]:
        env: dict[str, Tensor] = {}
        if self.statics:
            known = {name: tensors[i] for name, i in self._inputs}
            for f, ins, outs in self.statics:
                results = f(B, tensors[0].device, *[known[n] for n in ins])
                known.update(zip(outs, results, strict=True))
                env.update(zip(outs, (t.contiguous() for t in results), strict=True))
        return env


def make_recipe(
    program: Program, loops: Any, kept: Sequence[str], before: Sequence[Value], *, grad: bool
) -> Recipe | None:  # fmt: skip
    """The recipes of a program on `NativeLoops`, None where a part of it is not the core's alone. kept: names of what the
    backward reads; before: the states that are wanted before each step."""
    try:
        return Recipe(_Writer(program, loops, kept, before, grad))
    except (NotSupported, KeyError, ValueError):
        return None
