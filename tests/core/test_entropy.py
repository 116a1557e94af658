"""Cross entropy of rows and its gradient: values on every instruction set, bits that depend neither on the threads nor
on the rows beside, and what does not fit."""

import numpy as np
import pytest

from elman import _core
from tests.core.assembly import DTYPES, ISAS

TOLERANCE = {"float32": 3e-6, "float64": 1e-14}


def drawn(R, K, dtype, *, gap=0, seed=0):
    """z (R, K) with rows `gap` further apart than they are wide, bias, weight, target."""
    draw = np.random.default_rng([seed, R, K])
    z = (draw.standard_normal((R, K + gap)) * 4).astype(dtype)[:, :K]
    return z, draw.standard_normal(K).astype(dtype), draw.random(K).astype(dtype), draw.integers(0, K, R)


def address(array):
    return 0 if array is None else array.ctypes.data


def entropy(z, bias, weight, target, *, isa="", even=True, keeps=True, threads=1):
    """(nll, even, factor)."""
    (R, K), dtype = z.shape, z.dtype
    nll, sums = np.full((2, R), np.nan, dtype)
    factor = np.full((R, -(-K // _core.ENTROPY_CHUNK)), np.nan, dtype)
    _core.entropy(
        dtype.name, R, K, address(z), z.strides[0] // z.itemsize, address(bias), address(weight), address(target),
        address(factor), address(nll), address(sums) if even else 0, keeps, threads, isa=isa,
    )  # fmt: skip
    return nll, sums, factor


def gradient(z, weight, target, factor, scale, right, even, total, *, isa="", adds=False, threads=1):
    R, K = z.shape
    _core.entropy_gradient(
        z.dtype.name, R, K, address(z), z.strides[0] // z.itemsize, address(weight), address(target), address(factor),
        address(scale), address(right), address(even), address(total), adds, threads, isa=isa,
    )  # fmt: skip


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("K", [1, 2, 15, 16, 17, 63, 64, 130, 1023, 1024, 1025, 3000])
def test_values(K, dtype, isa):
    R = 5
    for number in range(8):
        has_bias, has_weight, has_even = number & 1, number & 2, number & 4
        z, bias, weight, target = drawn(R, K, dtype, gap=3, seed=number)
        bias, weight = bias if has_bias else None, weight if has_weight else None
        l = z.astype(float) + (0 if bias is None else bias.astype(float))
        w = np.ones(K) if weight is None else weight.astype(float)
        log_p = l - l.max(1, keepdims=True)
        log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
        before, rows = z.copy(), np.arange(R)
        close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
        for keeps in (False, True):
            nll, even, factor = entropy(z, bias, weight, target, isa=isa, even=has_even, keeps=keeps)
            np.testing.assert_allclose(nll, -log_p[rows, target], **close)
            if has_even:
                np.testing.assert_allclose(even, -(w * log_p).sum(1), **close)
            if not keeps:
                np.testing.assert_array_equal(z, before)
        by = np.repeat(factor, _core.ENTROPY_CHUNK, axis=1)[:, :K]
        np.testing.assert_allclose(z * by, np.exp(log_p), **close)
        scale, right, off = (np.random.default_rng(number + i).random(R).astype(dtype) for i in range(3))
        total = np.full(K, 2, dtype)
        gradient(
            z,
            weight,
            target,
            factor,
            scale,
            right,
            off if has_even else None,
            total,
            isa=isa,
            adds=bool(number & 1),
        )
        expected = scale[:, None] * np.exp(log_p) - (off[:, None] * w if has_even else 0)
        expected[rows, target] -= right
        np.testing.assert_allclose(z, expected, **close)
        np.testing.assert_allclose(total, expected.sum(0) + (2 if number & 1 else 0), **close)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_depend_neither_on_threads_nor_on_the_rows_beside(dtype, isa):
    z, bias, weight, target = drawn(60, 2500, dtype)
    found, totals = [], []
    for rows, threads in ((60, 1), (60, 3), (7, 1)):
        own = z[:rows].copy()
        some = entropy(own, bias, weight, target[:rows].copy(), isa=isa, threads=threads)
        ones = np.ones(rows, dtype)
        total = np.empty(2500, dtype)
        gradient(own, weight, target, some[2], ones, ones, ones, total, isa=isa, threads=threads)
        found.append((*(a[:7] for a in some), own[:7]))
        totals.append(total)
    np.testing.assert_array_equal(totals[0], totals[1])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_what_does_not_fit_is_refused_before_any_work():
    z, bias, _, target = drawn(4, 6, "float32")
    before = z.copy()
    for wrong in (-1, 6, 2**40):
        with pytest.raises(ValueError, match=f"target 2 is {wrong}, expected 0 to 5"):
            entropy(z, bias, None, np.array([0, 1, wrong, 2]))
    for change, message in (
        ({"rows": 0}, "rows = 0"),
        ({"classes": 0}, "classes = 0"),
        ({"stride": 5}, "z has the stride 5, expected its width 6"),
        ({"z": 0}, "z has no address"),
        ({"bias": 1}, "bias has no address, or one between two elements"),
        ({"threads": 0}, "threads = 0"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"isa": "mmx"}, "'mmx' is not available"),
    ):
        out = np.empty(4, "float32")
        given = {
            "dtype": "float32", "rows": 4, "classes": 6, "z": address(z), "stride": 6, "bias": 0, "weight": 0,
            "target": address(target), "factor": address(out), "nll": address(out), "even": 0, "keeps": True,
            "threads": 1,
        }  # fmt: skip
        with pytest.raises(ValueError, match=message):
            _core.entropy(**{**given, **change})
    ones = np.ones(4, "float32")
    with pytest.raises(ValueError, match="right has no address"):
        gradient(z, None, target, ones, ones, None, None, None)
    np.testing.assert_array_equal(z, before)
