"""Write kernels for the native core by hand: spaces, operands, one method per form of instruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from elman import _core

Array = NDArray[Any]

REG, IN, CTX, VEC, OUT, CARRY, CONST = range(7)
OPCODE = {name: opcode for name, (opcode, _) in _core.OPS.items()}
SOURCES = {name: sources for name, (_, sources) in _core.OPS.items()}
ELEMENTWISE = [name for name in OPCODE if OPCODE[name] < OPCODE["reduce_sum"]]
ISAS = _core.isas()
DTYPES = ["float32", "float64"]


@dataclass(frozen=True)
class Place:
    """`size` elements of one row of an array, from `offset` on."""

    space: int
    index: int
    offset: int
    size: int

    def __getitem__(self, part: slice) -> Place:
        start, stop, step = part.indices(self.size)
        assert step == 1
        return Place(self.space, self.index, self.offset + start, stop - start)

    @property
    def words(self) -> list[int]:
        return [self.space, self.index, self.offset]


@dataclass
class Assembly:
    """A kernel's source. The methods that make places append to `widths`, the others to `code`."""

    widths: list[list[int]] = field(default_factory=lambda: [[], [], [], [], [], []])
    nweights: list[tuple[int, int]] = field(default_factory=list)
    code: list[list[int]] = field(default_factory=list)
    consts: list[float] = field(default_factory=list)
    commits: list[list[int]] = field(default_factory=list)

    def array(self, space: int, width: int) -> Place:
        self.widths[space].append(width)
        return Place(space, len(self.widths[space]) - 1, 0, width)

    def const(self, value: float) -> Place:
        self.consts.append(value)
        return Place(CONST, len(self.consts) - 1, 0, 1)

    def weight(self, K: int, N: int) -> int:
        self.nweights.append((K, N))
        return len(self.nweights) - 1

    def apply(self, op: str, *sources: Place, to: Place | None = None) -> Place:
        """An elementwise operation on whole places; those of size 1 are repeated."""
        size = to.size if to else max(place.size for place in sources)
        to = to or self.array(REG, size)
        words = [OPCODE[op], 1, size, *to.words, 0, 1]
        for place in sources:
            assert place.size in {1, size}
            words += [*place.words, 0, int(place.size > 1 or (size == 1 and place.space != CONST))]
        self.code.append(words)
        return to

    def strided(self, op: str, outer: int, inner: int, *operands: tuple[Place, int, int]) -> None:
        """An elementwise operation or cumsum; operands (place, outer stride, inner stride), destination first."""
        words = [OPCODE[op], outer, inner]
        for place, *strides in operands:
            words += [*place.words, *strides]
        self.code.append(words)

    def reduce(
        self, op: str, sizes: tuple[int, int, int], to: Place, *sources: tuple[Place, Sequence[int]]
    ) -> None:
        """Sources: (place, strides of outer, reduced, inner)."""
        operands = [word for place, strides in sources for word in (*place.words, *strides)]
        self.code.append([OPCODE[op], *sizes, *to.words, *operands])

    def permute(
        self,
        sizes: Sequence[int],
        to: Place,
        to_strides: Sequence[int],
        source: Place,
        strides: Sequence[int],
    ) -> None:
        self.code.append(
            [OPCODE["permute"], len(sizes), *sizes, *to.words, *to_strides, *source.words, *strides]
        )

    def rowmm(
        self,
        sizes: Sequence[int],
        to: Place,
        left: Place,
        left_strides: Sequence[int],
        right: Place,
        right_strides: Sequence[int],
    ) -> None:
        """Sizes (batch, m, k, n); strides (batch, m, k) and (batch, k, n)."""
        operands = [*to.words, *left.words, *left_strides, *right.words, *right_strides]
        self.code.append([OPCODE["rowmm"], *sizes, *operands])

    def gemm(
        self, weight: int, source: Place, *, init: Place | None = None, to: Place | None = None
    ) -> Place:
        K, N = self.nweights[weight]
        to = to or self.array(REG, N)
        start = [1, *init.words] if init else [0, 0, 0, 0]
        self.code.append([OPCODE["gemm"], weight, N, K, *to.words, *start, *source.words])
        return to

    def commit(self, carry: Place, source: Place) -> None:
        self.commits.append([carry.index, *source.words])

    def kernel(self, dtype: str = "float32", isa: str = "") -> _core.Kernel:
        return _core.Kernel(dtype, self.widths, self.nweights, self.code, self.consts, self.commits, isa=isa)


@dataclass
class Memory:
    """All buffers of one run. Rows are packed: offsets (T+1,), or None for B rows in each of T steps."""

    T: int
    B: int
    ins: list[Array] = field(default_factory=list)
    ctx: list[Array] = field(default_factory=list)
    vec: list[Array] = field(default_factory=list)
    outs: list[Array] = field(default_factory=list)
    carries: list[Array] = field(default_factory=list)
    weights: list[Array] = field(default_factory=list)
    offsets: Array | None = None
    reset_flags: Array | None = None
    reset_mode: int = 0
    resets: list[Array] = field(default_factory=list)

    def copy(self) -> Memory:
        written = {
            name: [array.copy() for array in getattr(self, name)] for name in ("outs", "carries", "resets")
        }
        return Memory(**{**self.__dict__, **written})

    def results(self) -> list[Array]:
        return [*self.outs, *self.carries, *(self.resets if self.reset_mode == 2 else [])]


def address(array: Array | None) -> int:
    return 0 if array is None else array.ctypes.data


def element_strides(array: Array) -> list[int]:
    return [stride // array.itemsize for stride in array.strides]


def arguments(memory: Memory, *, reverse: bool, threads: int) -> tuple[Any, ...]:
    """What Kernel.run takes, in order."""
    return (
        memory.T,
        memory.B,
        address(memory.offsets),
        reverse,
        [(address(array), max(array.shape[1], element_strides(array)[0])) for array in memory.ins],
        [address(array) for array in memory.ctx],
        [address(array) for array in memory.vec],
        [address(array) for array in memory.outs],
        [address(array) for array in memory.carries],
        [(address(array), *element_strides(array)[:2]) for array in memory.weights],
        address(memory.reset_flags),
        memory.reset_mode,
        [address(array) for array in memory.resets],
        threads,
    )


def run(kernel: _core.Kernel, memory: Memory, *, reverse: bool = False, threads: int = 1) -> Memory:
    """Run on a copy of what is written; the given memory stays as it is."""
    memory = memory.copy()
    kernel.run(*arguments(memory, reverse=reverse, threads=threads))
    return memory
