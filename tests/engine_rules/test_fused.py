"""What becomes one instruction of the core together, and what must not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.engine import Scan

H = 6


def code_of(scan: Scan) -> str:
    """The core's code of the loop."""
    (plan,) = [p for e in scan._entries for p in e.plans.values()]
    return str(plan.loops.forward_kernel((), ()).kernel)


def scaled(d: Tensor) -> Tensor:
    return d * torch.rsqrt((d * d).mean(-1, keepdim=True) + 1e-5)


STEPS: dict[str, tuple[Callable[[Tensor], Tensor], list[str], list[str]]] = {
    "a mean": (lambda a: a - a.mean(-1, keepdim=True), ["reduce_mean"], ["div"]),
    "a sum / n": (lambda a: a - a.sum(-1, keepdim=True) / 4, ["reduce_mean"], ["div"]),
    "a mean of squares": (lambda a: a * (a * a).mean(-1, keepdim=True), ["dot_mean"], ["div"]),
    "a norm": (
        lambda a: F.layer_norm(a, (H,)),
        ["reduce_mean", "deviation_rstd", "sub_scaled"],
        ["div", "rsqrt", "dot_rstd"],
    ),
    "a norm of parts": (
        lambda a: F.layer_norm(a.unflatten(1, (2, H // 2)), (H // 2,)).flatten(1),
        ["reduce_mean", "deviation_rstd", "sub_scaled"],
        ["div", "rsqrt", "dot_rstd"],
    ),
    "a norm that shows its differences": (
        lambda a: scaled(a - a.mean(-1, keepdim=True)) + (a - a.mean(-1, keepdim=True)),
        ["reduce_mean", "dot_rstd", "sub"],
        ["deviation_rstd", "sub_scaled"],
    ),
    "a norm about something else": (
        lambda a: scaled(a - a.sin()),
        ["dot_rstd", "sub"],
        ["deviation_rstd", "sub_scaled"],
    ),
    "rms norm": (lambda a: F.rms_norm(a, (H,), eps=1e-5), ["dot_rstd"], ["rsqrt"]),
    "a sum with two uses": (
        lambda a: a - a.sum(-1, keepdim=True) / 4 * torch.tanh(a.sum(-1, keepdim=True)),
        ["reduce_sum", "div"],
        ["reduce_mean"],
    ),
    "a sum / a value": (
        lambda a: a - a.sum(-1, keepdim=True) / (a[:, :1] ** 2 + 1),
        ["reduce_sum", "div"],
        ["reduce_mean"],
    ),
    "a number / a sum": (
        lambda a: a * (2 / (1 + (a * a).sum(-1, keepdim=True))),
        ["reduce_dot"],
        ["dot_mean", "reduce_mean"],
    ),
    "a mean of a part of the row": (
        lambda a: a - a.unflatten(1, (2, H // 2)).mean(1).repeat(1, 2),
        ["reduce_mean"],
        ["div"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_sums_that_end_in_a_number(name: str) -> None:
    body, present, absent = STEPS[name]
    torch.manual_seed(1)
    linear = nn.Linear(H, H).double()

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(body(x + linear(h)))
        return h, h

    def results(backend: str) -> tuple[list[Any], Scan]:
        scan = Scan(step, backend=backend)
        y = scan(x, h).y
        return [y, *torch.autograd.grad(y.cos().sum(), [x, h, *linear.parameters()])], scan

    x = torch.randn(4, 3, H, dtype=torch.float64, requires_grad=True)
    h = torch.randn(3, H, dtype=torch.float64, requires_grad=True)
    found, scan = results("native")
    words = code_of(scan).split()
    assert [w for w in present if w not in words] == []
    assert [w for w in absent if w in words] == []
    for a, b in zip(found, results("loop")[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


BACKWARD: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "a norm": (lambda a: F.layer_norm(a, (H,)), True),
    "a norm with a gain": (lambda a: F.layer_norm(a, (H,), torch.arange(1.0, H + 1, dtype=a.dtype)), True),
    "a norm of parts": (lambda a: F.layer_norm(a.unflatten(1, (2, H // 2)), (H // 2,)).flatten(1), True),
    "two norms with one mean of what comes back": (
        lambda a: F.layer_norm(a, (H,)) + F.layer_norm(a.sin(), (H,)),
        False,
    ),
    "a norm without its mean": (lambda a: F.rms_norm(a, (H,), eps=1e-5), False),
}


@pytest.mark.parametrize("name", BACKWARD)
def test_what_a_norm_hands_back(name: str) -> None:
    body, fused = BACKWARD[name]
    torch.manual_seed(2)
    linear = nn.Linear(H, H).double()

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(body(x + linear(h)))
        return h, h

    x = torch.randn(4, 3, H, dtype=torch.float64, requires_grad=True)
    h = torch.randn(3, H, dtype=torch.float64, requires_grad=True)
    found = []
    for backend in ("native", "loop"):
        scan = Scan(step, backend=backend)
        found.append(torch.autograd.grad(scan(x, h).y.cos().sum(), [x, h, *linear.parameters()]))
        if backend == "native":
            (plan,) = [p for e in scan._entries for p in e.plans.values()]
            kernel, _ = plan.loops.backward_kernel()
            assert kernel is not None
            assert ("norm_backward" in str(kernel.kernel).split()) == fused
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
