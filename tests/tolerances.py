"""The one table of tolerances: how near two computations of the same thing must be, per dtype."""

from typing import NamedTuple

import torch
from torch import Tensor


class Tolerance(NamedTuple):
    """Largest error allowed at an element: `absolute * scale + relative * |expected|`.

    scale = max(1, the largest |expected| of the tensor).
    """

    relative: float
    absolute: float


# Two orders of summation over some hundred terms and some dozen steps; a gradient passes twice as many products.
VALUES = {
    torch.float64: Tolerance(1e-10, 1e-11),
    torch.float32: Tolerance(2e-5, 4e-6),
    torch.bfloat16: Tolerance(4e-2, 2e-2),
    torch.float16: Tolerance(5e-3, 2e-3),
}
GRADIENTS = {
    torch.float64: Tolerance(1e-9, 1e-10),
    torch.float32: Tolerance(1e-4, 2e-5),
    torch.bfloat16: Tolerance(8e-2, 5e-2),
    torch.float16: Tolerance(2e-2, 1e-2),
}


def assert_near(
    actual: Tensor,
    expected: Tensor,
    *,
    gradient: bool = False,
    dtype: torch.dtype | None = None,
    what: str = "",
) -> None:
    """Assert equal shape and dtype, and equal values within the table's row for `dtype` (default: of `expected`).

    `dtype` names the precision of the computation where the result is stored wider (autocast). NaN equals NaN.
    """
    name = what or "tensors"
    assert actual.shape == expected.shape, f"{name}: shape {tuple(actual.shape)}, not {tuple(expected.shape)}"
    assert actual.dtype == expected.dtype, f"{name}: dtype {actual.dtype}, not {expected.dtype}"
    if expected.is_complex():
        actual, expected = (
            torch.view_as_real(actual.resolve_conj()),
            torch.view_as_real(expected.resolve_conj()),
        )
    table = GRADIENTS if gradient else VALUES
    if (dtype or expected.dtype) not in table:
        assert torch.equal(actual, expected), f"{name}: {expected.dtype} must be equal"
        return
    tolerance = table[dtype or expected.dtype]
    finite = expected.detach()[expected.detach().isfinite()]
    scale = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
    torch.testing.assert_close(
        actual.detach(),
        expected.detach(),
        rtol=tolerance.relative,
        atol=tolerance.absolute * scale,
        equal_nan=True,
        msg=lambda text: f"{name}: {text}",
    )
