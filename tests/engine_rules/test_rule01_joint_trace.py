"""Rule 1, one joint trace of the user's own step: the backward is the one that the user wrote."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from battery.cells_simple import H
from battery.probes import Net, Probe, Probes, assert_probe

probe = Probes()


class SignThrough(torch.autograd.Function):
    """Sign forward, identity backward within [-1, 1]; the classic form with ctx."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        ctx.save_for_backward(a)
        return torch.sign(a)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (a,) = ctx.saved_tensors
        return grad * (a.abs() <= 1).to(grad.dtype)


class RoundThrough(torch.autograd.Function):
    """Rounding with an identity backward; the form with setup_context."""

    @staticmethod
    def forward(a: Tensor, scale: float) -> Tensor:
        return torch.round(a * scale) / scale

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        del ctx, inputs, output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return 1.5 * grad, None


class ClipGradient(torch.autograd.Function):
    """Identity forward; the gradient is clipped: not linear in the gradient."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        return a.view_as(a)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.clamp(-0.05, 0.05)


class TwoIn(torch.autograd.Function):
    """A gate with two inputs and an unused second output; gradients that are no derivative of it."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(a, b)
        return a * torch.sigmoid(b), b + 1

    @staticmethod
    def backward(ctx: Any, ga: Tensor, gb: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        return ga * 0.5 * torch.sigmoid(b), ga * a + 3 * gb


@probe()
def function_classic(self: Net, x: Tensor, h: Tensor) -> Any:
    h = SignThrough.apply(self.w(x) + self.u(h))
    return h, h


@probe()
def function_with_setup_context(self: Net, x: Tensor, h: Tensor) -> Any:
    h = RoundThrough.apply(torch.tanh(self.w(x) + self.u(h)), 8.0)
    return h, h


@probe()
def function_with_two_results(self: Net, x: Tensor, h: Tensor) -> Any:
    a, b = TwoIn.apply(self.w(x), self.u(h))
    return b, torch.tanh(a)


@probe()
def function_in_the_input_part(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(SignThrough.apply(x)) + self.u(h))
    return h, h


@probe()
def function_in_the_output_part(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return SignThrough.apply(self.v(h)), h


@probe()
def straight_through_by_detach(self: Net, x: Tensor, h: Tensor) -> Any:
    a = self.w(x) + self.u(h)
    h = a + (torch.sign(a) - a).detach()
    return h, h


@probe()
def binarised_weights_by_detach(self: Net, x: Tensor, h: Tensor) -> Any:
    U = self.u.weight
    binary = (torch.sign(U) - U).detach() + U
    h = torch.tanh(self.w(x) + F.linear(h, binary))
    return h, h


@probe("any")
def binarised_weights_by_function(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(
        F.linear(x, SignThrough.apply(self.w.weight)) + F.linear(h, SignThrough.apply(self.u.weight))
    )
    return h, h


@probe()
def no_grad_block(self: Net, x: Tensor, h: Tensor) -> Any:
    a = self.w(x) + self.u(h)
    with torch.no_grad():
        scale = 1 / (1 + a.abs().amax(-1, keepdim=True))
    h = torch.tanh(a * scale)
    return h, h


@probe()
def no_grad_on_the_whole_recurrence(self: Net, x: Tensor, h: Tensor) -> Any:
    with torch.no_grad():
        h = torch.tanh(self.w(x) + self.u(h))
    return self.v(h), h


@probe()
def enable_grad_inside_no_grad(self: Net, x: Tensor, h: Tensor) -> Any:
    with torch.no_grad():
        a = self.w(x)
        with torch.enable_grad():
            b = self.u(h)
    h = torch.tanh(a + b)
    return h, h


@probe()
def detached_state(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h.detach()))
    return h, h


@probe()
def detached_output(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return h.detach() * 2, h


@probe()
def detached_weight(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + F.linear(h, self.u.weight.detach(), self.u.bias))
    return F.linear(h, self.u.weight), h


@probe("any")
def weight_through_data(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + F.linear(h, self.u.weight.data, self.u.bias))
    return h, h


@probe("any")
def state_through_data(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h.data))
    return h, h


@probe()
def clipped_gradient_of_the_state(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(ClipGradient.apply(h)))
    return h, h


@probe("any")
def clipped_gradient_of_the_input(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(ClipGradient.apply(x)) + self.u(h))
    return h, h


@probe("any")
def clipped_gradient_of_a_weight(self: Net, x: Tensor, h: Tensor) -> Any:
    """The loop clips the gradient of each step; clipping the sum is another thing."""
    h = torch.tanh(self.w(x) + F.linear(h, ClipGradient.apply(self.u.weight)))
    return h, h


@probe("any")
def clipped_gradient_of_a_bias_of_the_input(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(F.linear(x, self.w.weight, ClipGradient.apply(self.w.bias)) + self.u(h))
    return h, h


@probe("any", context=lambda B: torch.randn(B, H))
def clipped_gradient_of_the_context(self: Net, x: Tensor, h: Tensor, context: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h) + ClipGradient.apply(context))
    return h, h


@probe("any")
def clipped_gradient_of_the_output(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return self.v(ClipGradient.apply(h)), h


@probe("any")
def hook_on_the_state(self: Net, x: Tensor, h: Tensor) -> Any:
    a = self.w(x) + self.u(h)
    if a.requires_grad:
        a.register_hook(lambda grad: grad.clamp(-0.05, 0.05))
    h = torch.tanh(a)
    return h, h


@probe("any")
def hook_that_scales(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    if h.requires_grad:
        h.register_hook(lambda grad: 0.5 * grad)
    return h, h


@probe("any")
def checkpointed(self: Net, x: Tensor, h: Tensor) -> Any:
    h = checkpoint(lambda a, b: torch.tanh(self.w(a) + self.u(b)), x, h, use_reentrant=False)
    return h, h


@probe("any")
def energy_with_a_gradient_inside(self: Net, x: Tensor, h: Tensor) -> Any:
    """h moves down the gradient of an energy that autograd takes inside the step."""
    with torch.enable_grad():
        at = h if h.requires_grad else h.detach().requires_grad_()
        energy = F.softplus(self.w(x) + self.u(at)).sum()
        (slope,) = torch.autograd.grad(energy, at, create_graph=True)
    h = h - 0.3 * slope
    return h, h


@probe("any")
def functional_gradient_inside(self: Net, x: Tensor, h: Tensor) -> Any:
    slope = torch.func.grad(lambda s: F.softplus(self.w(x) + self.u(s)).sum())(h)
    h = torch.tanh(h - 0.3 * slope)
    return h, h


@probe("any")
def vmapped_row(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.func.vmap(lambda a, b: torch.tanh(self.w(a) + self.u(b)))(x, h)
    return h, h


@probe()
def view_changed_in_place(self: Net, x: Tensor, h: Tensor) -> Any:
    a = self.w(x) + self.u(h)
    a[:, :3] = torch.sigmoid(a[:, :3])
    a[:, 3:].mul_(0.5).tanh_()
    return a * 2, a


@probe()
def copy_of_the_state_changed_in_place(self: Net, x: Tensor, h: Tensor) -> Any:
    part = torch.tanh(self.u(h)[:, :3])
    h = h.clone()
    h += self.w(x)
    h.narrow(1, 2, 3).copy_(part)
    return h, h.tanh()


@probe()
def filled_buffer(self: Net, x: Tensor, h: Tensor) -> Any:
    out = x.new_zeros(x.size(0), H)
    out[:, 0] = x[:, 0]
    out[:, 1:] += self.u(h)[:, 1:]
    h = torch.tanh(out + self.w(x))
    return out, h


@probe()
def masked_in_place(self: Net, x: Tensor, h: Tensor) -> Any:
    a = self.w(x) + self.u(h)
    a = torch.tanh(a)
    a = a.masked_fill(a < -0.5, 0.25)
    a[a > 0.7] = 0.7
    return a, a


@probe.all
def test_probe(probe: Probe) -> None:
    assert_probe(probe)


@pytest.mark.slow
@probe.all
def test_probe_on_the_reference(probe: Probe) -> None:
    assert_probe(probe, "reference")
