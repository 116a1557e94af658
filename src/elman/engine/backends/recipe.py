"""A whole call on the core in one go: every section, loop and sum of a Program as the steps of one recipe, forward and
backward, on arrays that the core lays out and makes.

This is for programs whose parts the core carries out altogether; others run part by part (`native`, `sections`), and so
do calls that want the states of all steps. What is computed is the same: the same kernels on the same rows. What is
spared is Python, which costs more than the kernels of a small layer, and several times as much where a large one has
just swept it out of the caches. A program has a recipe for plain calls, and others for calls of which not every row
takes every step, or in which states go back to the initial ones: rows of such calls are gathered, put back and reset in
the core too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from elman.engine.backends.courses import AFTER, KEPT, Course, Writer, needed_nodes
from elman.engine.backends.kernel import Ragged, from_dlpack, ragged_rows, threads
from elman.engine.backends.sections import section_of
from elman.engine.errors import NotSupported
from elman.engine.program.execute import compile_section
from elman.engine.program.program import Program, Value
from elman.engine.program.rows import Layout, Steps

__all__ = ["Recipe", "make_recipe"]


class Recipe:
    """The recipes of a program, forward and backward. Tensors of a call: x, state, initial state, context, parameters.

    What a given array is: an integer (its place among these tensors), a name (made by torch before the rest, or by the
    forward call), "gy i", "gs j", "block", or a constant tensor. In a call all are places in one list: what is asked in
    Python right after the core has swept it out of the caches takes three times as long as elsewhere.
    """

    def __init__(self, writer: Writer) -> None:
        program = writer.program
        self.dtype, self.statics = writer.dtype, writer.statics
        self.program = program
        self._ragged, self._resets = writer.ragged, writer.resets
        forward = writer.forward()
        self._forward = forward.finish()
        self._inputs = [(v.name, i) for i, v in enumerate(writer.inputs)]
        self._tensors = sorted({i for i in forward.given if isinstance(i, int)})
        before = [name for _, _, outs in self.statics for name in outs]
        self._given, self._constants = _places(forward.given, len(writer.inputs), before)
        block = any(who == KEPT for who, *_ in forward.arrays)
        made = [*before, *(["block"] if block else []), *forward.own]
        at = {name: i for i, name in enumerate(made)}
        histories = [name for name in forward.own if forward.places[name][1] == AFTER]
        self._made = len(made) - len(before)  # by the core; behind it come the whole histories
        self._ys = [at[f"y {i}" if self._ragged else v.name] for i, v in enumerate(program.y)]
        self._finals = [at[f"final {j}"] for j in range(len(program.s))]
        self._saved: list[int] = []
        self.shared: list[int] = []  # outputs in memory that the backward reads
        self._both: list[int] = []  # of these, those that are the very array
        if not writer.grad:
            return
        backward, own = writer.backward(forward)
        self._backward = backward.finish(own)
        self._tensors_back = sorted({i for i in backward.given if isinstance(i, int)})
        incoming = [g for g in backward.given if isinstance(g, str) and g.startswith(("gy ", "gs "))]
        saved = [g for g in backward.given if isinstance(g, str) and g not in incoming]
        whole = {name: len(made) + i for i, name in enumerate(histories)}
        self._saved = [whole.get(name, at[name]) for name in saved]
        self.shared = [k for k, v in enumerate(program.y) if v.name in saved]
        self._both = [k for k in self.shared if program.y[k].name not in whole]
        self._given_back, self._constants_back = _places(
            backward.given, len(writer.inputs), [*saved, *incoming]
        )
        self._incoming = [self._gradient_place(g) for g in incoming]
        self._plan_grads(writer, backward)

    def _gradient_place(self, name: str) -> tuple[int, list[int] | None]:
        """Its place among the incoming gradients, and for an output the sizes of a row: a missing one is zeros then,
        where the core does not gather its rows."""
        role, i = name.split()
        if role == "gs":
            return int(i) + len(self.program.y), None
        if self._ragged:
            return int(i), None
        return int(i), [n for n in self.program.y[int(i)].shape[1:] if isinstance(n, int)]

    def _plan_grads(self, writer: Writer, course: Course) -> None:
        """Where each gradient that goes out comes from: a name of what is made, or None."""
        program, made = self.program, list(course.own)
        ready = set(course.own)
        rest = [n for n in writer.sections["final"].nodes if n.outs[0].name not in ready]
        later = [v for v in program.dp if v is not None and v.name not in ready]
        needed = needed_nodes(rest, later)
        self._final = None
        if needed:
            section = section_of(needed, set(later))
            if any(v.name not in ready for v in section.ins):
                raise NotSupported("gradients of parameters that the core does not make alone")
            made += [v.name for v in section.outs]
            self._final = compile_section(section, section.outs), [made.index(v.name) for v in section.ins]
            ready |= {v.name for v in section.outs}
        outs = writer.outs
        for role in ("dx", "dc", "dp"):
            for v in getattr(program, role):
                if v is not None and outs.get(v.name, v.name) not in ready:
                    raise NotSupported(f"the gradient {v.name} is not made by the core")
        names: list[str | None] = [None if v is None else outs.get(v.name, v.name) for v in program.dx]
        for role, there in (("ds", True), ("dinitial", self._resets)):
            names += [None if v is None or not there else f"{role} {j}" for j, v in enumerate(program.gs)]
        names += [None if v is None else outs.get(v.name, v.name) for v in program.dc]
        names += [None if v is None else v.name for v in program.dp]
        for i, name in enumerate(names):
            if name in names[:i] and writer.copies.get(name or ""):
                names[i] = writer.copies[name or ""].pop()
        first: dict[str, int] = {}
        self._grads = [
            (None, False) if n is None else (made.index(n), first.setdefault(n, i) != i)
            for i, n in enumerate(names)
        ]  # (which of those that are made, whether another has it already)
        c = len(program.dx) + 2 * len(program.s)
        self._summed = {made.index(n) for n in names[c : c + len(program.dc)] if n is not None}

    def rows(
        self, T: int, B: int, reverse: bool, lengths: Tensor | None, reset: Tensor | None,
        mask: Tensor | None = None,
    ) -> Steps | None:  # fmt: skip
        """The rows of a call, for `forward` and `backward`; None where no row takes a step."""
        if not (self._ragged or self._resets):
            return Layout(T, B, T, T * B, reverse)
        rows = ragged_rows(T, B, reverse, lengths, reset, mask)
        return rows if rows.rows else None

    def forward(self, tensors: Sequence[Tensor], rows: Steps) -> tuple[list[Tensor], list[Tensor]]:
        """Outputs and final states, no views, and what the backward needs beside the tensors; an output of `shared`
        lies in that."""
        tensors = self._in_place(tensors, self._tensors)
        B = rows.B
        made = self._torch(tensors, B) if self.statics else []
        all_of_them = [*tensors, *made, *self._constants]
        addresses = [all_of_them[i].data_ptr() for i in self._given]
        arrays = self._forward.run(rows.T, B, rows.reverse, addresses, threads(), self._core(rows))
        made += map(from_dlpack, arrays if self._saved else arrays[: self._made])
        outs = [made[i] for i in (*self._ys, *self._finals)]
        for k in self._both:
            outs[k] = outs[k].data  # with a version of its own
        return outs, [made[i] for i in self._saved]

    def _core(self, rows: Any) -> Ragged | None:
        return rows if self._ragged or self._resets else None

    def backward(
        self, tensors: Sequence[Tensor], saved: Sequence[Tensor], grads: Sequence[Tensor | None], rows: Steps
    ) -> list[Tensor | None]:
        """Gradients of the tensors. grads: of the outputs and the final states."""
        T, B = rows.T, rows.B
        tensors = self._in_place(tensors, self._tensors_back)
        incoming = [self._in_row(grads[i], sizes, T, B) for i, sizes in self._incoming]
        all_of_them = [*tensors, *saved, *incoming, *self._constants_back]
        addresses = [0 if (t := all_of_them[i]) is None else t.data_ptr() for i in self._given_back]
        made = [
            *map(from_dlpack, self._backward.run(T, B, rows.reverse, addresses, threads(), self._core(rows)))
        ]
        if self._final is not None:
            f, ins = self._final
            made += f(B, tensors[0].device, *[made[i] for i in ins])
        for i in self._summed:
            made[i] = made[i].sum(0)
        return [None if i is None else made[i].clone() if again else made[i] for i, again in self._grads]

    def _in_row(self, g: Tensor | None, sizes: list[int] | None, T: int, B: int) -> Tensor | None:
        if g is None:
            return None if sizes is None else torch.zeros(T, B, *sizes, dtype=self.dtype)
        return g if g.dtype is self.dtype and g.is_contiguous() else g.to(self.dtype).contiguous()

    def _in_place(self, tensors: Sequence[Tensor], places: Sequence[int]) -> Sequence[Tensor]:
        for i in places:
            t = tensors[i]
            if t.dtype is not self.dtype or not t.is_contiguous():
                own = list(tensors)
                for k in places:
                    own[k] = own[k].to(self.dtype).contiguous()
                return own
        return tensors

    def _torch(self, tensors: Sequence[Tensor], B: int) -> list[Tensor]:
        made: list[Tensor] = []
        known = {name: tensors[i] for name, i in self._inputs}
        for f, ins, outs in self.statics:
            results = f(B, tensors[0].device, *[known[n] for n in ins])
            known.update(zip(outs, results, strict=True))
            made += [t.contiguous() for t in results]
        return made


def _places(
    given: Sequence[int | str | Tensor], tensors: int, names: Sequence[str]
) -> tuple[list[int], list[Tensor]]:
    """Where each given array is in the tensors, what has a name, and the constants, one after the other."""
    at = {name: tensors + i for i, name in enumerate(names)}
    constants = [g for g in given if isinstance(g, Tensor)]
    first = iter(range(tensors + len(names), tensors + len(names) + len(constants)))
    places = [next(first) if isinstance(g, Tensor) else at[g] if isinstance(g, str) else g for g in given]
    return places, constants


def make_recipe(
    program: Program, loops: Any, kept: Sequence[str], before: Sequence[Value], *, grad: bool, ragged: bool = False,
    resets: bool = False,
) -> Recipe | None:  # fmt: skip
    """The recipes of a program on `NativeLoops`, None where a part of it is not the core's alone. kept: names of what
    the backward reads; before: the states that are wanted before each step; ragged, resets: see `Writer`."""
    try:
        return Recipe(Writer(program, loops, kept, before, grad, ragged, resets))
    except (NotSupported, KeyError, ValueError):
        return None
