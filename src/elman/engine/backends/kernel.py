"""A section assembled into a kernel of the native core, and the calls of it."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from elman import _core
from elman.engine.backends.assemble import Assembler, Code
from elman.engine.backends.views import IN, OUT, row_shape
from elman.engine.errors import NotSupported
from elman.engine.execute import Environment, compile_section
from elman.engine.program import Section, Value, refs
from elman.engine.rows import Layout

__all__ = ["DTYPES", "Kernel", "RowSection", "shaped", "threads"]

DTYPES = {torch.float32: "float32", torch.float64: "float64"}
_forked = threading.Event()
os.register_at_fork(after_in_child=_forked.set)


def threads() -> int:
    """As many as torch uses; one in a forked child, whose OpenMP runtime is that of its parent."""
    return 1 if _forked.is_set() else torch.get_num_threads()


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
            name: torch.empty(rows.rows, widths[i], dtype=self.dtype) for name, i in self.code.outs.items()
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


class RowSection:
    """A section that runs once for all rows: what goes row by row as one kernel call, sums over rows with torch."""

    def __init__(self, section: Section, dtype: torch.dtype) -> None:
        rows, rest = rows_and_rest(section)
        self.ins = [v.name for v in section.ins]
        self.outs = [v.name for v in section.outs]
        self.shapes = {v.name: v for v in rows.outs}
        stores = [(v.name, v) for v in rows.outs]
        self.kernel = Kernel.build(
            rows, [], stores, [], dtype, lambda v: "static" if v.axis is None else "row"
        )
        self.rest_ins = [v.name for v in rest.ins]
        self.rest_outs = [v.name for v in rest.outs]
        self.rest = compile_section(rest, rest.outs, sum_of_products) if rest.nodes else None

    def __call__(self, R: int, device: torch.device, *given: Tensor) -> tuple[Tensor, ...]:
        env = dict(zip(self.ins, given, strict=True))
        widths = self.kernel.code.widths[OUT]
        arrays = {
            n: torch.empty(R, widths[i], dtype=self.kernel.dtype) for n, i in self.kernel.code.outs.items()
        }
        self.kernel.call(env, arrays, [], 1, R)
        env.update({n: shaped(t, self.shapes[n]) for n, t in arrays.items()})
        if self.rest is not None:
            results = self.rest(R, device, *[env[n] for n in self.rest_ins])
            env.update(zip(self.rest_outs, results, strict=True))
        return tuple(env[n] for n in self.outs)


def rows_and_rest(section: Section) -> tuple[Section, Section]:
    """The nodes that go row by row with the rows first, and those that do not (or that need one that does not).

    Raises NotSupported where there is nothing worth a kernel.
    """
    rest_made: set[Value] = set()
    rows, rest = Section(), Section(outs=[])
    for node in section.nodes:
        by_row = all(o.axis == 0 for o in node.outs) and not any(v in rest_made for v in refs(node))
        (rows if by_row else rest).nodes.append(node)
        if not by_row:
            rest_made.update(node.outs)
    if not any(node.op == "mm.default" for node in rows.nodes) and len(rows.nodes) < 3:
        raise NotSupported("nothing that goes row by row")
    made = {o for n in rows.nodes for o in n.outs}
    read = [v for n in rest.nodes for v in refs(n)]
    rows.ins = [v for v in section.ins if any(v in set(refs(n)) for n in rows.nodes)]
    rows.outs = list(dict.fromkeys(v for v in (*section.outs, *read) if v in made))
    rest.ins = list(dict.fromkeys(v for v in read if v not in rest_made))
    rest.outs = [v for v in section.outs if v in rest_made]
    return rows, rest


def sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b`, (N, R) by (R, M), in the core's own fixed order over R."""
    (n, r), m = a.shape, b.shape[1]
    if a.dtype not in DTYPES or not (n and r and m):
        return torch.mm(a, b)
    a, b = a.contiguous(), b.to(a.dtype)
    out = torch.empty(n, m, dtype=a.dtype)
    _product_kernel(DTYPES[a.dtype], r, m).run(
        1, n, 0, False, [(a.data_ptr(), r)], [], [], [out.data_ptr()], [],
        [(b.data_ptr(), b.stride(0), b.stride(1))], 0, 0, [], threads(),
    )  # fmt: skip
    return out


@functools.lru_cache(maxsize=64)
def _product_kernel(dtype: str, r: int, m: int) -> _core.Kernel:
    place = [OUT, 0, 0]
    return _core.Kernel(
        dtype,
        [[], [r], [], [], [m], []],
        [(r, m)],
        [[_core.OPS["gemm"][0], 0, m, r, *place, 0, *place, IN, 0, 0]],
        [],
        [],
    )


def shaped(t: Tensor, v: Value) -> Tensor:
    """A flat array `(rows, width)` in the shape and dtype of its value."""
    axis = v.axis or 0
    if axis == 0:
        t = t.reshape([-1, *row_shape(v)[1:]])
    else:
        t = t.reshape(t.shape[0], *row_shape(v)).movedim(0, axis).flatten(axis, axis + 1)
    return t if t.dtype == v.dtype else t.to(v.dtype)
