"""The native core: loop kernels. One recurrent step as a list of instructions, run over a whole sequence.

Spaces of an operand (row r of the array at step t; w elements a row):

    0 REG    scratch of the step          3 VEC    one vector for all rows      6 CONST  a scalar (index into consts)
    1 IN     row input, (t, r) packed     4 OUT    row output, (t, r) packed
    2 CTX    row input, constant in time  5 CARRY  state, replaced at the end of the step by `commits`

Instructions, all integers; `operand` is (space, index, offset, then its strides in elements):

    elementwise, cumsum,  [op, outer, inner, dst(so, si), source(so, si)...]
    norm_backward
    reduce_*              [op, outer, reduced, inner, dst(), source(so, sr, si)...]       dst contiguous (outer, inner)
    permute               [op, dims, sizes..., dst(strides...), source(strides...)]       at most 5 dims
    rowmm                 [op, batch, m, k, n, dst(), a(sb, sm, sk), b(sb, sk, sn)]       dst contiguous (batch, m, n)
    gemm                  [op, weight, N, K, dst(), has_init, init(), a()]                dst = init + a W,  W (K, N)

A destination is in REG or OUT. A source in REG or OUT must have been written earlier in the step. A destination may
also be a source of the same instruction if both have the same layout (elementwise, cumsum, the init of gemm).

Sums have a fixed order that depends on the instruction alone: results are bit for bit the same for any number of
rows and threads, and for any cut of the sequence into calls.
"""

from collections.abc import Sequence
from typing import Any, Final

OPS: Final[dict[str, tuple[int, int]]]
"""Name of an operation -> (opcode, number of sources). Elementwise opcodes come before that of reduce_sum."""

def isa() -> str:
    """The instruction set kernels use: the best one, or ELMAN_ISA ("avx512", "avx2", "portable")."""

def isas() -> list[str]:
    """The instruction sets this machine can run, best first."""

def poison(on: bool) -> None:
    """For tests (also ELMAN_POISON=1): registers start every step as NaN."""

def stretch(steps: int) -> None:
    """For tests: a recipe takes so many steps at a time; 0: as many as are good."""

def share_columns(always: bool) -> None:
    """For tests: threads share the columns of every product, not only where there are fewer rows than threads."""

def array(dtype: str, rows: int, width: int) -> object:
    """Uninitialised (rows, width) as a DLPack capsule, from memory that is kept between calls. ValueError for sizes
    below 1."""

class ArrayShape:
    """The shape of arrays that are made again and again. ValueError for sizes below 1, or more than 6 of them."""

    def __init__(self, dtype: str, sizes: Sequence[int]) -> None: ...
    def make(self) -> object:
        """A new one, uninitialised and contiguous, as a DLPack capsule."""

def kept_memory() -> int:
    """Bytes of freed arrays that are kept for the next ones."""

def memory_limit() -> int:
    """The most bytes that are kept: ELMAN_CACHE_MB, else an eighth of the machine's memory, at most 1 GiB."""

def release_memory() -> None:
    """Give what is kept back to the system."""

def sum_rows(
    dtype: str,
    rows: int,
    jobs: Sequence[tuple[int, int, int, Sequence[tuple[int, int, int]], Sequence[tuple[int, int, int, int]]]],
    threads: int,
    *,
    isa: str = "",
) -> None:
    """Sums over rows; the interpreter lock is released. ValueError before any work.

    jobs: (N, a, stride, columns, products), a (rows, N). Columns (factor, stride, out): out[n] = sum_r a[r, n]
    factor[r, n], factor 0 for none. Products (b, stride, M, out): out[n, m] = sum_r a[r, n] b[r, m], contiguous.
    Arrays are given by address and by the elements from one row to the next. What is written overlaps nothing.
    A sum is blocks of 256 rows, added in order: it depends on nothing but its own column.
    """

ENTROPY_CHUNK: Final[int]
"""Classes of a row that `entropy` takes at once."""

def entropy(
    dtype: str,
    rows: int,
    classes: int,
    z: int,
    stride: int,
    bias: int,
    weight: int,
    target: int,
    factor: int,
    nll: int,
    even: int,
    keeps: bool,
    threads: int,
    *,
    isa: str = "",
) -> None:
    """Of rows of logits l_r = z_r + bias: nll[r] = -log p[target[r]] and even[r] = -sum_v weight[v] log p[v], with
    p = softmax(l_r). keeps: p[v] = z[v] factor[r, v // ENTROPY_CHUNK] afterwards; else z stays.

    Addresses; 0 for no bias, for weights of 1 and for an `even` that is not wanted. target: int64. All contiguous, but
    for z, whose rows are `stride` elements apart. The interpreter lock is released. ValueError before any work.
    """

def entropy_gradient(
    dtype: str,
    rows: int,
    classes: int,
    z: int,
    stride: int,
    weight: int,
    target: int,
    factor: int,
    scale: int,
    right: int,
    even: int,
    sum: int,
    adds: bool,
    threads: int,
    *,
    isa: str = "",
) -> None:
    """The gradient of such rows in the place of z: g_r[v] = scale[r] p[v] - even[r] weight[v], less right[r] at the
    target; sum[v] = sum_r g_r[v], added to what is there where `adds`. even, sum: 0 for none."""

class Recipe:
    """A whole call in one: kernels and sums over rows in order, on arrays that are laid out and made here.

    arrays: (keeper, rows, width, sizes). keeper: 0 given by the caller, 1 gone after the call, 2 kept in one block with
    all others that are, 3 an array of its own, of which the sizes are those behind (T, B). rows: 0 one, 1 B, 2 those
    of the call, 3 (T + 1)*B, a state before the first step and after each, 4 T*B. Those of the call are all T*B, or
    where there are moves those that are taken, in the order of a Ragged.
    steps: ("kernel", kernel, all_rows, block, backward, ins, ctxs, vecs, outs, carries, weights, rest), where all_rows
    means no sequence, but all rows in blocks of `block` for each thread (0: at once), and `rest` has for each carry
    what a reset leads to, or in a backward what is given to it; ("move", outside, rows, out), rows of T*B or of a batch
    into those of the call, or out of them; ("unsort", from, to), a batch from the order of a Ragged into the caller's;
    ("sums", jobs), each job (a, first column, columns, columns summed, products), columns (factor or -1, out), products
    (b, out); ("start", from, to), the rows of a batch (-1: zeros) into another array: a state, the first of a history,
    or once for each step; ("join", from, to, begin, adds), an array without rows into another one. An array of rows is
    (index, moment), moment 0, or of a history 1 what is before each step, 2 what is after it; written out flat in jobs.
    Weights: (index, strides). block: the given array that is the block of another recipe with the same kept arrays, -1
    for none. ValueError for what does not fit together.
    """

    def __init__(
        self,
        dtype: str,
        arrays: Sequence[tuple[int, int, int, Sequence[int]]],
        steps: Sequence[tuple[Any, ...]],
        block: int,
    ) -> None: ...
    def run(
        self, T: int, B: int, reverse: bool, given: Sequence[int], threads: int, ragged: Ragged | None = None
    ) -> list[object]:
        """The block of kept arrays if there are any and it is not given, then the arrays of their own, as DLPack
        capsules. given: addresses; 0 for zeros that a start or a move copies. The interpreter lock is released.
        ValueError."""

class Ragged:
    """Which rows of a batch take which steps: int64 lengths (B,), bool mask and resets (T, B), each an address or 0.

    steps: of the row with the most; rows: steps of all rows; waits: some rows take none.
    """

    T: Final[int]
    B: Final[int]
    steps: Final[int]
    rows: Final[int]
    reverse: Final[bool]
    waits: Final[bool]

    def __init__(
        self, T: int, B: int, reverse: bool, lengths_ptr: int, mask_ptr: int, reset_ptr: int
    ) -> None: ...

class Watch:
    """Places in Python objects, watched for a change; what they hold is compared by identity.

    nothing: the object that stands for "there is none" among the values (entry, type, member, cell, variable), or for
    "any" (scan, list). Each `add_` returns the number of its check.
    """

    def __init__(self, nothing: object) -> None: ...
    def add_entry(self, mapping: dict[Any, Any], key: object, value: object) -> int:
        """Entry `key` of a dictionary."""

    def add_scan(self, mapping: dict[Any, Any], keys: list[Any], values: list[Any]) -> int:
        """All keys of a dictionary in order, and the values of some of them."""

    def add_type(self, kind: type, names: list[str], values: list[Any]) -> int:
        """Attributes of a class, inherited ones too."""

    def add_list(self, what: list[Any], items: list[Any]) -> int:
        """The items of a list."""

    def add_iterated(self, what: object, items: list[Any]) -> int:
        """The items of a set or a deque."""

    def add_member(self, what: object, descriptor: object, value: object) -> int:
        """A slot of an object, by its descriptor."""

    def add_cell(self, cell: object, value: object) -> int:
        """A closure cell."""

    def add_function(self, function: object) -> int:
        """Code, defaults and keyword defaults of a function."""

    def add_length(self, what: object, length: int) -> int:
        """`len(what)`."""

    def add_bytes(self, what: object) -> int:
        """The contents of an object with a buffer."""

    def add_variable(self, variable: object, value: object) -> int:
        """A context variable."""

    def add_answer(self, call: object, value: object) -> int:
        """What a call without arguments returns, a plain value, by equality."""

    def first_change(self) -> int:
        """The number of the first check that no longer holds, or -1."""

class Stream:
    """One step at a time on weights that were packed once (see Kernel.stream)."""

    def step(self, in_ptrs: Sequence[int], out_ptrs: Sequence[int]) -> None:
        """A step on arrays (B, w) at these addresses, contiguous. Not to be called from two threads at once."""

    def step_one(self, in_ptr: int, out_ptr: int) -> None:
        """The same where there is one input and one output."""

class Steps:
    """Steps of a stream on weights that may change between two of them.

    version, place: the descriptors of the tensors' type for a property that counts changes, and for a method that gives
    the address. ValueError where they are none.
    """

    def __init__(self, stream: Stream, version: object, place: object) -> None: ...
    def add(self, tensor: object, alias: object, bytes: int, counted: bool) -> None:
        """The version, the address and the values of a tensor are watched; alias keeps its memory alive."""

    def add_entry(self, mapping: dict[Any, Any], key: object, value: object) -> None:
        """`mapping[key] is value` is watched."""

    def same(self) -> bool:
        """Whether no change is seen. Each call looks at other values; after `period` calls all have been looked at."""

    def unchanged(self) -> bool:
        """Whether nothing has changed: as `same`, with every value looked at."""

    def step(self, in_ptrs: Sequence[int], out_ptrs: Sequence[int]) -> bool:
        """`Stream.step`; False, and no step, where something has changed."""

    def expect(
        self,
        kind: type,
        sizes: object,
        dtype: object,
        shape_of: object,
        dtype_of: object,
        on_cpu: object,
        contiguous: object,
        array: ArrayShape,
        from_capsule: object,
        modes: object,
        elsewhere: bool,
    ) -> None:
        """For `step_one`, where there is one input and one output: what x has to be, by the descriptors of its class;
        the shape of y, what makes a tensor of a DLPack capsule, what tells how many want to see the operations, and
        whether tensors may lie on another device. ValueError where a descriptor is another."""

    def step_one(self, x: object) -> object:
        """The step, y in memory of its own; None, and no step, where x is another, something has changed
        or somebody wants to see the operations."""

    def retire(self) -> None:
        """From here on `step_one` gives None."""

    @property
    def period(self) -> int:
        """The most looks until a change of one value is seen that nothing else tells."""

class PackedCall:
    """Whole calls of a forward recipe for one batch size, on weights that are packed once and may change between two
    calls.

    given: the address of each given array; of those that belong to no row vectors are read where they lie, at each
    call. version, place: as for `Steps`, and so are add, add_entry, same, unchanged and period. ValueError for a recipe
    that is no forward call of all rows.
    """

    def __init__(
        self,
        recipe: Recipe,
        B: int,
        reverse: bool,
        given: Sequence[int],
        threads: int,
        version: object,
        place: object,
    ) -> None: ...
    def add(self, tensor: object, alias: object, bytes: int, counted: bool) -> None: ...
    def add_entry(self, mapping: dict[Any, Any], key: object, value: object) -> None: ...
    def same(self) -> bool: ...
    def unchanged(self) -> bool: ...
    def run(self, T: int, given: Sequence[int], own: Sequence[int]) -> bool:
        """A call: addresses of the given arrays, of which those of a batch (0: zeros) and of rows are read, and of
        those that it makes. False, and nothing done, while another thread is at it."""

    def expect(
        self,
        dense: tuple[Any, ...],
        from_capsule: object,
        result: type,
        questions: list[tuple[Any, Any]],
        element: int,
        batch_first: bool,
        x_row: Sequence[int],
        x_at: Sequence[int],
        y_row: Sequence[int],
        y_at: Sequence[int],
        state_sizes: list[Any],
        state_at: Sequence[Sequence[int]],
        final_at: Sequence[int],
        several: bool,
        zeros: bool,
    ) -> None:
        """For a `Caller`, whose calls `(x[, state])` it answers from here on with a named tuple `result((y, state))`.

        dense: class and dtype of the tensors, and the descriptors of the class for their shape, dtype, whether they are
        on the CPU, dense and in need of a gradient, and whether tensors may lie on another device. questions: calls,
        and what each has to give. x_at, y_at, state_at, final_at: places among the given arrays, or among those that it
        makes."""

    def retire(self) -> None:
        """Answers no more calls of a `Caller`."""

    @property
    def period(self) -> int: ...

class Caller:
    """What is called again and again: `steps` answers where it can, else the method `_call` of the class that comes
    from this one."""

    steps: Steps | PackedCall | None
    def __call__(self, *args: Any, **keywords: Any) -> Any: ...

class Profile:
    """The profile function of this thread, written in whatever language."""

    def take(self) -> None:
        """Take it off."""

    def put_back(self) -> None:
        """Put it on again, as it was."""

class Kernel:
    """A step in one dtype. ValueError, with the instruction's number and what is wrong, for code that is not sound."""

    def __init__(
        self,
        dtype: str,
        widths: Sequence[Sequence[int]],
        nweights: Sequence[tuple[int, int]],
        code: Sequence[Sequence[int]],
        consts: Sequence[float],
        commits: Sequence[Sequence[int]],
        *,
        isa: str = "",
    ) -> None:
        """
        dtype: "float32" or "float64", of all arrays.
        widths: elements a row of each array of REG, IN, CTX, VEC, OUT, CARRY (six lists).
        nweights: (K, N) of each weight.
        commits: (carry, space, index, offset): at the end of the step the carry becomes that operand. All sources
            are read before any carry is replaced.
        isa: instruction set; "" is `isa()`.
        """

    def run(
        self,
        T: int,
        B: int,
        offsets_ptr: int,
        reverse_time: bool,
        in_ptrs: Sequence[tuple[int, int]],
        ctx_ptrs: Sequence[int],
        vec_ptrs: Sequence[int],
        out_ptrs: Sequence[int],
        carry_ptrs: Sequence[int],
        weights: Sequence[tuple[int, int, int]],
        reset_ptr: int,
        reset_mode: int,
        reset_ptrs: Sequence[int],
        threads: int,
    ) -> None:
        """Run T steps over B rows; the interpreter lock is released. ValueError before any work.

        offsets_ptr: int64 (T + 1): row r of step t has the packed index offsets[t] + r; the number of rows does not
            grow from step to step, and rows are always the first of the batch. 0: B rows in each step.
        reverse_time: steps T-1 down to 0.
        in_ptrs: (address, elements from one packed row to the next). out_ptrs: (packed rows, w) contiguous.
        ctx_ptrs, carry_ptrs: (B, w) contiguous. vec_ptrs: (w,). weights: (address, stride of K, stride of N).
        reset_ptr: bytes (packed rows,) or 0. reset_mode 1: before a flagged row's step its carries become its row
            of reset_ptrs (B, w). 2: after a flagged row's step its carries are added to it and set to zero.
        threads: rows are split over at most so many threads of the OpenMP runtime in the process; where there are
            fewer rows than threads, the columns of large products are.
        OUT, CARRY and (mode 2) reset memory must overlap nothing else.
        """

    def stream(
        self,
        B: int,
        in_ptrs: Sequence[tuple[int, int]],
        ctx_ptrs: Sequence[int],
        vec_ptrs: Sequence[int],
        out_ptrs: Sequence[int],
        carry_ptrs: Sequence[int],
        weights: Sequence[tuple[int, int, int]],
        threads: int,
    ) -> Stream:
        """The kernel, made ready for single steps on B rows. Weights are read here, once; contexts, vectors and carries
        are used where they are, at every step; inputs and outputs are given again with each step."""

    @property
    def dtype(self) -> str: ...
    @property
    def isa(self) -> str: ...
