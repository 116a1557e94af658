"""A section assembled into a kernel of the native core, and the calls of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack as _checked_from_dlpack

from elman import _core
from elman.engine.backends.assemble import Assembler, Code
from elman.engine.backends.integers import Ranges
from elman.engine.backends.views import IN, OUT, row_shape
from elman.engine.errors import NotSupported
from elman.engine.program.execute import Environment
from elman.engine.program.program import Section, Value
from elman.engine.program.rows import Layout

__all__ = [
    "DTYPES",
    "Caller",
    "CoreRecipe",
    "Kernel",
    "PackedCall",
    "Profile",
    "Ragged",
    "Steps",
    "Watch",
    "array_shape",
    "empty",
    "entropy",
    "entropy_factors",
    "entropy_gradient",
    "from_dlpack",
    "is_plain",
    "isa",
    "ragged_rows",
    "shaped",
    "sum_rows",
    "threads",
]

DTYPES = {torch.float32: "float32", torch.float64: "float64"}
Caller: TypeAlias = _core.Caller
CoreRecipe: TypeAlias = _core.Recipe
PackedCall: TypeAlias = _core.PackedCall
Profile: TypeAlias = _core.Profile
Ragged: TypeAlias = "_core.Ragged"
Steps: TypeAlias = _core.Steps
Watch: TypeAlias = _core.Watch
LARGE = 1 << 14  # elements
# What torch.utils.dlpack.from_dlpack calls for a capsule, without its questions.
from_dlpack: Callable[[object], Tensor] = getattr(torch._C, "_from_dlpack", _checked_from_dlpack)
_forked = threading.Event()
os.register_at_fork(after_in_child=_forked.set)


def threads() -> int:
    """As many as torch uses; one in a forked child, whose OpenMP runtime is that of its parent."""
    return 1 if _forked.is_set() else torch.get_num_threads()


def isa() -> str:
    """The instruction set that the core uses."""
    return _core.isa()


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
        self.ins = [(v.name, w) for v, w in zip(code.rows, code.widths[IN], strict=True)]
        self.contexts = [v.name for v in code.contexts]
        self.vectors = [v if isinstance(v, Tensor) else v.name for v in code.vectors]
        self.weights = [(v.name, turned) for v, turned in code.weights]
        self.mixed = any(
            words[0] != _core.OPS["gemm"][0] for words in code.instructions
        )  # not products alone
        self.alive: list[Tensor] = []
        self.outs = [(name, code.widths[OUT][i]) for name, i in code.outs.items()]
        self.kernel = _core.Kernel(
            DTYPES[dtype], code.widths, code.weight_sizes, code.instructions, code.consts, code.commits
        )

    @classmethod
    def build(
        cls, section: Section, carries: Sequence[Value], stores: Sequence[tuple[str, Value]],
        commits: Sequence[tuple[int, Value]], dtype: torch.dtype, kinds: Callable[[Value], str],
        zero: Sequence[int] = (), integers: Ranges | None = None, read: Sequence[Value] = (),
    ) -> Kernel:  # fmt: skip
        """kinds: what each value from outside is (see `execute.kind`); zero: carries that become 0 after a step;
        integers: those that are known to be exact; read: values that stay what they are, as if they were stored."""
        assembler = Assembler(section, carries, kinds, dtype, _core.OPS, integers)
        code = assembler.run(stores, commits, [*read, *(v for _, v in (*stores, *commits))], zero)
        try:
            return cls(code, dtype)
        except ValueError as error:
            raise NotSupported(f"the core refuses the loop: {error}") from error

    def instructions(self) -> list[list[str | int]]:
        """The instructions, with the name of each operation in the place of its number."""
        names = {number: name for name, (number, _) in _core.OPS.items()}
        return [[names[words[0]], *words[1:]] for words in self.code.instructions]

    def arrays(self, rows: int) -> Environment:
        """Memory for what the loop stores."""
        return {name: empty(rows, width, self.dtype) for name, width in self.outs}

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
        ins, contexts, vectors, outs, states, weights, alive = self._places(env, arrays, carries)
        self.kernel.run(
            T, B, offsets, reverse, ins, contexts, vectors, outs, states, weights,
            0 if flags is None else flags.data_ptr(), reset_mode, [t.data_ptr() for t in rests], threads(),
        )  # fmt: skip
        del alive

    def stream(
        self, env: Environment, arrays: Environment, carries: Sequence[Tensor], B: int
    ) -> _core.Stream:
        """For one step on each call. The states are those in `carries`; all else is read or copied now, and lives with
        the kernel."""
        copied = (*self.contexts, *(v for v in self.vectors if isinstance(v, str)))
        env = {**env, **{name: env[name].clone() for name in copied}}
        ins, contexts, vectors, outs, states, weights, alive = self._places(env, arrays, carries)
        stream = self.kernel.stream(B, ins, contexts, vectors, outs, states, weights, 1)
        self.alive = [*alive, *(env[name] for name in copied), *carries]
        return stream

    def _places(self, env: Environment, arrays: Environment, carries: Sequence[Tensor]) -> tuple[Any, ...]:
        """What the core is told of the tensors of a call, and copies of some that must live as long."""
        dtype = self.dtype
        alive: list[Tensor] = []
        ins = []
        for name, width in self.ins:
            t = env[name]
            if t.dtype is dtype and t.is_contiguous():
                ins.append((t.data_ptr(), width))
                continue
            alive.append(t := self._rows(t, width))
            ins.append((t.data_ptr(), t.stride(0) if t.shape[0] > 1 else width))
        flat = []
        for which in (*self.contexts, *self.vectors):
            t = env[which] if isinstance(which, str) else which
            if t.dtype is not dtype or not t.is_contiguous():
                alive.append(t := t.to(dtype).contiguous())
            flat.append(t.data_ptr())
        weights = []
        for name, turned in self.weights:
            t = env[name]
            k, n = t.stride()
            weights.append((t.data_ptr(), n, k) if turned else (t.data_ptr(), k, n))
        count = len(self.contexts)
        outs = [arrays[name].data_ptr() for name, _ in self.outs]
        return ins, flat[:count], flat[count:], outs, [t.data_ptr() for t in carries], weights, alive

    def _rows(self, t: Tensor, width: int) -> Tensor:
        """`(rows, width)` with elements side by side, rows at any distance."""
        t = t if t.dtype == self.dtype else t.to(self.dtype)
        if t.dim() == 2 and t.stride(1) == 1 and t.stride(0) >= width:
            return t
        return t.reshape(-1, width).contiguous()


Pairs = Sequence[tuple[Tensor, Tensor]]


def sum_rows(R: int, jobs: Sequence[tuple[Tensor, Sequence[tuple[Tensor | None, Tensor]], Pairs]]) -> None:
    """Sums over R rows, for each job (a, columns, products): `out = sum_r a[r] (* factor[r])` for each (factor, out) of
    its columns, `out = a.T @ b` for each (b, out) of its products. All of one dtype; what is written is contiguous."""
    written = [out for _, columns, products in jobs for _, out in (*columns, *products)]
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
            width = t.shape[1]
            if t.is_contiguous():
                found = t.data_ptr(), width
            else:
                flat = t if t.stride(1) == 1 and t.stride(0) >= width else t.contiguous()
                alive.append(flat)
                found = flat.data_ptr(), flat.stride(0) if R > 1 else width
            rows[id(t)] = found
        return found

    calls = [
        (a.shape[1], *place(a), [(*place(factor), out.data_ptr()) for factor, out in columns],
         [(*place(b), b.shape[1], out.data_ptr()) for b, out in products])
        for a, columns, products in jobs
    ]  # fmt: skip
    _core.sum_rows(DTYPES[written[0].dtype], R, calls, threads())


def entropy_factors(rows: int, classes: int, dtype: torch.dtype) -> Tensor:
    """Uninitialised factors for `entropy`: one for each row and chunk of classes."""
    return torch.empty(rows, -(-classes // _core.ENTROPY_CHUNK), dtype=dtype)


def entropy(
    z: Tensor, bias: Tensor | None, weight: Tensor | None, target: Tensor, factor: Tensor, nll: Tensor,
    even: Tensor | None, *, keeps: bool,
) -> None:  # fmt: skip
    """See `_core.entropy`: z `(R, K)`, factor of `entropy_factors`, bias and weight `(K,)`, else `(R,)`."""
    R, K = z.shape
    _core.entropy(
        DTYPES[z.dtype], R, K, z.data_ptr(), z.stride(0), _address(bias), _address(weight), target.data_ptr(),
        factor.data_ptr(), nll.data_ptr(), _address(even), keeps, threads(),
    )  # fmt: skip


def entropy_gradient(
    z: Tensor, weight: Tensor | None, target: Tensor, factor: Tensor, scale: Tensor, right: Tensor,
    even: Tensor | None, total: Tensor | None, *, adds: bool,
) -> None:  # fmt: skip
    """See `_core.entropy_gradient`: z, weight, target and factor as `entropy` left them; total `(K,)`, else `(R,)`."""
    R, K = z.shape
    _core.entropy_gradient(
        DTYPES[z.dtype], R, K, z.data_ptr(), z.stride(0), _address(weight), target.data_ptr(), factor.data_ptr(),
        scale.data_ptr(), right.data_ptr(), _address(even), _address(total), adds, threads(),
    )  # fmt: skip


def _address(t: Tensor | None) -> int:
    return 0 if t is None else t.data_ptr()


def ragged_rows(
    T: int, B: int, reverse: bool, lengths: Tensor | None, reset: Tensor | None, mask: Tensor | None = None
) -> Ragged:
    """Which rows take which steps; ValueError for lengths that are none."""
    given = [
        None if t is None else t.detach().to("cpu", dtype).contiguous()
        for t, dtype in ((lengths, torch.int64), (mask, torch.bool), (reset, torch.bool))
    ]
    ends, holes, flags = (0 if t is None else t.data_ptr() for t in given)
    return _core.Ragged(T, B, reverse, ends, holes, flags)


def array_shape(sizes: Sequence[int], dtype: torch.dtype) -> _core.ArrayShape | None:
    """A shape that the core makes arrays of; None for one that it does not."""
    return None if 0 in sizes or len(sizes) > 6 else _core.ArrayShape(DTYPES[dtype], sizes)


def is_plain(v: Value, dtype: torch.dtype) -> bool:
    """Whether an array `(rows, width)` of this dtype is the value as it is."""
    return v.axis == 0 and v.factor == 1 and len(v.shape) == 2 and v.dtype == dtype


def shaped(t: Tensor, v: Value) -> Tensor:
    """A flat array `(rows, width)` in the shape and dtype of its value."""
    axis = v.axis or 0
    if axis == 0:
        t = t.reshape([-1, *row_shape(v)[1:]])
    else:
        t = t.reshape(t.shape[0], *row_shape(v)).movedim(0, axis).flatten(axis, axis + 1)
    return t if t.dtype == v.dtype else t.to(v.dtype)
