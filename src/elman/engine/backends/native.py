"""The loops of a Program on the native core: one call for all T steps, forward and backward."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from elman import _core
from elman.engine.backends.assemble import Assembler, Code
from elman.engine.backends.views import IN, OUT, row_shape
from elman.engine.errors import NotSupported
from elman.engine.execute import Environment, kind
from elman.engine.program import Program, Section, Value
from elman.engine.rows import Layout

__all__ = ["NativeLoops"]

_DTYPES = {torch.float32: "float32", torch.float64: "float64"}
_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_after_fork)


def _threads() -> int:
    """As many as torch uses; one in a forked child, whose OpenMP runtime is that of its parent."""
    return 1 if _forked else torch.get_num_threads()


class NativeLoops:
    """Forward and backward loop of one program. NotSupported where the core has no instruction for it."""

    name = "native"

    def __init__(self, program: Program, device: Any) -> None:
        if torch.device(device).type != "cpu":
            raise NotSupported(f"the native core runs on the CPU, the tensors are on {device}")
        self.program = program
        self.dtype = _dtype(program)
        self.gs = [v for v in program.gs if v is not None]
        self._forward: dict[tuple[Any, ...], _Kernel] = {}
        self._backward: _Kernel | None = None
        self._forward_kernel((), ())
        if program.ds:
            self._backward = self._backward_kernel()

    # -- forward

    def _forward_kernel(self, copied: tuple[int, ...], after: tuple[int, ...]) -> _Kernel:
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
            kernel = _Kernel.build(program, section, program.s, stores, commits, self.dtype)
            self._forward[copied, after] = kernel
        return kernel

    def forward(
        self, rows: Layout, env: Environment, states: list[Tensor], initial: list[Tensor], before: list[Value],
        after: list[int],
    ) -> list[Tensor]:  # fmt: skip
        """See `ReferenceLoops.forward`."""
        program = self.program
        wanted = [program.s.index(v) for v in before]
        shifted = rows.offsets is None and rows.flags is None
        kernel = self._forward_kernel(
            () if shifted else tuple(wanted), tuple(sorted({*after, *(wanted if shifted else ())}))
        )
        carries = [s.clone(memory_format=torch.contiguous_format) for s in states]
        arrays = kernel.arrays(rows)
        histories = self._histories(kernel, arrays, rows, carries, wanted) if shifted else {}
        flags, starts = _reset(rows, initial)
        kernel.run(rows, env, arrays, carries, flags, 1 if flags is not None else 0, starts, backward=False)
        values = {v.name: v for v in program.sections["loop"].outs}
        for name, t in arrays.items():
            env[name] = _shaped(t, values[name]) if name in values else t
        for j in after:
            env[f"after{j}"] = _shaped(env[self._array_of(j, arrays)], program.ns[j])
        for j in wanted:
            source = histories[j] if shifted else arrays[f"before{j}"]
            env[program.s[j].name] = _shaped(source, program.s[j])
        return [_shaped(c, v) for c, v in zip(carries, program.s, strict=True)]

    def _array_of(self, j: int, arrays: Environment) -> str:
        name = self.program.ns[j].name
        return name if name in arrays else f"after{j}"

    def _histories(
        self, kernel: _Kernel, arrays: Environment, rows: Layout, carries: list[Tensor], wanted: list[int]
    ) -> dict[int, Tensor]:
        """The states before each step are those after the one before: one array, seen twice."""
        found: dict[int, Tensor] = {}
        for j in wanted:
            name = self._array_of(j, arrays)
            B, width = rows.B, arrays[name].shape[1]
            whole = torch.empty(rows.rows + B, width, dtype=self.dtype)
            start = carries[j].reshape(B, width)
            if rows.reverse:
                whole[rows.rows :] = start
                arrays[name], found[j] = whole[: rows.rows], whole[B:]
            else:
                whole[:B] = start
                arrays[name], found[j] = whole[B:], whole[: rows.rows]
        return found

    # -- backward

    def _backward_kernel(self) -> _Kernel:
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
        return _Kernel.build(program, section, self.gs, stores, commits, self.dtype, zero)

    def backward(
        self, rows: Layout, env: Environment, grads: list[Tensor | None]
    ) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """See `ReferenceLoops.backward`."""
        kernel = self._backward
        assert kernel is not None
        carries = [g.clone(memory_format=torch.contiguous_format) for g in grads if g is not None]
        flags, sums = _reset(rows, [torch.zeros_like(c) for c in carries])
        arrays = kernel.arrays(rows)
        kernel.run(rows, env, arrays, carries, flags, 2 if flags is not None else 0, sums, backward=True)
        values = {v.name: v for v in self.program.sections["loop_back"].outs}
        env.update({name: _shaped(t, values[name]) for name, t in arrays.items()})
        return _spread(grads, carries), _spread(grads, sums) if flags is not None else [None] * len(grads)


def _spread(grads: list[Tensor | None], given: list[Tensor]) -> list[Tensor | None]:
    rest = iter(given)
    return [None if g is None else next(rest).reshape(g.shape) for g in grads]


def _dtype(program: Program) -> torch.dtype:
    dtypes = {v.dtype for v in program.s}
    if len(dtypes) != 1 or (dtype := dtypes.pop()) not in _DTYPES:
        raise NotSupported(f"states of {sorted(map(str, {v.dtype for v in program.s}))}; the core runs float32 or float64")
    return dtype


def _shaped(t: Tensor, v: Value) -> Tensor:
    """A flat array `(rows, width)` in the shape and dtype of its value."""
    sizes = [-1, *row_shape(v)[1:]]
    t = t.reshape(sizes)
    return t if t.dtype == v.dtype else t.to(v.dtype)


def _reset(rows: Layout, rests: list[Tensor]) -> tuple[Tensor | None, list[Tensor]]:
    if rows.flags is None:
        return None, []
    return rows.flags.to(torch.uint8).contiguous(), [r.contiguous() for r in rests]


class _Kernel:
    """An assembled section and what is needed to call it."""

    def __init__(self, program: Program, code: Code, dtype: torch.dtype) -> None:
        self.program, self.code, self.dtype = program, code, dtype
        self.kernel = _core.Kernel(
            _DTYPES[dtype], code.widths, code.weight_sizes, code.instructions, code.consts, code.commits
        )

    @classmethod
    def build(
        cls, program: Program, section: Section, carries: Sequence[Value], stores: Sequence[tuple[str, Value]],
        commits: Sequence[tuple[int, Value]], dtype: torch.dtype, zero: Sequence[int] = (),
    ) -> _Kernel:  # fmt: skip
        """zero: carries that become zero after the step."""
        assembler = Assembler(section, carries, lambda v: kind(program, v), dtype, _core.OPS)
        code = assembler.run(stores, commits, [v for _, v in (*stores, *commits)], zero)
        try:
            return cls(program, code, dtype)
        except ValueError as error:
            raise NotSupported(f"the core refuses the loop: {error}") from error

    def arrays(self, rows: Layout) -> Environment:
        """Memory for what the loop stores."""
        widths = self.code.widths[OUT]
        return {name: torch.empty(rows.rows, widths[i], dtype=self.dtype) for name, i in self.code.outs.items()}

    def run(
        self, rows: Layout, env: Environment, arrays: Environment, carries: list[Tensor], flags: Tensor | None,
        reset_mode: int, rests: list[Tensor], *, backward: bool,
    ) -> None:  # fmt: skip
        """All steps, in place on `carries` and `arrays`."""
        code = self.code
        ins = [self._rows(env[v.name], w) for v, w in zip(code.rows, code.widths[IN], strict=True)]
        contexts = [self._flat(env[v.name]) for v in code.contexts]
        vectors = [v if isinstance(v, Tensor) else self._flat(env[v.name]) for v in code.vectors]
        weights = [env[v.name] for v, _ in code.weights]
        self.kernel.run(
            rows.steps, rows.B, 0 if rows.offsets is None else rows.offsets.data_ptr(), rows.reverse != backward,
            [(t.data_ptr(), t.stride(0) if rows.rows > 1 else t.shape[1]) for t in ins],
            [t.data_ptr() for t in contexts], [t.data_ptr() for t in vectors],
            [arrays[name].data_ptr() for name in code.outs], [t.data_ptr() for t in carries],
            [(w.data_ptr(), *(w.stride()[::-1] if turned else w.stride())) for w, (_, turned) in zip(weights, code.weights, strict=True)],
            0 if flags is None else flags.data_ptr(), reset_mode, [t.data_ptr() for t in rests], _threads(),
        )  # fmt: skip

    def _rows(self, t: Tensor, width: int) -> Tensor:
        """`(rows, width)` with elements side by side, rows at any distance."""
        t = t if t.dtype == self.dtype else t.to(self.dtype)
        if t.dim() == 2 and t.stride(1) == 1 and t.stride(0) >= width:
            return t
        return t.reshape(-1, width).contiguous()

    def _flat(self, t: Tensor) -> Tensor:
        return t.to(self.dtype).contiguous()
