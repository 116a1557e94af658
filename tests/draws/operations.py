"""One generator for each operation of the op table: `(draw, a) -> tensor`, with `a` of rows `(B, n)` or a parameter
`(1, n)`. The other operands are drawn: of any shape that broadcasts, of any origin, often of degenerate values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

aten = torch.ops.aten


class Draw(Protocol):
    """Where a generator gets what it does not compute."""

    def pick(self, *options: Any) -> Any:
        """One of the options."""
        ...

    def other(self, a: Tensor) -> Tensor:
        """A tensor that broadcasts to the shape of `a`: parameter, buffer, column or rows."""
        ...

    def vector(self, *shape: int) -> Tensor:
        """A parameter or buffer of this shape."""
        ...

    def number(self) -> float:
        """A plain number, often 0 or 1."""
        ...


Generator = Callable[[Draw, Tensor], Tensor]


def positive(a: Tensor) -> Tensor:
    """Values at least 0.5."""
    return a.abs() + 0.5


def inside(a: Tensor) -> Tensor:
    """Values within -0.9 .. 0.9."""
    return 0.9 * torch.tanh(a)


def _unary(name: str, before: Callable[[Tensor], Tensor] | None = None) -> Generator:
    f = getattr(aten, name).default
    return lambda d, a: f(a if before is None else before(a))


def _binary(f: Callable[..., Tensor], after: Callable[[Tensor], Tensor] | None = None) -> Generator:
    """f of the two, in either order; after: what the second one must be made of."""

    def generate(d: Draw, a: Tensor) -> Tensor:
        b = d.other(a)
        if after is not None:
            return f(a, after(b)) if d.pick(True, True, False) else f(b, after(a))
        return f(a, b) if d.pick(True, False) else f(b, a)

    return generate


def _compare(name: str) -> dict[str, Generator]:
    tensor, scalar = getattr(getattr(aten, name), "Tensor"), getattr(getattr(aten, name), "Scalar")  # noqa: B009
    return {
        f"{name}.Tensor": lambda d, a: torch.where(tensor(a, d.other(a)), a, 0.5 * a),
        f"{name}.Scalar": lambda d, a: torch.where(scalar(a, d.number()), a, d.other(a)),
    }


def _along(f: Callable[..., Any]) -> Generator:
    """A function of (tensor, dimension) along the features."""
    return lambda d, a: f(a, d.pick(1, -1))


def _matrices(a: Tensor) -> Tensor:
    """(rows, n) -> (rows, n, n)."""
    return a.unsqueeze(2) * torch.tanh(a).unsqueeze(1)


def _cut(a: Tensor, d: Draw) -> tuple[int, int]:
    n = a.shape[1]
    start = d.pick(0, n // 2, max(n - 1, 0), -1) % n
    return start, d.pick(n, start + 1, max(start + 1, n - 1))


def _clamp(d: Draw, a: Tensor) -> Tensor:
    low, high = d.pick((-0.5, 0.7), (None, 0.1), (0.0, None), (0.3, 0.3))
    return aten.clamp.default(a, low, high)


def _clamp_tensor(d: Draw, a: Tensor) -> Tensor:
    low, high = d.other(a), d.other(a)
    return torch.clamp(a, *d.pick((low, None), (None, high), (low, torch.maximum(low, high))))


def _reduced(f: Callable[[Tensor, Any, bool], Tensor]) -> Generator:
    """A reduction over the features or over both sizes of a matrix, its size of 1 kept or not."""

    def generate(d: Draw, a: Tensor) -> Tensor:
        keep = d.pick(True, False)
        if d.pick(True, False):
            return f(_matrices(a), d.pick([1], [2], [1, 2], [-1]), keep)
        return f(a, d.pick([1], [-1]), keep)

    return generate


def _one_reduced(f: Callable[[Tensor, int, bool], Tensor]) -> Generator:
    return lambda d, a: f(a, d.pick(1, -1), d.pick(True, False))


def _scatter(d: Draw, a: Tensor) -> tuple[Tensor, Tensor]:
    """Places of each row by its own order, and what goes there."""
    return a.detach().argsort(1), d.other(a).expand_as(a)


def _mm(d: Draw, a: Tensor) -> Tensor:
    return a @ d.vector(a.shape[1], d.pick(1, 2, 3, a.shape[1]))


def _triangle(f: Callable[[Tensor, int], Tensor]) -> Generator:
    def generate(d: Draw, a: Tensor) -> Tensor:
        if d.pick(True, False):
            return f(_matrices(a), d.pick(0, 1, -1))
        return a @ f(d.vector(a.shape[1], a.shape[1]), d.pick(0, 1, -1))

    return generate


def _bmm(d: Draw, a: Tensor) -> Tensor:
    left, right = d.pick(
        (a.unsqueeze(1), a.unsqueeze(2)), (a.unsqueeze(2), a.unsqueeze(1)), (_matrices(a),) * 2
    )
    return torch.bmm(left, right)


def _convolve(d: Draw, a: Tensor) -> Tensor:
    weight = d.vector(d.pick(1, 2), 1, d.pick(1, min(3, a.shape[1])))
    source = d.pick(a, a, a.detach()).unsqueeze(1)
    return F.conv1d(source, weight, d.pick(None, d.vector(weight.shape[0])), padding=d.pick(0, 1))


def _embedding(d: Draw, a: Tensor) -> Tensor:
    index = (a.detach().abs() * 2).to(torch.int64).clamp(max=3)
    table = d.vector(4, d.pick(1, 3))
    options: tuple[dict[str, Any], ...] = ({}, {}, {"padding_idx": 0}, {"scale_grad_by_freq": True})
    return F.embedding(index, table, **d.pick(*options))


def _written(d: Draw, a: Tensor) -> Tensor:
    start, stop = _cut(a, d)
    return aten.slice_scatter.default(a, d.other(a).expand_as(a)[:, start:stop], 1, start, stop)


def _column_written(d: Draw, a: Tensor) -> Tensor:
    k = d.pick(0, -1, a.shape[1] // 2)
    return aten.select_scatter.default(a, d.other(a).expand_as(a)[:, k], 1, k)


def _indices(d: Draw, a: Tensor) -> Tensor:
    n = a.shape[1]
    return torch.tensor(d.pick([0], [n - 1, 0], [0, 0, n // 2]), device=a.device)


ARITHMETIC: dict[str, Generator] = {
    "add.Tensor": _binary(torch.add),
    "add.Scalar": lambda d, a: aten.add.Scalar(a, d.number()),
    "sub.Tensor": _binary(torch.sub),
    "sub.Scalar": lambda d, a: aten.sub.Scalar(a, d.number(), d.pick(1, 2)),
    "mul.Tensor": _binary(torch.mul),
    "mul.Scalar": lambda d, a: aten.mul.Scalar(a, d.number()),
    "div.Tensor": _binary(torch.div, positive),
    "div.Scalar": lambda d, a: aten.div.Scalar(a, d.pick(0.5, -2.0, 3)),
    "neg.default": _unary("neg"),
    "abs.default": _unary("abs"),
    "sign.default": lambda d, a: a * aten.sign.default(d.other(a)),
    "sgn.default": lambda d, a: a + aten.sgn.default(a * d.other(a)),
    "maximum.default": _binary(torch.maximum),
    "minimum.default": _binary(torch.minimum),
    "clamp_min.default": lambda d, a: aten.clamp_min.default(a, d.number()),
    "clamp_max.default": lambda d, a: aten.clamp_max.default(a, d.number()),
    "clamp_min.Tensor": lambda d, a: aten.clamp_min.Tensor(a, d.other(a)),
    "clamp_max.Tensor": lambda d, a: aten.clamp_max.Tensor(a, d.other(a)),
    "relu.default": _unary("relu"),
    "floor.default": lambda d, a: a - aten.floor.default(a * 2) * d.other(a),
    "ceil.default": lambda d, a: a - aten.ceil.default(a * 2) * d.other(a),
    "round.default": lambda d, a: a - aten.round.default(a * 2) * d.other(a),
    "trunc.default": lambda d, a: a - aten.trunc.default(a * 2) * d.other(a),
    "frac.default": lambda d, a: torch.frac(a + d.other(a)),
    "remainder.Scalar": lambda d, a: torch.remainder(a, d.pick(0.7, -0.3, 2)),
    "remainder.Tensor": _binary(torch.remainder, positive),
    "fmod.Scalar": lambda d, a: torch.fmod(a, d.pick(0.7, -0.3, 2)),
    "fmod.Tensor": _binary(torch.fmod, positive),
    "hypot.default": _binary(torch.hypot, positive),
    "atan2.default": _binary(torch.atan2, positive),
    "copysign.Tensor": _binary(torch.copysign, positive),
    "logaddexp.default": _binary(torch.logaddexp),
    "floor_divide.default": lambda d, a: a + torch.floor_divide(a.detach(), positive(d.other(a)).detach()),
    "div.Tensor_mode": lambda d, a: a + torch.div(a, positive(d.other(a)), rounding_mode=d.pick("floor", "trunc")),
    "div.Scalar_mode": lambda d, a: a + aten.div.Scalar_mode(a, 0.7, rounding_mode=d.pick("floor", "trunc")),
    "clamp.default": _clamp,
    "clamp.Tensor": _clamp_tensor,
    "elman.convert": lambda d, a: a * d.pick(a > 0, (a * 2).to(torch.int64), a.to(torch.float32)).to(a.dtype),
    "pow.Tensor_Scalar": lambda d, a: torch.pow(positive(a), d.pick(0.5, 3, -1.5, 2, 1, 0)),
    "pow.Tensor_Tensor": lambda d, a: torch.pow(positive(a), d.other(a)),
    "pow.Scalar": lambda d, a: torch.pow(d.pick(2.0, 0.5, 1), d.other(a) * a),
}  # fmt: skip

FUNCTIONS: dict[str, Generator] = {
    **{f"{name}.default": _unary(name) for name in (
        "exp", "expm1", "tanh", "sigmoid", "sin", "cos", "erf", "atan", "sinh", "cosh", "asinh", "exp2", "erfc",
        "i0")},
    **{f"{name}.default": _unary(name, positive) for name in (
        "log", "log1p", "sqrt", "rsqrt", "reciprocal", "log2", "log10", "lgamma", "digamma")},
    **{f"{name}.default": _unary(name, inside) for name in ("tan", "asin", "acos", "atanh", "erfinv")},
    "special_i1.default": _unary("i0"),
    "polygamma.default": _unary("digamma", positive),
    "acosh.default": lambda d, a: torch.acosh(positive(a) + 0.7),
    "tanh_backward.default": lambda d, a: d.other(a) * torch.tanh(a + d.other(a)),
    "sigmoid_backward.default": lambda d, a: d.other(a) * torch.sigmoid(a + d.other(a)),
    "threshold_backward.default": lambda d, a: F.threshold(a + d.other(a), d.pick(0.0, 0.2), d.pick(0.0, -1.0)),
}  # fmt: skip

CHOICES: dict[str, Generator] = {
    **{key: f for name in ("lt", "le", "gt", "ge", "eq", "ne") for key, f in _compare(name).items()},
    "logical_and.default": lambda d, a: a * torch.logical_and(a > 0, d.other(a) < 0.5),
    "logical_or.default": lambda d, a: a * torch.logical_or(a > 0, d.other(a) < 0.5),
    "logical_xor.default": lambda d, a: a * torch.logical_xor(a, d.other(a)),
    "logical_not.default": lambda d, a: a * torch.logical_not(d.pick(d.other(a), a > 0)),
    "bitwise_not.default": lambda d, a: a * ~(a > d.other(a)),
    "bitwise_and.Tensor": lambda d, a: a * ((a * 4).to(torch.int64) & (d.other(a) * 3).to(torch.int64)),
    "bitwise_or.Tensor": lambda d, a: a * ((a * 4).to(torch.int64) | (d.other(a) * 3).to(torch.int64)),
    "bitwise_xor.Tensor": lambda d, a: a * ((a * 4).to(torch.int64) ^ (d.other(a) * 3).to(torch.int64)),
    "bitwise_and.Scalar": lambda d, a: a * aten.bitwise_and.Scalar((a * 4).to(torch.int64), d.pick(1, 2)),
    "bitwise_left_shift.Tensor": lambda d, a: a * (
        torch.bitwise_left_shift((a.abs() * 4).to(torch.int64), d.other(a).detach().abs().clamp(max=3).long())),
    "isnan.default": lambda d, a: a * ~torch.isnan(a / d.other(a)),
    "isinf.default": lambda d, a: torch.where(torch.isinf(a.detach() / d.other(a).detach()), a * 2, a),
    "isfinite.default": lambda d, a: torch.where(torch.isfinite(a.detach() / d.other(a).detach()), a, a * 2),
    "where.self": lambda d, a: torch.where(a > 0.1, d.pick(a, d.other(a), d.number()), d.other(a)),
    "masked_fill.Scalar": lambda d, a: a.masked_fill(d.other(a) > 0.1, d.number()),
    "masked_fill.Tensor": lambda d, a: a.masked_fill(a > 0.1, d.vector()),
}  # fmt: skip

SHAPES: dict[str, Generator] = {
    "elman.view": lambda d, a: a.reshape(-1, 1, a.shape[1]).squeeze(1).unsqueeze(d.pick(1, 2)),
    "permute.default": lambda d, a: _matrices(a).permute(0, 2, 1) * d.other(_matrices(a)),
    "expand.default": lambda d, a: d.pick(a, d.other(a)).unsqueeze(-1).expand(*a.shape, d.pick(1, 3)),
    "slice.Tensor": lambda d, a: a[:, slice(*_cut(a, d), d.pick(1, 2))],
    "select.int": lambda d, a: a[:, d.pick(0, -1)],
    "cat.default": lambda d, a: torch.cat([a, d.other(a).expand_as(a), a[:, :1]], d.pick(1, -1)),
    "slice_backward.default": lambda d, a: a[:, slice(*_cut(a, d))] * a[:, :1],
    "select_backward.default": lambda d, a: _matrices(a)[:, d.pick(0, -1)] * d.other(a),
    "slice_scatter.default": _written,
    "select_scatter.default": _column_written,
    "constant_pad_nd.default": lambda d, a: F.pad(a, d.pick((1, 0), (0, 2), (-1, 2), (1, 1)), value=d.number()),
    "repeat.default": lambda d, a: d.pick(a.repeat(1, 2), d.vector(a.shape[1]).repeat(2)[: a.shape[1]] * a),
    "flip.default": lambda d, a: d.pick(a.flip(1), _matrices(a).flip(1, 2), _matrices(a).flip(2)),
    "tril.default": _triangle(torch.tril),
    "triu.default": _triangle(torch.triu),
    "diagonal.default": lambda d, a: torch.cat([_matrices(a).diagonal(d.pick(0, 0, 1, -1), 1, 2), a], 1),
    "diagonal_backward.default": lambda d, a: a * d.vector(a.shape[1], a.shape[1]).diagonal(),
    "unfold.default": lambda d, a: a.unfold(1, d.pick(1, a.shape[1]), 1),
}  # fmt: skip

PRODUCTS: dict[str, Generator] = {
    "mm.default": _mm,
    "bmm.default": _bmm,
    "mv.default": lambda d, a: torch.mv(a, d.vector(a.shape[1])),
    "dot.default": lambda d, a: a * torch.dot(d.vector(a.shape[1]), d.vector(a.shape[1])),
    "convolution.default": _convolve,
    "convolution_backward.default": _convolve,
    "_weight_norm_interface.default": lambda d, a: a @ torch._weight_norm(
        torch.cos(d.vector(3, a.shape[1])) + 0.1, d.vector(3, 1), 0).t(),
    "_weight_norm_interface_backward.default": lambda d, a: a @ torch._weight_norm(
        torch.cos(d.vector(a.shape[1], 2)) + 0.1, d.vector(1, 2), 1),
}  # fmt: skip

REDUCTIONS: dict[str, Generator] = {
    "sum.dim_IntList": _reduced(torch.sum),
    "sum.default": lambda d, a: a * d.vector(a.shape[1]).sum(),
    "amax.default": _reduced(torch.amax),
    "amin.default": _reduced(torch.amin),
    "prod.dim_int": _one_reduced(lambda a, dim, keep: torch.prod(1 + 0.3 * a, dim, keep)),
    "any.dim": lambda d, a: a * torch.any(a > d.other(a), 1, keepdim=True),
    "any.dims": lambda d, a: a * torch.any(_matrices(a) > 0.3, (1, 2)).unsqueeze(1),
    "all.dim": lambda d, a: a * torch.all(a > d.other(a), 1, keepdim=True),
    "linalg_vector_norm.default": lambda d, a: torch.linalg.vector_norm(
        positive(a), d.pick(2, 1, 3, math.inf), 1, d.pick(True, False)),
    "logsumexp.default": _one_reduced(torch.logsumexp),
    "argmax.default": lambda d, a: a * torch.argmax(a + d.other(a), 1, d.pick(True, False)).view(-1, 1),
    "argmin.default": lambda d, a: a * torch.argmin(a + d.other(a), 1, d.pick(True, False)).view(-1, 1),
    "max.dim": lambda d, a: torch.max(a + d.other(a), 1, d.pick(True, False)).values,
    "min.dim": lambda d, a: torch.min(a + d.other(a), 1, d.pick(True, False)).values,
    "cumsum.default": _along(torch.cumsum),
    "cumprod.default": lambda d, a: torch.cumprod(positive(a) * d.other(a), 1),
    "sort.default": lambda d, a: torch.sort(a + d.other(a), d.pick(1, -1), d.pick(True, False)).values,
    "sort.stable": lambda d, a: torch.sort(a + d.other(a), dim=1, stable=True).values * a,
    "topk.default": lambda d, a: torch.topk(a + d.other(a), d.pick(1, a.shape[1]), 1).values,
}  # fmt: skip

PLACES: dict[str, Generator] = {
    "gather.default": lambda d, a: (d.other(a) * a).gather(1, a.detach().argsort(1)),
    "scatter.src": lambda d, a: torch.scatter(a, 1, *_scatter(d, a)),
    "scatter.value": lambda d, a: torch.scatter(a, 1, a.detach().argmax(1, keepdim=True), d.number()),
    "scatter_add.default": lambda d, a: torch.scatter_add(a, 1, *_scatter(d, a)),
    "index_select.default": lambda d, a: d.pick(a, d.other(a).expand_as(a)).index_select(1, _indices(d, a)),
    "index_add.default": lambda d, a: a.index_add(
        1, torch.arange(a.shape[1]).flip(0), d.other(a).expand_as(a), alpha=d.pick(1, 0.5)),
    "index.Tensor": lambda d, a: d.pick(a, d.other(a).expand_as(a))[:, _indices(d, a)],
    "embedding.default": _embedding,
    "embedding_dense_backward.default": _embedding,
}  # fmt: skip

VALUES: dict[str, Generator] = {
    "full.default": lambda d, a: a + torch.full_like(a, d.number()) * d.other(a),
    "elman.constant": lambda d, a: a * torch.tensor([d.number()] * a.shape[1]).to(a.dtype),
    "arange.default": lambda d, a: a * aten.arange.default(a.shape[1], dtype=a.dtype),
    "arange.start": lambda d, a: a * aten.arange.start(1, 1 + a.shape[1], dtype=a.dtype),
    "arange.start_step": lambda d, a: a * aten.arange.start_step(0, 2 * a.shape[1], 2, dtype=a.dtype),
    "linspace.default": lambda d, a: a + aten.linspace.default(0, d.number(), a.shape[1], dtype=a.dtype),
    "eye.default": lambda d, a: a @ aten.eye.default(a.shape[1], dtype=a.dtype),
    "eye.m": lambda d, a: a @ aten.eye.m(a.shape[1], d.pick(1, 3), dtype=a.dtype),
}

RANDOM: dict[str, Generator] = {
    "rand.default": lambda d, a: a * torch.rand(a.shape, dtype=a.dtype),
    "randn.default": lambda d, a: a + d.other(a) * torch.randn(a.shape, dtype=a.dtype),
    "rand_like.default": lambda d, a: a * torch.rand_like(a),
    "randn_like.default": lambda d, a: a + d.other(a) * torch.randn_like(a),
    "bernoulli.default": lambda d, a: a * torch.bernoulli(torch.sigmoid(a)),
    "bernoulli.p": lambda d, a: F.dropout(a, 0.4),
    "uniform.default": lambda d, a: a * torch.empty_like(a).uniform_(-1, d.pick(0.5, 1)),
    "normal_functional.default": lambda d, a: (
        a * torch.empty_like(a).normal_(d.pick(0.0, 0.5), d.pick(1.0, 0.5))
    ),
    "exponential.default": lambda d, a: a * torch.empty_like(a).exponential_(d.pick(1.0, 2.0)),
}

GENERATORS: dict[str, Generator] = {
    **ARITHMETIC, **FUNCTIONS, **CHOICES, **SHAPES, **PRODUCTS, **REDUCTIONS, **PLACES, **VALUES, **RANDOM,
}  # fmt: skip
