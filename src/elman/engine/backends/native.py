"""The loops of a Program on the native core: one call for all T steps, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from elman.engine.backends.integers import integers_of
from elman.engine.backends.kernel import DTYPES, Kernel, empty, is_plain, shaped
from elman.engine.backends.recipe import Recipe, make_recipe
from elman.engine.backends.sections import RowSection
from elman.engine.errors import NotSupported
from elman.engine.program.execute import Environment, kind
from elman.engine.program.program import Program, Section, Value
from elman.engine.program.rows import Layout

__all__ = ["NativeLoops"]


class NativeLoops:
    """Forward and backward loop of one program. NotSupported where the core has no instruction for it."""

    name = "native"

    def __init__(self, program: Program, device: Any) -> None:
        if torch.device(device).type != "cpu":
            raise NotSupported(f"the native core runs on the CPU, the tensors are on {device}")
        self.program = program
        self.dtype = _dtype(program)
        self.integers = integers_of(program, self.dtype)
        self.gs = [v for v in program.gs if v is not None]
        self._forward: dict[tuple[Any, ...], Kernel] = {}
        self._backward: Kernel | None = None
        self.others = [v for v in program.sections["loop"].outs if not is_plain(v, self.dtype)]
        self.others_back = [v for v in program.sections["loop_back"].outs if not is_plain(v, self.dtype)]
        self.forward_kernel((), ())
        if program.ds:
            self._backward = self._backward_kernel()

    def _kind(self, v: Value) -> str:
        return kind(self.program, v)

    def compile(self, section: Section, outs: list[Value]) -> Callable[..., tuple[Tensor, ...]]:
        """A section for all rows at once."""
        return RowSection(section, self.dtype, self.integers)

    def recipe(
        self, kept: list[str], before: list[Value], *, grad: bool, ragged: bool, resets: bool
    ) -> Recipe | None:
        """A call in one go, where all of the program is the core's; see `make_recipe`."""
        return make_recipe(self.program, self, kept, before, grad=grad, ragged=ragged, resets=resets)

    # -- forward

    def forward_kernel(self, copied: tuple[int, ...], after: tuple[int, ...]) -> Kernel:
        """copied: states stored as they are before the step; after: states stored as they are after it."""
        kernel = self._forward.get((copied, after))
        if kernel is None:
            program = self.program
            section = program.sections["loop"]
            stores = [(f"before{j}", program.s[j]) for j in copied]
            stores += [(v.name, v) for v in section.outs]
            known = {v.name: v for v in section.outs}
            stores += [(f"after{j}", program.ns[j]) for j in after if program.ns[j].name not in known]
            commits = list(enumerate(program.ns))
            kernel = Kernel.build(
                section, program.s, stores, commits, self.dtype, self._kind, integers=self.integers
            )
            self._forward[copied, after] = kernel
        return kernel

    def forward(
        self, rows: Layout, env: Environment, states: list[Tensor], initial: list[Tensor], before: list[Value],
        after: list[int],
    ) -> list[Tensor]:  # fmt: skip
        """See `ReferenceLoops.forward`."""
        program = self.program
        wanted = [program.s.index(v) for v in before]
        own = len({program.ns[j] for j in wanted}) == len(wanted)  # no value is the next one of two states
        shifted = own and rows.offsets is None and rows.flags is None
        kernel = self.forward_kernel(
            () if shifted else tuple(wanted), tuple(sorted({*after, *(wanted if shifted else ())}))
        )
        carries = [s.clone(memory_format=torch.contiguous_format) for s in states]
        arrays = kernel.arrays(rows.rows)
        histories = self._histories(kernel, arrays, rows, carries, wanted) if shifted else {}
        flags, starts = _reset(rows, initial)
        kernel.run(rows, env, arrays, carries, flags, 1 if flags is not None else 0, starts, backward=False)
        env.update(arrays)
        for v in self.others:
            env[v.name] = shaped(arrays[v.name], v)
        for j in after:
            env[f"after{j}"] = shaped(env[self._array_of(j, arrays)], program.ns[j])
        for j in wanted:
            v, source = program.s[j], histories[j] if shifted else arrays[f"before{j}"]
            env[v.name] = source if is_plain(v, self.dtype) else shaped(source, v)
        return carries

    def _array_of(self, j: int, arrays: Environment) -> str:
        name = self.program.ns[j].name
        return name if name in arrays else f"after{j}"

    def _histories(
        self, kernel: Kernel, arrays: Environment, rows: Layout, carries: list[Tensor], wanted: list[int]
    ) -> dict[int, Tensor]:
        """The states before each step are those after the one before: one array, seen twice."""
        found: dict[int, Tensor] = {}
        for j in wanted:
            name = self._array_of(j, arrays)
            B, width = rows.B, arrays[name].shape[1]
            whole = empty(rows.rows + B, width, self.dtype)
            start = carries[j].view(B, width)
            if rows.reverse:
                whole[rows.rows :] = start
                arrays[name], found[j] = whole[: rows.rows], whole[B:]
            else:
                whole[:B] = start
                arrays[name], found[j] = whole[B:], whole[: rows.rows]
        return found

    # -- backward

    def backward_kernel(self) -> tuple[Kernel | None, list[Value]]:
        """The kernel of the backward loop, and what it stores in another shape than its value's."""
        return self._backward, self.others_back

    def _backward_kernel(self) -> Kernel:
        program = self.program
        section = program.sections["loop_back"]
        commits = []
        zero: list[int] = []
        for g, d in zip(program.gs, program.ds, strict=True):
            if g is None:
                continue
            if d is None:
                zero.append(self.gs.index(g))
            else:
                commits.append((self.gs.index(g), d))
        stores = [(v.name, v) for v in section.outs]
        return Kernel.build(section, self.gs, stores, commits, self.dtype, self._kind, zero, self.integers)

    def backward(
        self, rows: Layout, env: Environment, grads: list[Tensor | None]
    ) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """See `ReferenceLoops.backward`."""
        kernel = self._backward
        assert kernel is not None
        carries = [g.clone(memory_format=torch.contiguous_format) for g in grads if g is not None]
        flags, sums = _reset(rows, [] if rows.flags is None else [torch.zeros_like(c) for c in carries])
        arrays = kernel.arrays(rows.rows)
        kernel.run(rows, env, arrays, carries, flags, 2 if flags is not None else 0, sums, backward=True)
        env.update(arrays)
        for v in self.others_back:
            env[v.name] = shaped(arrays[v.name], v)
        return _spread(grads, carries), _spread(grads, sums) if flags is not None else [None] * len(grads)


def _spread(grads: list[Tensor | None], given: list[Tensor]) -> list[Tensor | None]:
    rest = iter(given)
    return [None if g is None else next(rest).reshape(g.shape) for g in grads]


def _dtype(program: Program) -> torch.dtype:
    dtypes = {v.dtype for v in program.s}
    if len(dtypes) != 1 or (dtype := dtypes.pop()) not in DTYPES:
        raise NotSupported(
            f"states of {sorted(map(str, {v.dtype for v in program.s}))}; the core runs float32 or float64"
        )
    return dtype


def _reset(rows: Layout, rests: list[Tensor]) -> tuple[Tensor | None, list[Tensor]]:
    if rows.flags is None:
        return None, []
    return rows.flags.to(torch.uint8).contiguous(), [r.contiguous() for r in rests]
