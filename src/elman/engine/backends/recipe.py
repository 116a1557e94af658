"""A whole call on the core in one go: every section, loop and sum of a Program as the steps of one recipe, forward and
backward, on arrays that the core lays out and makes.

This is for plain calls (every row takes every step, nothing is reset) of programs whose parts the core carries out
altogether; others run part by part (`native`, `sections`). What is computed is the same: the same kernels on the same
rows. What is spared is Python, which costs more than the kernels of a small layer, and several times as much where a
large one has just swept it out of the caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from elman.engine.backends.courses import KEPT, PLAIN, Course, Writer, needed_nodes
from elman.engine.backends.kernel import from_dlpack, threads
from elman.engine.backends.sections import section_of
from elman.engine.errors import NotSupported
from elman.engine.execute import compile_section
from elman.engine.program import Program, Value

__all__ = ["Recipe", "make_recipe"]


class Recipe:
    """The recipes of a program, forward and backward. Tensors of a call: x, state, initial state, context, parameters.

    What a given array is: an integer (its place among these tensors), a name (made by torch before the rest, or by the
    forward call), "gy i", "gs j", "block", or a constant tensor.
    """

    def __init__(self, writer: Writer) -> None:
        program = writer.program
        self.dtype, self.statics = writer.dtype, writer.statics
        self.program = program
        forward = writer.forward()
        self._forward = forward.finish()
        self._given = forward.given
        self._inputs = [(v.name, i) for i, v in enumerate(writer.inputs)]
        self._tensors = sorted({i for i in forward.given if isinstance(i, int)})
        block = any(who == KEPT for who, *_ in forward.arrays)
        self._made = [*(["block"] if block else []), *forward.own]
        self._ys = [(v.name, forward.places[v.name][1]) for v in program.y]
        self._finals = [f"final {j}" for j in range(len(program.s))]
        self._saved: list[str] = []
        if not writer.grad:
            return
        backward, at = writer.backward(forward)
        self._backward = backward.finish(at)
        self._given_back = backward.given
        self._tensors_back = sorted({i for i in backward.given if isinstance(i, int)})
        self._saved = [g for g in backward.given if isinstance(g, str) and not g.startswith(("gy ", "gs "))]
        self._made_back = backward.own
        self._plan_grads(writer, backward)

    def _plan_grads(self, writer: Writer, course: Course) -> None:
        """Where each gradient that goes out comes from: a name of what is made, or None."""
        program = self.program
        ready = set(course.own)
        rest = [n for n in writer.sections["final"].nodes if n.outs[0].name not in ready]
        later = [v for v in program.dp if v is not None and v.name not in ready]
        needed = needed_nodes(rest, later)
        self._final = None
        if needed:
            section = section_of(needed, set(later))
            if any(v.name not in ready for v in section.ins):
                raise NotSupported("gradients of parameters that the core does not make alone")
            self._final = (
                compile_section(section, section.outs),
                [v.name for v in section.ins],
                [v.name for v in section.outs],
            )
            ready |= {v.name for v in section.outs}
        for role in ("dx", "dc", "dp"):
            for v in getattr(program, role):
                if v is not None and v.name not in ready:
                    raise NotSupported(f"the gradient {v.name} is not made by the core")
        names: list[str | None] = [None if v is None else v.name for v in program.dx]
        names += [None if v is None else f"ds {j}" for j, v in enumerate(program.gs)]
        names += [None] * len(program.s)
        names += [None if v is None else v.name for v in (*program.dc, *program.dp)]
        for i, name in enumerate(names):
            if name in names[:i] and writer.copies.get(name or ""):
                names[i] = writer.copies[name or ""].pop()
        first: dict[str, int] = {}
        self._grads = [
            (n, n is not None and first.setdefault(n, i) != i) for i, n in enumerate(names)
        ]  # (name, whether another has it already)
        c = len(program.dx) + 2 * len(program.s)
        self._summed = {n for n in names[c : c + len(program.dc)] if n is not None}

    def forward(
        self, tensors: Sequence[Tensor], T: int, B: int, reverse: bool
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Outputs and final states, and what the backward needs beside the tensors."""
        tensors = self._in_place(tensors, self._tensors)
        env = self._torch(tensors, B)
        addresses = [
            tensors[g].data_ptr() if isinstance(g, int) else (env[g] if isinstance(g, str) else g).data_ptr()
            for g in self._given
        ]
        for name, capsule in zip(
            self._made, self._forward.run(T, B, reverse, addresses, threads()), strict=True
        ):
            env[name] = from_dlpack(capsule)
        outs = [
            env[name] if moment == PLAIN else env[name][:T] if reverse else env[name][1:]
            for name, moment in self._ys
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
        return [
            None if name is None else env[name].clone() if again else env[name] for name, again in self._grads
        ]

    def _incoming(
        self, what: str, grads: Sequence[Tensor | None], shape: tuple[int, int], alive: list[Tensor]
    ) -> int:
        role, i = what.split()
        g = grads[int(i) + (len(self.program.y) if role == "gs" else 0)]
        if g is None:
            if role == "gs":
                return 0
            sizes = [n for n in self.program.y[int(i)].shape[1:] if isinstance(n, int)]
            g = torch.zeros(*shape, *sizes, dtype=self.dtype)
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
    """The recipes of a program on `NativeLoops`, None where a part of it is not the core's alone. kept: names of what
    the backward reads; before: the states that are wanted before each step."""
    try:
        return Recipe(Writer(program, loops, kept, before, grad))
    except (NotSupported, KeyError, ValueError):
        return None
