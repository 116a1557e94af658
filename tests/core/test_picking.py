"""Instructions that pick and place by indices, and that order, beside the oracle: lines anywhere, and places that are
none."""

from __future__ import annotations

import numpy as np
import pytest

from core import oracle
from core.assembly import DTYPES, IN, ISAS, OUT, Assembly, Memory, run

OPS = ("place_of_max", "place_of_min", "gather", "scatter", "scatter_add", "order", "top")


def assemble(op: str, outer: int, n: int, k: int) -> tuple[Assembly, int, int]:
    """IN 0: values (outer, n), IN 1: others (outer, k), IN 2: places (outer, k); the result goes to OUT 0."""
    a = Assembly()
    line, others, places = a.array(IN, outer * n), a.array(IN, outer * k), a.array(IN, outer * k)
    width = {"place_of_max": 1, "place_of_min": 1, "gather": k, "top": k}.get(op, n)
    to = a.array(OUT, outer * width)
    if op.startswith("place"):
        a.reduce(op, (outer, n, 1), to, (line, (n, 1, 0)))
    elif op == "gather":
        a.reduce(op, (outer, n, k), to, (line, (n, 1, 0)), (places, (k, 0, 1)))
    elif op == "order":
        a.reduce(op, (outer, 1, n), to, (line, (n, 0, 1)), (a.const(1.0), (0, 0, 0)))
    elif op == "top":
        a.reduce(
            op, (outer, n, k), to, (line, (n, 1, 0)), (a.const(1.0), (0, 0, 0)), (a.const(1.0), (0, 0, 0))
        )
    else:
        a.reduce(op, (outer, k, n), to, (line, (n, 0, 1)), (others, (k, 1, 0)), (places, (k, 1, 0)))
    return a, width, n


def memory(outer: int, n: int, k: int, width: int, dtype: str) -> Memory:
    rng = np.random.default_rng(n)
    T, B = 3, 2
    ins = [rng.standard_normal((T * B, outer * n)), rng.standard_normal((T * B, outer * k)),
           rng.integers(0, n, (T * B, outer * k))]  # fmt: skip
    return Memory(
        T, B, ins=[i.astype(dtype) for i in ins], outs=[np.full((T * B, outer * width), np.nan, dtype)]
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("outer", "n", "k"), [(1, 1, 1), (3, 5, 2), (2, 70, 1), (1, 9, 9)])
def test_as_the_oracle(op: str, outer: int, n: int, k: int, dtype: str, isa: str) -> None:
    assembly, width, _ = assemble(op, outer, n, k)
    given = memory(outer, n, k, width, dtype)
    want = oracle.run(assembly, given)
    got = run(assembly.kernel(dtype, isa), given)
    np.testing.assert_allclose(got.outs[0], want.outs[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", ["gather", "scatter", "scatter_add"])
@pytest.mark.parametrize("place", [-1.0, 5.0, 1e30, np.nan, np.inf])
def test_a_place_that_is_none(op: str, place: float) -> None:
    """It is read nowhere and written nowhere."""
    assembly, width, _ = assemble(op, 1, 5, 2)
    given = memory(1, 5, 2, width, "float32")
    given.ins[2][:] = place
    got = run(assembly.kernel("float32"), given)
    if op == "gather":
        assert np.isnan(got.outs[0]).all()
    else:
        np.testing.assert_array_equal(got.outs[0], given.ins[0])
