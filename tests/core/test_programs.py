"""Random programs in every mode, on every instruction set, against the slow interpreter."""

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elman import _core
from tests.core import oracle
from tests.core.assembly import DTYPES, IN, ISAS, OUT, REG, Assembly, Memory, run
from tests.core.programs import assemblies, memory_for

# Programs may chain a dozen operations over six steps; in float64 the same programs agree to nine digits.
TOLERANCE = {"float32": 2e-3, "float64": 1e-9}
EXAMPLES = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(autouse=True)
def _registers_start_as_nan():
    _core.poison(True)
    yield
    _core.poison(False)


@contextmanager
def columns_shared():
    _core.share_columns(True)
    try:
        yield
    finally:
        _core.share_columns(False)


def modes():
    return st.fixed_dictionaries(
        {
            "T": st.integers(1, 5),
            "B": st.sampled_from([1, 2, 3, 4, 7, 13]),
            "dtype": st.sampled_from(DTYPES),
            "ragged": st.booleans(),
            "reset_mode": st.sampled_from([0, 0, 1, 2]),
            "seed": st.integers(0, 1000),
        }
    )


def assert_same_bits(a, b):
    for x, y in zip(a.results(), b.results(), strict=True):
        np.testing.assert_array_equal(x, y)


@settings(EXAMPLES, max_examples=150)
@given(assemblies(), modes(), st.booleans(), st.sampled_from(ISAS))
def test_random_program(assembly, mode, reverse, isa):
    memory = memory_for(assembly, **mode)
    kernel = assembly.kernel(mode["dtype"], isa)
    got = run(kernel, memory, reverse=reverse)
    want = oracle.run(assembly, memory, reverse=reverse)
    tolerance = TOLERANCE[mode["dtype"]]
    for x, y in zip(got.results(), want.results(), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)
    assert_same_bits(run(kernel, memory, reverse=reverse, threads=3), got)
    with columns_shared():
        assert_same_bits(run(kernel, memory, reverse=reverse, threads=3), got)


@settings(EXAMPLES, max_examples=60)
@given(assemblies(), modes(), st.sampled_from(ISAS))
def test_each_row_alone_has_the_same_bits(assembly, mode, isa):
    memory = memory_for(assembly, **{**mode, "ragged": False})
    kernel = assembly.kernel(mode["dtype"], isa)
    whole = run(kernel, memory)
    T, B = memory.T, memory.B
    for r in range(B):
        part = memory.copy()
        part.B = 1
        for name in ("ins", "outs"):
            setattr(part, name, [np.ascontiguousarray(array[r::B]) for array in getattr(memory, name)])
        for name in ("ctx", "carries", "resets"):
            setattr(part, name, [np.ascontiguousarray(array[r : r + 1]) for array in getattr(memory, name)])
        if part.reset_mode:
            part.reset_flags = np.ascontiguousarray(memory.reset_flags[r::B])
        alone = run(kernel, part)
        for x, y in zip(alone.outs, whole.outs, strict=True):
            np.testing.assert_array_equal(x, y[r::B])
        for x, y in zip(alone.carries, whole.carries, strict=True):
            np.testing.assert_array_equal(x[0], y[r])
    assert T


@settings(EXAMPLES, max_examples=60)
@given(assemblies(), modes(), st.sampled_from(ISAS), st.integers(1, 4))
def test_a_sequence_in_two_calls_has_the_same_bits(assembly, mode, isa, cut):
    memory = memory_for(assembly, **{**mode, "T": 5})
    kernel = assembly.kernel(mode["dtype"], isa)
    whole = run(kernel, memory)
    parts = memory.copy()
    for begin, end in ((0, cut), (cut, 5)):
        # Offsets need not start at 0: the second call reads on in the same buffers.
        offsets = memory.offsets if memory.offsets is not None else np.arange(6, dtype=np.int64) * memory.B
        parts.T, parts.offsets = end - begin, np.ascontiguousarray(offsets[begin : end + 1])
        parts = run(kernel, parts)
    assert_same_bits(parts, whole)


@pytest.mark.parametrize("isa", ISAS)
def test_registers_that_cross_stages_keep_out_of_each_others_rows(isa):
    """A narrow product, dead in the middle of a row stage in which a wider register is born for the next product: with
    more rows than one block, the wide rows of the first block must not lie on the narrow ones of the second."""
    asm = Assembly()
    source = asm.array(IN, 3)
    narrow = asm.gemm(asm.weight(3, 4), source)
    wide = asm.array(REG, 8)
    last = asm.apply("tanh", narrow)
    asm.apply("copy", last, to=wide[:4])
    asm.apply("sigmoid", last, to=wide[4:])
    asm.gemm(asm.weight(8, 5), wide, to=asm.array(OUT, 5))
    rng = np.random.default_rng(0)
    x, first, second = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in ((600, 3), (3, 4), (8, 5)))
    memory = Memory(1, 600, [x], outs=[np.zeros((600, 5), np.float32)], weights=[first, second])
    a = np.tanh(x @ first)
    want = np.concatenate([a, 1 / (1 + np.exp(-a))], axis=1) @ second
    np.testing.assert_allclose(run(asm.kernel("float32", isa), memory).outs[0], want, rtol=0, atol=2e-6)
