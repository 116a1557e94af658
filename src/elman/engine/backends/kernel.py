"""A section assembled into a kernel of the native core, and the calls of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from elman import _core
from elman.engine.backends.assemble import Assembler, Code
from elman.engine.backends.views import IN, OUT, row_shape
from elman.engine.errors import NotSupported
from elman.engine.execute import Environment
from elman.engine.program import Section, Value
from elman.engine.rows import Layout

__all__ = ["DTYPES", "Kernel", "empty", "shaped", "sum_rows", "threads"]

DTYPES = {torch.float32: "float32", torch.float64: "float64"}
LARGE = 1 << 14  # elements
_forked = threading.Event()
os.register_at_fork(after_in_child=_forked.set)


def threads() -> int:
    """As many as torch uses; one in a forked child, whose OpenMP runtime is that of its parent."""
    return 1 if _forked.is_set() else torch.get_num_threads()


def empty(rows: int, width: int, dtype: torch.dtype) -> Tensor:
    """Uninitialised `(rows, width)`; a large one from memory that an earlier call has used, which spares the system
    the work of handing it out page by page."""
    if rows * width < LARGE:
        return torch.empty(rows, width, dtype=dtype)
    return from_dlpack(_core.array(DTYPES[dtype], rows, width))


class Kernel:
    """An assembled section and what is needed to call it."""

    def __init__(self, code: Code, dtype: torch.dtype) -> None:
        self.code, self.dtype = code, dtype
        self.kernel = _core.Kernel(
            DTYPES[dtype], code.widths, code.weight_sizes, code.instructions, code.consts, code.commits
        )

    @classmethod
    def build(
        cls, section: Section, carries: Sequence[Value], stores: Sequence[tuple[str, Value]],
        commits: Sequence[tuple[int, Value]], dtype: torch.dtype, kinds: Callable[[Value], str],
        zero: Sequence[int] = (),
    ) -> Kernel:  # fmt: skip
        """kinds: what each value from outside is (see `execute.kind`); zero: carries that become 0 after a step."""
        assembler = Assembler(section, carries, kinds, dtype, _core.OPS)
        code = assembler.run(stores, commits, [v for _, v in (*stores, *commits)], zero)
        try:
            return cls(code, dtype)
        except ValueError as error:
            raise NotSupported(f"the core refuses the loop: {error}") from error

    def arrays(self, rows: Layout) -> Environment:
        """Memory for what the loop stores."""
        widths = self.code.widths[OUT]
        return {
            name: empty(rows.rows, widths[i], self.dtype) for name, i in self.code.outs.items()
        }

    def run(
        self, rows: Layout, env: Environment, arrays: Environment, carries: list[Tensor], flags: Tensor | None,
        reset_mode: int, rests: list[Tensor], *, backward: bool,
    ) -> None:  # fmt: skip
        """All steps of `rows`, in place on `carries` and `arrays`."""
        self.call(
            env, arrays, carries, rows.steps, rows.B, 0 if rows.offsets is None else rows.offsets.data_ptr(),
            rows.reverse != backward, flags, reset_mode, rests,
        )  # fmt: skip

    def call(
        self, env: Environment, arrays: Environment, carries: Sequence[Tensor], T: int, B: int, offsets: int = 0,
        reverse: bool = False, flags: Tensor | None = None, reset_mode: int = 0, rests: Sequence[Tensor] = (),
    ) -> None:  # fmt: skip
        """One call of the core; the tensors live until it is over."""
        code = self.code
        ins = [self._rows(env[v.name], w) for v, w in zip(code.rows, code.widths[IN], strict=True)]
        contexts = [self._flat(env[v.name]) for v in code.contexts]
        vectors = [v if isinstance(v, Tensor) else self._flat(env[v.name]) for v in code.vectors]
        weights = [env[v.name] for v, _ in code.weights]
        strides = [
            (w.data_ptr(), w.stride(1), w.stride(0)) if turned else (w.data_ptr(), w.stride(0), w.stride(1))
            for w, (_, turned) in zip(weights, code.weights, strict=True)
        ]
        self.kernel.run(
            T, B, offsets, reverse,
            [(t.data_ptr(), t.stride(0) if t.shape[0] > 1 else t.shape[1]) for t in ins],
            [t.data_ptr() for t in contexts], [t.data_ptr() for t in vectors],
            [arrays[name].data_ptr() for name in code.outs], [t.data_ptr() for t in carries],
            strides, 0 if flags is None else flags.data_ptr(), reset_mode, [t.data_ptr() for t in rests], threads(),
        )  # fmt: skip

    def _rows(self, t: Tensor, width: int) -> Tensor:
        """`(rows, width)` with elements side by side, rows at any distance."""
        t = t if t.dtype == self.dtype else t.to(self.dtype)
        if t.dim() == 2 and t.stride(1) == 1 and t.stride(0) >= width:
            return t
        return t.reshape(-1, width).contiguous()

    def _flat(self, t: Tensor) -> Tensor:
        return t.to(self.dtype).contiguous()


def sum_rows(
    R: int, jobs: Sequence[tuple[Tensor, Tensor | None, Tensor | None, Sequence[tuple[Tensor, Tensor]]]]
) -> None:
    """Sums over R rows, for each job (a, factor, total, products): `total = sum_r a[r] (* factor[r])`, and for each
    (b, out) of its products `out = a.T @ b`. All of one dtype; what is written is contiguous."""
    written = [t for _, _, total, products in jobs for t in (total, *(out for _, out in products)) if t is not None]
    if R == 0:
        for t in written:
            t.zero_()
        return
    alive: list[Tensor] = []
    rows: dict[int, tuple[int, int]] = {}

    def place(t: Tensor | None) -> tuple[int, int]:
        if t is None:
            return 0, 0
        found = rows.get(id(t))
        if found is None:
            if t.stride(1) != 1 or t.stride(0) < t.shape[1]:
                t = t.contiguous()
            alive.append(t)
            found = rows[id(t)] = t.data_ptr(), t.stride(0) if R > 1 else t.shape[1]
        return found

    calls = [
        (a.shape[1], place(a), place(factor), 0 if total is None else total.data_ptr(),
         [(*place(b), b.shape[1], out.data_ptr()) for b, out in products])
        for a, factor, total, products in jobs
    ]  # fmt: skip
    _core.sum_rows(DTYPES[written[0].dtype], R, calls, threads())


def shaped(t: Tensor, v: Value) -> Tensor:
    """A flat array `(rows, width)` in the shape and dtype of its value."""
    axis = v.axis or 0
    if axis == 0:
        t = t.reshape([-1, *row_shape(v)[1:]])
    else:
        t = t.reshape(t.shape[0], *row_shape(v)).movedim(0, axis).flatten(axis, axis + 1)
    return t if t.dtype == v.dtype else t.to(v.dtype)
