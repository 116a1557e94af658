"""Quotients, lengths and exponentials of pairs: torch's values and gradients at 0, infinity and the ends of the range
too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["Exponential", "Length", "Quotient", "Two", "exponential", "length_of", "quotient"]

Two = tuple[Tensor, Tensor]


def quotient(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Two:
    """(a + ib) / (c + id), by the larger part of the divisor, whose square may be no float (Smith 1962)."""
    turned = c.abs() < d.abs()
    large, small = torch.where(turned, d, c), torch.where(turned, c, d)
    none = torch.logical_and(c == 0, d == 0)
    ratio = torch.where(
        none, torch.zeros_like(large), small / torch.where(none, torch.ones_like(large), large)
    )
    scale = 1 / torch.where(none, large.abs(), large + small * ratio)
    re = torch.where(turned, a * ratio + b, a + b * ratio)
    im = torch.where(turned, b * ratio - a, b - a * ratio)
    return re * scale, im * scale


class Quotient(torch.autograd.Function):
    """z / w; gradients g / conj(w) and -g conj((z / w) / w)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Two:
        """The parts of z, then those of w."""
        re, im = quotient(a, b, c, d)
        ctx.save_for_backward(re, im, c, d)
        return re, im

    @staticmethod
    def backward(ctx: Any, g: Tensor, h: Tensor) -> Any:
        """For each part."""
        re, im, c, d = ctx.saved_tensors
        again, once_more = quotient(re, im, c, d)
        return (*quotient(g, h, c, -d), -(g * again + h * once_more), -(h * again - g * once_more))


def length_of(re: Tensor, im: Tensor) -> Tensor:
    """By the larger part, whose square may be no float; infinite where one part is."""
    a, b = re.abs(), im.abs()
    large, small = torch.maximum(a, b), torch.minimum(a, b)
    none = large == 0
    ratio = small / torch.where(none, torch.ones_like(large), large)
    length = torch.where(none, large, large * (1 + ratio * ratio).sqrt())
    endless = torch.logical_or(a == torch.inf, b == torch.inf)
    return torch.where(endless, torch.full_like(length, torch.inf), length)


class Length(torch.autograd.Function):
    """|z|, whose gradient g z / |z| is 0 at 0."""

    @staticmethod
    def forward(ctx: Any, re: Tensor, im: Tensor) -> Tensor:
        """Of each pair."""
        length = length_of(re, im)
        ctx.save_for_backward(re, im, length)
        return length

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        """For each part."""
        re, im, length = ctx.saved_tensors
        none = length == 0
        whole, zero = torch.where(none, torch.ones_like(length), length), torch.zeros_like(length)
        return g * torch.where(none, zero, re / whole), g * torch.where(none, zero, im / whole)


def exponential(re: Tensor, im: Tensor) -> Two:
    """0 at minus infinity whatever the angle; real where z is."""
    size = re.exp()
    none, endless = re == -torch.inf, torch.logical_and(re == torch.inf, (im - im) != 0)
    x = torch.where(none, size, torch.where(endless, size, size * im.cos()))
    return x, torch.where(none, size, torch.where(im == 0, im, size * im.sin()))


class Exponential(torch.autograd.Function):
    """exp z, with the gradient g conj(exp z)."""

    @staticmethod
    def forward(ctx: Any, re: Tensor, im: Tensor) -> Two:
        """The parts of exp z."""
        x, y = exponential(re, im)
        ctx.save_for_backward(x, y)
        return x, y

    @staticmethod
    def backward(ctx: Any, g: Tensor, h: Tensor) -> Any:
        """For each part."""
        x, y = ctx.saved_tensors
        return g * x + h * y, h * x - g * y
