"""Code that is not sound, and memory that does not fit: ValueError with the reason, never a crash."""

import ctypes

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elman import _core
from tests.core import lstm
from tests.core.assembly import (
    CARRY,
    CONST,
    CTX,
    IN,
    OPCODE,
    OUT,
    REG,
    Assembly,
    Memory,
    Place,
    address,
    run,
)

ADD, COPY, CUMSUM, GEMM = (OPCODE[name] for name in ("add", "copy", "cumsum", "gemm"))
ROWMM, PERMUTE, REDUCE = (OPCODE[name] for name in ("rowmm", "permute", "reduce_sum"))
NORM_BACKWARD, DEVIATION = OPCODE["norm_backward"], OPCODE["deviation_rstd"]
ROW, ONE = [IN, 0, 0, 0, 1], [CONST, 0, 0]


def build(code, *, widths=None, nweights=(), consts=(1.0,), commits=(), dtype="float32"):
    """REG 4 and 8, IN 4, CTX 4, VEC 4, OUT 4, CARRY 4 and 4 unless said otherwise."""
    widths = [[4, 8], [4], [4], [4], [4], [4, 4]] if widths is None else widths
    return _core.Kernel(
        dtype, widths, list(nweights), code, list(consts), [list(commit) for commit in commits]
    )


FILL = [COPY, 1, 4, REG, 0, 0, 0, 1, IN, 0, 0, 0, 1]

UNSOUND = {
    "opcode -1": [[-1]],
    "opcode 1000": [[1000]],
    "instruction 0: ends before its opcode": [[]],
    "ends before its source": [FILL[:9]],
    "more numbers": [[*FILL, 0]],
    "outer size is 0": [[COPY, 0, 4, *FILL[3:]]],
    "inner size is -4": [[COPY, 1, -4, *FILL[3:]]],
    "space 7": [[COPY, 1, 4, 7, 0, 0, 0, 1, IN, 0, 0, 0, 1]],
    "space -1": [[COPY, 1, 4, -1, 0, 0, 0, 1, IN, 0, 0, 0, 1]],
    "IN 1 of 1": [[COPY, 1, 4, REG, 0, 0, 0, 1, IN, 1, 0, 0, 1]],
    "offset -1": [[COPY, 1, 4, REG, 0, 0, 0, 1, IN, 0, -1, 0, 1]],
    "outside the 4 elements of IN 0": [[COPY, 1, 4, REG, 0, 0, 0, 1, IN, 0, 1, 0, 1]],
    "outside the 4 elements of REG 0": [[COPY, 1, 5, REG, 0, 0, 0, 1, IN, 0, 0, 0, 0]],
    "outside the 4 elements of IN": [[COPY, 2, 4, REG, 1, 0, 4, 1, IN, 0, 0, 4, 1]],
    "outside": [[COPY, 1, 4, REG, 0, 0, 0, 1, IN, 0, 0, 0, -1]],
    "stride": [[COPY, 1, 4, REG, 0, 0, 0, 1, IN, 0, 0, 0, 1 << 62]],
    "stride of 0": [[COPY, 2, 4, REG, 0, 0, 0, 1, IN, 0, 0, 0, 1]],
    "twice": [[COPY, 2, 3, REG, 0, 0, 1, 1, IN, 0, 0, 0, 1]],
    "writes to CARRY 0": [[COPY, 1, 4, CARRY, 0, 0, 0, 1, IN, 0, 0, 0, 1]],
    "writes to IN 0": [[COPY, 1, 4, IN, 0, 0, 0, 1, IN, 0, 0, 0, 1]],
    "element 0 of REG 0, which this step has not written": [[COPY, 1, 4, OUT, 0, 0, 0, 1, REG, 0, 0, 0, 1]],
    "element 0 of OUT 0, which": [[COPY, 1, 4, REG, 0, 0, 0, 1, OUT, 0, 0, 0, 1]],
    "element 3 of REG 0": [[COPY, 1, 3, *FILL[3:]], [COPY, 1, 4, OUT, 0, 0, 0, 1, REG, 0, 0, 0, 1]],
    "while it reads it": [FILL, [ADD, 1, 3, REG, 0, 0, 0, 1, REG, 0, 1, 0, 1, IN, 0, 0, 0, 1]],
    "CONST 1 of 1": [[COPY, 1, 4, REG, 0, 0, 0, 1, CONST, 1, 0, 0, 0]],
    "constant with a stride": [[COPY, 1, 4, REG, 0, 0, 0, 1, CONST, 0, 0, 0, 1]],
    "more than one scale for a line": [[NORM_BACKWARD, 1, 4, REG, 0, 0, 0, 1, *ROW, *ONE, 0, 0, *ROW, *ROW]],
    "more than one mean for a sum": [
        [DEVIATION, 1, 4, 1, REG, 0, 0, IN, 0, 0, 0, 1, 0, IN, 0, 0, 0, 1, 0, *ONE, 0, 0, 0, *ONE, 0, 0, 0]
    ],
    "weight 0 of 0": [[GEMM, 0, 4, 4, REG, 0, 0, 0, 0, 0, 0, IN, 0, 0]],
    "6 dimensions": [[PERMUTE, 6]],
    "0 dimensions": [[PERMUTE, 0]],
    "size is 0": [[REDUCE, 1, 0, 1, REG, 0, 0, IN, 0, 0, 0, 1, 0]],
    "while it reads": [FILL, [REDUCE, 2, 2, 1, REG, 0, 0, REG, 0, 0, 2, 1, 1]],
    "outside the 4 elements of REG": [[ROWMM, 1, 2, 2, 4, REG, 0, 0, IN, 0, 0, 0, 2, 1, CTX, 0, 0, 0, 0, 1]],
    "reads element 1 of REG 0": [
        [COPY, 1, 1, *FILL[3:]],
        [CUMSUM, 1, 4, OUT, 0, 0, 0, 1, REG, 0, 0, 0, 1],
    ],
}


@pytest.mark.parametrize("reason", UNSOUND)
def test_unsound_code_is_refused(reason):
    with pytest.raises(ValueError, match=reason) as caught:
        build(UNSOUND[reason])
    assert "instruction" in str(caught.value)


def test_the_error_names_the_instruction():
    with pytest.raises(ValueError, match=r"^instruction 1 \(copy\): .*REG 1"):
        build([FILL, [COPY, 1, 4, OUT, 0, 0, 0, 1, REG, 1, 0, 0, 1]])


@pytest.mark.parametrize(
    ("reason", "changed"),
    [
        ("dtype is 'float16'", {"dtype": "float16"}),
        ("expected 6 lists", {"widths": [[1]]}),
        ("IN has the width 0", {"widths": [[4], [0], [4], [4], [4], [4]]}),
        (r"\(K, N\) = \(0, 4\)", {"nweights": [(0, 4)]}),
        ("replaces CARRY 2 of 2", {"commits": [(2, REG, 0, 0)]}),
        ("a second time", {"commits": [(0, REG, 0, 0), (0, IN, 0, 0)]}),
        ("outside the 4 elements of IN 0", {"commits": [(0, IN, 0, 1)]}),
        ("which this step has not written", {"commits": [(0, REG, 1, 0)]}),
        (r"CARRY 1.*constant", {"commits": [(1, CONST, 0, 0)]}),
        ("ends before its source", {"commits": [(0, REG)]}),
    ],
)
def test_an_unsound_frame_is_refused(reason, changed):
    with pytest.raises(ValueError, match=reason):
        build([FILL], **changed)


def test_gemm_must_have_its_weights_shape():
    with pytest.raises(ValueError, match=r"\(K, N\) = \(4, 3\), but weight 0 is \(4, 4\)"):
        build([[GEMM, 0, 3, 4, REG, 0, 0, 0, 0, 0, 0, IN, 0, 0]], nweights=[(4, 4)])
    with pytest.raises(ValueError, match="while it reads it"):
        build([FILL, [GEMM, 0, 4, 4, REG, 0, 0, 0, 0, 0, 0, REG, 0, 0]], nweights=[(4, 4)])
    with pytest.raises(ValueError, match="has_init is 2"):
        build([[GEMM, 0, 4, 4, REG, 0, 0, 2, 0, 0, 0, IN, 0, 0]], nweights=[(4, 4)])


numbers = st.one_of(
    st.integers(-2, 9), st.sampled_from([16, 51, 100, 1 << 31, 1 << 40, -(1 << 40), (1 << 63) - 1])
)


@settings(deadline=None, max_examples=3000, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.sampled_from(sorted(OPCODE.values())), st.lists(numbers, max_size=25), st.booleans())
def test_random_words_are_refused_or_run(op, words, extended):
    """Whatever passes the checks must run inside its memory (the sanitizers watch this test)."""
    code = [FILL, [COPY, 1, 8, REG, 1, 0, 0, 1, CONST, 0, 0, 0, 0], [op, *words]]
    if extended:
        code[-1] = [op, 1, 4, REG, 0, 0, 0, 1, *words]
    try:
        kernel = build(code, nweights=[(4, 4), (2, 3)])
    except ValueError:
        return
    given = small_memory()
    found = run(kernel, given)
    assert [a.shape for a in found.outs] == [a.shape for a in given.outs]
    for array in (*given.ins, *given.ctx, *given.vec, *given.weights):
        assert np.all(array == 1)  # only read


def small_memory():
    def ones(*shape):
        return np.ones(shape, np.float32)

    return Memory(
        3,
        2,
        [ones(6, 4)],
        [ones(2, 4)],
        [ones(4)],
        [ones(6, 4)],
        [ones(2, 4), ones(2, 4)],
        [ones(4, 4), ones(2, 3)],
    )


@pytest.fixture
def call():
    """Call run() of an LSTM with arguments replaced by name."""
    H, T, B = 4, 3, 2
    kernel = lstm.forward(H, keep=False).kernel()
    memory = [np.zeros((T * B, 4 * H), np.float32), np.zeros((T * B, H), np.float32)]
    memory += [np.zeros((B, H), np.float32) for _ in range(4)] + [np.zeros((H, 4 * H), np.float32)]
    x, out, h, c, reset_h, reset_c, weight = memory
    flags = np.zeros(T * B, np.uint8)
    arguments = {
        "T": T, "B": B, "offsets_ptr": 0, "reverse_time": False, "in_ptrs": [(address(x), 4 * H)], "ctx_ptrs": [],
        "vec_ptrs": [], "out_ptrs": [address(out)], "carry_ptrs": [address(h), address(c)],
        "weights": [(address(weight), 4 * H, 1)], "reset_ptr": address(flags), "reset_mode": 1,
        "reset_ptrs": [address(reset_h), address(reset_c)], "threads": 1,
    }  # fmt: skip

    def call(**changed):
        assert flags.size
        return kernel.run(**(arguments | changed)), memory

    call.arguments = arguments
    return call


def test_the_call_itself_is_sound(call):
    _, memory = call()
    out = memory[1]
    out.fill(np.nan)
    call()
    assert np.all(out == 0)  # sigmoid(0) tanh(0), at every step


def offsets(*values):
    array = (ctypes.c_int64 * len(values))(*values)
    return array, ctypes.addressof(array)


@pytest.mark.parametrize(
    ("reason", "changed"),
    [
        ("in_ptrs: expected 1 pointers, got 0", {"in_ptrs": []}),
        ("ctx_ptrs: expected 0 pointers, got 1", {"ctx_ptrs": [64]}),
        ("carry_ptrs: expected 2", {"carry_ptrs": []}),
        ("weights: expected 1", {"weights": []}),
        ("reset_ptrs: expected 2", {"reset_ptrs": []}),
        ("reset_ptr is null", {"reset_ptr": 0}),
        ("reset_mode is 3", {"reset_mode": 3}),
        ("T = -1", {"T": -1}),
        ("B = -2", {"B": -2}),
        ("threads = 0", {"threads": 0}),
        ("OUT 0 has a null pointer", {"out_ptrs": [0]}),
    ],
)
def test_arguments_that_do_not_fit_are_refused(call, reason, changed):
    with pytest.raises(ValueError, match=reason):
        call(**changed)


def test_memory_that_does_not_fit_is_refused(call):
    arguments = call.arguments
    x, stride = arguments["in_ptrs"][0]
    (out,), (h, c) = arguments["out_ptrs"], arguments["carry_ptrs"]
    with pytest.raises(ValueError, match="IN 0 has the stride 15, expected its width 16"):
        call(in_ptrs=[(x, 15)])
    with pytest.raises(ValueError, match="not aligned"):
        call(out_ptrs=[out + 2])
    with pytest.raises(ValueError, match="overlap in memory"):
        call(out_ptrs=[x + 4 * stride])
    with pytest.raises(ValueError, match="overlap in memory"):
        call(carry_ptrs=[h, h])
    with pytest.raises(ValueError, match="overlap in memory"):
        call(carry_ptrs=[h, h + 4])
    with pytest.raises(ValueError, match=r"(CARRY 1 and reset|reset 1 and CARRY) 1 overlap"):
        call(reset_ptrs=[arguments["reset_ptrs"][0], c])
    same = [arguments["reset_ptrs"][0]] * 2
    call(reset_ptrs=same)
    with pytest.raises(ValueError, match="overlap in memory"):
        call(reset_ptrs=same, reset_mode=2)


@pytest.mark.parametrize(
    ("reason", "values"),
    [
        ("step 1 has 2 rows, expected 0..1", (0, 1, 3, 4)),
        ("step 0 has 3 rows, expected 0..2", (0, 3, 3, 3)),
        ("step 2 has -1 rows", (0, 2, 4, 3)),
        (r"offsets\[0\] = -2", (-2, 0, 2, 4)),
    ],
)
def test_offsets_must_fall(call, reason, values):
    array, pointer = offsets(*values)
    with pytest.raises(ValueError, match=reason):
        call(offsets_ptr=pointer)
    assert array


def test_nothing_to_do_touches_nothing(call):
    """No step, no row, or no active row: pointers are not even looked at."""
    array, pointer = offsets(0, 0, 0, 0)
    for changed in ({"T": 0}, {"B": 0}, {"offsets_ptr": pointer}):
        call(out_ptrs=[0], **changed)
    assert array


def test_a_wrong_instruction_set_is_refused():
    with pytest.raises(
        ValueError, match=r"instruction set 'mmx' is not available here, expected one of: .*portable"
    ):
        _core.Kernel("float32", [[]] * 6, [], [], [], [], isa="mmx")


def test_the_largest_sizes_do_not_overflow():
    huge = 1 << 31
    asm = Assembly(widths=[[], [huge], [], [], [4], []])
    asm.apply("copy", Place(IN, 0, huge - 4, 4), to=Place(OUT, 0, 0, 4))
    asm.kernel()
    words = [PERMUTE, 5, *[huge] * 5, OUT, 0, 0, *[huge] * 5, IN, 0, 0, *[huge] * 5]
    with pytest.raises(ValueError, match="outside"):
        _core.Kernel("float32", asm.widths, [], [words], [], [])
