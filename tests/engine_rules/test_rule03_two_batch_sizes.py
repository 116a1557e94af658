"""Rule 3, traced at two own batch sizes: the number of rows must not get into the arithmetic unseen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from battery.cells_simple import H, I
from battery.probes import Net, Probe, Probes, assert_probe
from battery.registry import Case
from battery.running import Run, assert_matches
from elman.engine import Scan

probe = Probes()


@probe("loop", op="")
def batch_size_as_a_factor(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return h * x.size(0), h  # <-


@probe("loop", op="")
def batch_size_as_a_divisor_in_the_loop(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h) / x.shape[0])  # <-
    return h, h


@probe("loop", op="")
def batch_size_under_a_root(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x / math.sqrt(len(x))) + self.u(h))  # <-
    return h, h


@probe("loop", op="")
def batch_size_in_a_tensor(self: Net, x: Tensor, h: Tensor) -> Any:
    n = torch.tensor(float(x.shape[0]), dtype=x.dtype)  # <-
    h = torch.tanh(self.w(x) / n + self.u(h))
    return h, h


@probe("loop", op="")
def number_of_elements(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return h / h.numel(), h  # <-


@probe("loop", op="arange|iota")
def row_numbers(self: Net, x: Tensor, h: Tensor) -> Any:
    number = torch.arange(x.size(0), dtype=x.dtype).unsqueeze(1)  # <-
    h = torch.tanh(self.w(x) + self.u(h) * torch.cos(number))
    return h, h


@probe("loop", op="arange|iota|eye|one_hot|scatter")
def one_hot_of_the_row(self: Net, x: Tensor, h: Tensor) -> Any:
    marks = torch.eye(x.size(0), H, dtype=x.dtype)  # <-
    h = torch.tanh(self.w(x) + self.u(h) + marks)
    return h, h


@probe("loop", op="linspace|arange|iota")
def ramp_over_the_batch(self: Net, x: Tensor, h: Tensor) -> Any:
    ramp = torch.linspace(0, 1, x.size(0), dtype=x.dtype)[:, None]  # <-
    h = torch.tanh(self.w(x) + self.u(h)) * ramp
    return h, h


@probe("loop", op="")
def more_for_a_single_row(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    if x.shape[0] == 1:  # <-
        h = 2 * h
    return h, h


@probe("loop", op="")
def other_for_a_large_batch(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return (self.v(h) if x.size(0) > 64 else h * 1), h  # <-


@probe("loop", op="")
def other_for_an_odd_batch(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return (self.v(h) if len(h) % 2 else h * 1), h


@probe("loop", op="")
def other_when_batch_is_width(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return (self.v(h) if h.shape[0] == h.shape[1] else h * 1), h  # <-


@probe("loop", op="")
def batch_size_bounds_a_slice(self: Net, x: Tensor, h: Tensor) -> Any:
    """At most as many features as there are rows."""
    h = torch.tanh(self.w(x) + self.u(h))
    keep = min(x.size(0), H)  # <-
    return F.pad(h[:, :keep], (0, H - keep)), h


@probe("loop", op="")
def as_many_steps_as_rows(self: Net, x: Tensor, h: Tensor) -> Any:
    a = self.w(x)
    for _ in range(min(len(x), 4)):
        h = torch.tanh(a + self.u(h))
    return h, h


@probe()
def ones_of_the_batch_size(self: Net, x: Tensor, h: Tensor) -> Any:
    ones = torch.ones(x.size(0), 1, dtype=x.dtype)
    h = torch.tanh(self.w(x) + self.u(h) * ones + torch.full((x.shape[0], H), 0.25, dtype=x.dtype))
    return h, h


@probe()
def zeros_made_new(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.cat([x.new_zeros(x.size(0), 2), torch.tanh(self.w(x) + self.u(h))[:, 2:]], 1)
    return torch.zeros_like(h) + h, h


@probe()
def views_by_batch_size(self: Net, x: Tensor, h: Tensor) -> Any:
    B, width = h.shape
    a = (self.w(x) + self.u(h)).view(B, 1, width).expand(B, 2, width).reshape(B, 2 * width)
    h = torch.tanh(a[:, :width] + a[:, width:])
    return h, h


@probe()
def expanded_parameter(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h) * self.p.unsqueeze(0).expand(x.size(0), -1))
    return self.p.expand(x.size(0), H) + h, h


@probe()
def repeated_parameter(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + torch.cat([self.p[:2].repeat(x.size(0), 1), self.u(h)[:, 2:]], -1))
    return h, h


@probe("any")
def asserted_batch_size(self: Net, x: Tensor, h: Tensor) -> Any:
    assert x.shape[0] == h.shape[0], "rows differ"
    assert x.dim() == 2
    h = torch.tanh(self.w(x) + self.u(h))
    return h, h


@probe("any")
def mean_by_hand_over_features(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return h.sum(1, keepdim=True) / (h.numel() / h.size(0)), h


@probe.all
def test_probe(probe: Probe) -> None:
    assert_probe(probe)


@pytest.mark.slow
@probe.all
def test_probe_on_the_reference(probe: Probe) -> None:
    assert_probe(probe, "reference")


@pytest.mark.parametrize("rows", [2, 3, 5, H, 11, 13, 17, 31])
def test_batch_size_equal_to_a_width_or_to_the_trace(rows: int) -> None:
    """The first call comes with a batch size that the engine might trace at, or with that of a feature axis."""
    found = next(p for p in probe if p.name == "views_by_batch_size")
    one = Probe(
        *[getattr(found, f) for f in ("name", "body", "path", "op", "setup", "x", "state", "context")],
        ((3, rows, ()),),
    )
    assert_probe(one)


# True for sixteen rows alone: what a trace at other sizes does not see.
SIXTEEN: dict[str, Callable[[Tensor, Tensor], bool]] = {
    "shape_item": lambda x, h: x.shape[0] == 16,
    "size": lambda x, h: h.size(0) == 16,
    "size_by_name": lambda x, h: h.size(dim=0) == 16,
    "len": lambda x, h: len(x) == 16,
    "unpacked": lambda x, h: _first(*x.shape) == 16,
    "whole_shape": lambda x, h: x.shape == (16, I),
    "whole_size": lambda x, h: h.size() == torch.Size([16, H]),
    "leading_part": lambda x, h: h.shape[:1] == (16,),
    "last_but_one": lambda x, h: h.shape[-2] == 16,
    "as_tuple": lambda x, h: tuple(h.shape) == (16, H),
    "as_list": lambda x, h: list(x.shape) == [16, I],
    "in_a_set": lambda x, h: x.shape[0] in {16, 48},
    "between": lambda x, h: 15 < x.size(0) < 17,
    "number_of_elements": lambda x, h: h.numel() == 16 * H,
    "nelement": lambda x, h: x.nelement() == 16 * I,
    "shape_numel": lambda x, h: x.shape.numel() == 16 * I,
    "remainder": lambda x, h: x.size(0) % 16 == 0,
    "quotient": lambda x, h: x.size(0) // 16 == 1,
    "bits": lambda x, h: x.size(0) & 16 == 16,
    "as_int": lambda x, h: int(x.size(0)) == 16,
    "as_float": lambda x, h: float(len(h)) == 16.0,
    "as_text": lambda x, h: str(x.size(0)) == "16",
    "root": lambda x, h: math.sqrt(x.shape[0]) == 4.0,
    "table": lambda x, h: {16: True}.get(x.shape[0], False),
    "of_a_view": lambda x, h: h.t().shape[1] == 16,
    "of_a_product": lambda x, h: (x @ x.t()).shape[0] == 16,
    "list_of_rows": lambda x, h: len(list(h)) == 16,
    "unbound_rows": lambda x, h: len(h.unbind(0)) == 16,
    "chunks_of_rows": lambda x, h: len(h.split(4)) == 4,
    "arange": lambda x, h: torch.arange(x.size(0)).numel() == 16,
    "new_tensor": lambda x, h: x.new_zeros(x.size(0)).shape[0] == 16,
    "stride": lambda x, h: h.t().contiguous().stride(0) == 16,
    "bytes": lambda x, h: h.nbytes == 16 * H * 8,
    "pattern": lambda x, h: _matches_sixteen(h.shape),
}


def _first(B: int, width: int) -> int:
    return B


def _matches_sixteen(shape: torch.Size) -> bool:
    match tuple(shape):
        case (16, _):
            return True
    return False


@pytest.mark.parametrize("name", SIXTEEN)
def test_branch_on_sixteen_rows(name: str) -> None:
    """Whatever way a step looks at the number of rows, its branch at a size that was never traced is taken."""

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + self.u(h))
        return (h * 2 if SIXTEEN[name](x, h) else h * 1), h

    rows = ((2, 5, ()), (2, 16, ()), (2, 17, ()))
    case = Case(name, lambda: Net(body, None), lambda T, B: torch.randn(T, B, I), lambda B: torch.randn(B, H))
    cell, twin = case.cell(), case.cell()
    run = Run(Scan(cell))
    for steps, B, names in rows:
        assert_matches(run, cell, twin, case.inputs(steps, B), names)
