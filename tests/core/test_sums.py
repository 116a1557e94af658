"""Sums over rows: values for every shape, bits that depend neither on the threads nor on the columns beside."""

import numpy as np
import pytest

from elman import _core
from tests.core.assembly import DTYPES, ISAS

# The bound on rounding for sums of R numbers within 1: blocks of 256 rows, then the blocks.
TOLERANCE = {"float32": 6e-8, "float64": 1e-16}


def uniform(*shape, dtype, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape).astype(dtype)


def sums(a, *, factors=(), products=(), dtype, isa, threads=1):
    """One job through the core; factors are arrays (R, N) or None, products arrays (R, M)."""
    (R, N), size = a.shape, a.itemsize
    columns = [np.full(N, np.nan, dtype) for _ in factors]
    outs = [np.full((N, b.shape[1]), np.nan, dtype) for b in products]
    place = [(0, 0) if f is None else (f.ctypes.data, f.strides[0] // size) for f in factors]
    job = (
        N, a.ctypes.data, a.strides[0] // size,
        [(*p, c.ctypes.data) for p, c in zip(place, columns, strict=True)],
        [(b.ctypes.data, b.strides[0] // size, b.shape[1], o.ctypes.data)
         for b, o in zip(products, outs, strict=True)],
    )  # fmt: skip
    _core.sum_rows(dtype, R, [job], threads, isa=isa)
    return columns, outs


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("R", [1, 5, 255, 256, 257, 700])
def test_values(R, dtype, isa):
    for N, widths in [
        (1, [1]),
        (7, [3, 64]),
        (13, [65]),
        (200, [130]),
        (33, [16, 64, 1]),
        (70, []),
        (20, [300, 350]),
    ]:
        a = uniform(R, N + 3, dtype=dtype)[:, 1 : N + 1]  # rows further apart than they are wide
        factor = uniform(R, N, dtype=dtype, seed=1)
        others = [uniform(R, M + 2, dtype=dtype, seed=2)[:, :M] for M in widths]
        (plain, weighted), products = sums(a, factors=[None, factor], products=others, dtype=dtype, isa=isa)
        bound = {"rtol": 0, "atol": TOLERANCE[dtype] * 40 * R**0.5}
        np.testing.assert_allclose(plain, a.astype(float).sum(0), **bound)
        np.testing.assert_allclose(weighted, (a.astype(float) * factor).sum(0), **bound)
        for b, got in zip(others, products, strict=True):
            np.testing.assert_allclose(got, a.astype(float).T @ b.astype(float), **bound)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_depend_neither_on_threads_nor_on_the_columns_beside(dtype, isa):
    a, b = uniform(600, 251, dtype=dtype), uniform(600, 97, dtype=dtype, seed=1)
    (column,), (whole,) = sums(a, factors=[None], products=[b], dtype=dtype, isa=isa)
    for threads in (2, 3, 7):
        again = sums(a, factors=[None], products=[b], dtype=dtype, isa=isa, threads=threads)
        np.testing.assert_array_equal(again[0][0], column)
        np.testing.assert_array_equal(again[1][0], whole)
    part = sums(a[:, 100:140], factors=[None], products=[b[:, 60:]], dtype=dtype, isa=isa)
    np.testing.assert_array_equal(part[0][0], column[100:140])
    np.testing.assert_array_equal(part[1][0], whole[100:140, 60:])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beside", [[], [400, 400]], ids=["few products", "many products"])
def test_bits_do_not_depend_on_what_is_packed(dtype, isa, beside):
    """Rows far apart are packed, and so are columns of `a` that many products read."""
    a, beside = uniform(300, 41, dtype=dtype), [uniform(300, M, dtype=dtype, seed=2) for M in beside]
    for M in (16, 37, 64, 100):
        b = uniform(300, M, dtype=dtype, seed=1)
        far = np.zeros((300, 2000), dtype)
        far[:, :M] = b
        near_by = sums(a, products=[b], dtype=dtype, isa=isa)[1][0]
        for given in (b, far[:, :M]):
            np.testing.assert_array_equal(
                sums(a, products=[given, *beside], dtype=dtype, isa=isa)[1][0], near_by
            )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_jobs_that_share_their_factors(isa, threads):
    """Packed once for all of them; the same bits as one by one: parts of `a`, another b between, a job of columns."""
    a, b = uniform(300, 90, dtype="float32"), [uniform(300, M, dtype="float32", seed=M) for M in (20, 5)]
    parts = [(0, 31), (31, 40), (40, 90)]
    given, outs = [], []
    for k, (low, high) in enumerate([*parts, *parts]):
        bs = b[::-1] if k == 3 else b
        some = [np.full((high - low, m.shape[1]), np.nan, "float32") for m in bs]
        total = np.full(high - low, np.nan, "float32")
        products = [] if k == 4 else [(m.ctypes.data, m.shape[1], m.shape[1], o.ctypes.data)
                                      for m, o in zip(bs, some, strict=True)]  # fmt: skip
        given.append((high - low, a.ctypes.data + 4 * low, 90, [(0, 0, total.ctypes.data)], products))
        outs.append((low, high, bs, some if products else [], total))
    _core.sum_rows("float32", 300, given, threads, isa=isa)
    for low, high, bs, some, total in outs:
        (column,), products = sums(a[:, low:high], factors=[None], products=bs, dtype="float32", isa=isa)
        np.testing.assert_array_equal(total, column)
        for got, one in zip(some, products, strict=False):
            np.testing.assert_array_equal(got, one)


@pytest.mark.parametrize("isa", ISAS)
def test_many_rows_lose_little(isa):
    """A million equal numbers: one running sum in float32 would be off by a percent."""
    a = np.full((1_000_000, 3), 0.1, np.float32)
    (total,), _ = sums(a, factors=[None], dtype="float32", isa=isa)
    np.testing.assert_allclose(total, 1e6 * float(np.float32(0.1)), rtol=1e-4)


def job(a=8, a_stride=4, columns=(), products=(), N=4):
    return [(N, a, a_stride, list(columns), list(products))]


@pytest.mark.parametrize(
    ("rows", "jobs", "threads", "message"),
    [
        (0, job(), 1, "rows = 0"),
        (3, job(), 0, "threads = 0"),
        (3, job(N=0), 1, "a has 0 columns"),
        (3, job(a=0), 1, "a has no address"),
        (3, job(a=6), 1, "a has no address, or one between two elements"),
        (3, job(a_stride=3), 1, "a has the stride 3, expected its width 4"),
        (3, job(columns=[(0, 0, 0)]), 1, "out has no address"),
        (3, job(columns=[(8, 2, 8)]), 1, "factor has the stride 2"),
        (3, job(products=[(8, 4, 0, 8)]), 1, "b has 0 columns"),
        (3, job(products=[(8, 4, 5, 8)]), 1, "b has the stride 4"),
        (3, job(products=[(8, 4, 4, 0)]), 1, "out has no address"),
    ],
)
def test_errors_come_before_any_work(rows, jobs, threads, message):
    with pytest.raises(ValueError, match=message):
        _core.sum_rows("float32", rows, jobs, threads)
