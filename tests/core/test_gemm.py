"""Products: values for every shape of tile, and bits that depend on nothing but the element's own inputs."""

import numpy as np
import pytest

from tests.core.assembly import CARRY, CTX, DTYPES, IN, ISAS, OUT, VEC, Assembly, Memory, run

TOLERANCE = {"float32": 2e-6, "float64": 1e-14}
# Less than a vector, panels in full and in part, pairs of panels and an odd one.
COLUMNS = [1, 3, 15, 16, 17, 31, 33, 64, 65, 100, 127, 128, 130, 192, 257, 320]


def product(rows, weight, *, init=None, dtype, isa, threads=1):
    """init + rows @ weight through the core; rows (B, K), weight (K, N), init (B, N), (N,) or None."""
    (B, K), N = rows.shape, weight.shape[1]
    asm, memory = Assembly(), Memory(1, B, [rows], weights=[weight])
    source = asm.array(IN, K)
    place = None
    if init is not None:
        place = asm.array(VEC if init.ndim == 1 else CTX, N)
        (memory.vec if init.ndim == 1 else memory.ctx).append(init)
    asm.gemm(asm.weight(K, N), source, init=place, to=asm.array(OUT, N))
    memory.outs = [np.full((B, N), np.nan, dtype)]
    return run(asm.kernel(dtype, isa), memory, threads=threads).outs[0]


def uniform(*shape, dtype, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape).astype(dtype)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("N", COLUMNS)
def test_every_shape_of_tile(N, dtype, isa):
    for B in (*range(1, 15), 31):
        for K in (1, 7, 64):
            rows, weight = uniform(B, K, dtype=dtype), uniform(K, N, dtype=dtype)
            for init in (None, uniform(N, dtype=dtype), uniform(B, N, dtype=dtype)):
                got = product(rows, weight, init=init, dtype=dtype, isa=isa)
                want = rows.astype(float) @ weight + (0 if init is None else init)
                np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE[dtype] * K**0.5)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("N", COLUMNS)
def test_bits_do_not_depend_on_rows_threads_or_layout(N, dtype, isa):
    rows, weight = uniform(29, 50, dtype=dtype), uniform(50, N, dtype=dtype)
    whole = product(rows, weight, dtype=dtype, isa=isa)
    for B in (1, 2, 3, 5, 8, 13):
        np.testing.assert_array_equal(product(rows[:B].copy(), weight, dtype=dtype, isa=isa), whole[:B])
    for threads in (2, 3):
        np.testing.assert_array_equal(product(rows, weight, dtype=dtype, isa=isa, threads=threads), whole)
    turned = np.ascontiguousarray(weight.T).T
    np.testing.assert_array_equal(product(rows, turned, dtype=dtype, isa=isa), whole)
    spaced = np.repeat(weight, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(product(rows, spaced, dtype=dtype, isa=isa), whole)
    backwards = weight[::-1, ::-1].copy()[::-1, ::-1]
    np.testing.assert_array_equal(product(rows, backwards, dtype=dtype, isa=isa), whole)
    # A column alone, where it has another place in the vector and in the panel.
    column = N // 2
    alone = product(rows, np.ascontiguousarray(weight[:, column:]), dtype=dtype, isa=isa)
    np.testing.assert_array_equal(alone, whole[:, column:])


@pytest.mark.parametrize("isa", ISAS)
def test_the_sum_is_one_chain_over_k(isa):
    """init, then k upwards: 1e8 - 1e8 + 1 keeps the 1, any other order of these loses or finds it elsewhere."""
    weight = np.ones((4, 40), np.float32)
    rows = np.array([[1e8, -1e8, 1, 1]], np.float32)
    np.testing.assert_array_equal(product(rows, weight, dtype="float32", isa=isa), 2)
    rows = np.array([[1, 1e8, -1e8, 1]], np.float32)
    np.testing.assert_array_equal(product(rows, weight, dtype="float32", isa=isa), 1)
    init = np.full(40, -1e8, np.float32)
    rows = np.array([[1, 1, 1e8, 0]], np.float32)
    np.testing.assert_array_equal(product(rows, weight, init=init, dtype="float32", isa=isa), 0)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_several_weights_packed_by_several_threads(isa, threads):
    """More than a hundred thousand elements are packed in parallel; accumulating into the first product's row."""
    B, K, N = 7, 300, 500
    rows, first, second = (uniform(*shape, dtype="float64") for shape in ((B, K), (K, N), (N, K)))
    asm = Assembly()
    h, out = asm.array(CARRY, K), asm.array(OUT, K)
    middle = asm.gemm(asm.weight(K, N), h)
    back = asm.weight(N, K)
    asm.gemm(back, middle, init=h, to=out)
    asm.gemm(back, middle, init=out, to=out)
    memory = Memory(
        1,
        B,
        carries=[rows],
        outs=[np.full((B, K), np.nan)],
        weights=[first / K, second.T.copy().T / N],
    )
    got = run(asm.kernel("float64", isa), memory, threads=threads).outs[0]
    want = rows + 2 * (rows @ (first / K)) @ (second / N)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-14)


@pytest.mark.parametrize("isa", ISAS)
def test_infinity_and_nan_go_where_they_belong(isa):
    """0 times infinity is NaN in that column only: padding of the last panel must not spread."""
    weight = uniform(5, 70, dtype="float32")
    weight[2, 3], weight[1, 69] = np.inf, np.nan
    rows = uniform(3, 5, dtype="float32")
    rows[1, 2] = 0
    with np.errstate(invalid="ignore"):
        want = rows.astype(float) @ weight.astype(float)
    np.testing.assert_allclose(product(rows, weight, dtype="float32", isa=isa), want, rtol=1e-5)
