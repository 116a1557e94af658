"""Every elementwise operation: accuracy in ulps against mpmath-grade references, edges, and every way to read it."""

import numpy as np
import pytest
import torch

from tests.core import oracle
from tests.core.assembly import (
    CARRY,
    CONST,
    CTX,
    DTYPES,
    ELEMENTWISE,
    IN,
    ISAS,
    OUT,
    SOURCES,
    VEC,
    Assembly,
    Memory,
    run,
)

INF, NAN = np.inf, np.nan
# Exact in IEEE arithmetic (rounded once, or not at all).
EXACT = set(ELEMENTWISE) - {
    "exp", "log", "log1p", "expm1", "rsqrt", "tanh", "sigmoid", "sin", "cos", "erf", "softplus", "pow",
    "tanh_backward", "sigmoid_backward", "fma", "mul_sub", "sub_mul", "mul_mul", "mul_tanh_backward",
    "mul_sigmoid_backward",
}  # fmt: skip
ULPS = dict.fromkeys(
    ["exp", "log", "log1p", "expm1", "tanh", "sigmoid", "sin", "cos", "erf", "rsqrt", "pow"], 2.0
)
# Two functions in a row, each within its 2.
ULPS["softplus"] = 3.0


def apply(op, *sources, isa, dtype):
    """op over flat arrays, as one row."""
    n = len(sources[0])
    asm = Assembly()
    places = [asm.array(IN, n) for _ in sources]
    asm.apply(op, *places, to=asm.array(OUT, n))
    out = np.full((1, n), np.nan, dtype)
    memory = Memory(1, 1, [source.reshape(1, n).astype(dtype) for source in sources], outs=[out])
    return run(asm.kernel(dtype, isa), memory).outs[0][0]


def spread(dtype, low, high, n=200_000, seed=0):
    """Arguments of both signs whose exponents are spread evenly, and evenly spread ones."""
    rng = np.random.default_rng(seed)
    exponents = rng.uniform(np.log2(low), np.log2(high), n // 2)
    return np.concatenate(
        [2.0**exponents * rng.choice([-1, 1], n // 2), rng.uniform(-high, high, n // 2)]
    ).astype(dtype)


def ulps(got, want):
    """Distance in units of the last place of the result, per element; NaN must meet NaN, infinity infinity."""
    with np.errstate(over="ignore"):
        rounded = want.astype(got.dtype)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(got[~finite], rounded[~finite])
    below_largest = np.nextafter(np.finfo(got.dtype).max, got.dtype.type(0))
    unit = np.spacing(np.minimum(np.abs(rounded[finite]), below_largest)).astype(np.longdouble)
    return np.abs(got[finite].astype(np.longdouble) - want[finite]) / unit


def exactly(op, x):
    """The value in at least 64 bits of mantissa."""
    x = x.astype(np.longdouble)
    one = np.longdouble(1)
    with np.errstate(all="ignore"):
        if op == "sigmoid":
            e = np.exp(-np.abs(x))
            return np.where(x >= 0, one, e) / (one + e)
        if op == "softplus":
            return np.where(x > 20, x, np.log1p(np.exp(x)))
        if op == "rsqrt":
            return one / np.sqrt(x)
        if op == "erf":
            return torch.erf(torch.from_numpy(x.astype(float))).numpy().astype(np.longdouble)
        return getattr(np, op)(x)


DOMAINS = {
    "exp": (1e-8, 760), "log": (1e-300, 1e300), "log1p": (1e-20, 1e6), "expm1": (1e-20, 760), "rsqrt": (1e-30, 1e30),
    "tanh": (1e-20, 50), "sigmoid": (1e-8, 760), "sin": (1e-8, 1e4), "cos": (1e-8, 1e4), "erf": (1e-8, 7),
    "softplus": (1e-8, 100),
}  # fmt: skip


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", sorted(DOMAINS))
def test_accuracy(op, dtype, isa):
    low, high = DOMAINS[op]
    if dtype == "float32":
        low, high = max(low, 1e-38), min(high, 1e38)
        high = 110 if op in {"exp", "expm1", "sigmoid"} else high
    x = spread(dtype, low, high)
    if op in {"log", "rsqrt"}:
        x = np.concatenate([np.abs(x), np.float64(1) + spread(dtype, 1e-15, 0.5)]).astype(dtype)
    if op == "log1p":
        x = x[x > -1]
    got = apply(op, x, isa=isa, dtype=dtype)
    worst = ulps(got, exactly(op, x)).max()
    assert worst <= ULPS[op], f"{worst} ulp"


EDGES = np.array(
    [0.0, -0.0, 1, -1, 0.5, -0.5, 2, -2, 1.5, 2.5, -2.5, 3.7, -3.7, INF, -INF, NAN, 1e-45, -1e-45, 1e-40, -1e-40,
     3e38, -3e38, 88.7, 89, -87.5, -88, -103.9, -104, -110, 20, 20.5, -20, 1e-30, 8388609.0, 0.49999997, 710, -746]
)  # fmt: skip


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", [op for op in ELEMENTWISE if SOURCES[op] == 1])
def test_edges_of_one_argument(op, dtype, isa):
    x = np.concatenate(
        [EDGES, np.array([np.finfo(dtype).max, np.finfo(dtype).tiny, np.finfo(dtype).smallest_subnormal])]
    )
    with np.errstate(over="ignore", under="ignore"):
        x = x.astype(dtype)
    got = apply(op, x, isa=isa, dtype=dtype)
    if op in DOMAINS:
        return check_edges(op, got, x)
    with np.errstate(all="ignore"):
        want = oracle.MEANING[op](x.astype(dtype)).astype(dtype)
    np.testing.assert_array_equal(got, want)
    if op != "sign":
        np.testing.assert_array_equal(np.signbit(got)[~np.isnan(want)], np.signbit(want)[~np.isnan(want)])
    return None


def check_edges(op, got, x):
    want = exactly(op, x)
    assert (ulps(got, want) <= ULPS[op]).all()
    if op in {"tanh", "expm1", "log1p", "sin"}:
        zero = x == 0
        np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(x[zero]))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", [op for op in ELEMENTWISE if SOURCES[op] > 1])
def test_edges_of_several_arguments(op, dtype, isa):
    grids = np.meshgrid(*[EDGES if SOURCES[op] == 2 else EDGES[::3]] * SOURCES[op])
    sources = [grid.ravel().astype(dtype) for grid in grids]
    got = apply(op, *sources, isa=isa, dtype=dtype)
    with np.errstate(all="ignore"):
        want = oracle.MEANING[op](*sources).astype(dtype)
    if op in EXACT:
        np.testing.assert_array_equal(got, want)
    elif op == "pow":
        smallest = np.finfo(dtype).smallest_subnormal
        np.testing.assert_allclose(got, want, rtol=3 * np.finfo(dtype).eps, atol=2 * float(smallest))
    else:
        ordinary = np.isfinite(want) & np.isfinite(got) & (np.abs(want) > 1e-30)
        np.testing.assert_allclose(got[ordinary], want[ordinary], rtol=4 * np.finfo(dtype).eps)
        assert (np.isnan(got) == np.isnan(want)).mean() > 0.97  # a fused a*b + c overflows later


def test_the_oracle_knows_every_operation():
    assert {*oracle.MEANING, "gemm", "rowmm"} == set(oracle.OPCODE)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 3, 16, 37])
@pytest.mark.parametrize("op", ELEMENTWISE)
def test_every_kind_of_source(op, width, dtype, isa):
    """Vectors, slices, scalars a row, constants, one vector for all rows, strides: one value however it is read."""
    rng = np.random.default_rng(width)
    B, sources = 5, SOURCES[op]
    base = rng.uniform(0.1, 0.9, (sources, B, width)).astype(dtype)
    scalar = rng.uniform(0.1, 0.9, (B, 1)).astype(dtype)
    for chosen in range(sources + 1):  # which source is the odd one; `sources`: none
        for kind in ["ctx", "vec", "scalar", "const", "stride", "carry"]:
            asm, memory, values = Assembly(), Memory(1, B), []
            for j in range(sources):
                odd = kind if j == chosen else "in"
                values.append(add_source(asm, memory, odd, base[j], scalar))
            to = asm.array(OUT, width + 2)[1 : 1 + width]
            asm.strided(op, 1, width, (to, 0, 1), *[(place, 0, stride) for place, stride, _ in values])
            memory.outs = [np.zeros((B, width + 2), dtype)]
            got = run(asm.kernel(dtype, isa), memory).outs[0]
            want = apply(
                op, *(np.broadcast_to(v, (B, width)).ravel() for _, _, v in values), isa=isa, dtype=dtype
            )
            np.testing.assert_array_equal(got[:, 1 : 1 + width], want.reshape(B, width))
            assert (got[:, 0] == 0).all()
            assert (got[:, -1] == 0).all()


def add_source(asm, memory, kind, values, scalar):
    """Puts values (B, width) where `kind` says; returns the place, its stride and what should be read."""
    B, width = values.shape
    if kind == "in":
        memory.ins.append(values.copy())
        return asm.array(IN, width), 1, values
    if kind == "ctx":
        memory.ctx.append(values.copy())
        return asm.array(CTX, width), 1, values
    if kind == "vec":
        memory.vec.append(values[0].copy())
        return asm.array(VEC, width), 1, values[:1]
    if kind == "carry":
        memory.carries.append(values.copy())
        return asm.array(CARRY, width), 1, values
    if kind == "scalar":
        memory.ctx.append(scalar.copy())
        return asm.array(CTX, 1), 0, scalar
    if kind == "const":
        place = asm.const(float(scalar[0, 0]))
        assert place.space == CONST
        return place, 0, scalar[:1]
    spaced = np.zeros((B, 3 * width), values.dtype)
    spaced[:, ::3] = values
    memory.ins.append(spaced)
    return asm.array(IN, 3 * width), 3, values
