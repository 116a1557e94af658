"""The discrete Fourier transform of an axis, as the product with its matrix."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch

from elman.engine.errors import NotSupported
from elman.engine.tracing.complexes.arithmetic import matmul
from elman.engine.tracing.complexes.pair import RULES, Pair, joined, paired, parts

__all__ = ["fourier"]


def fourier(z: Any, n: int | None = None, dim: int = -1, norm: str | None = None, *, kind: str) -> Any:
    """The discrete Fourier transform of an axis, as the product with its matrix."""
    inverse = kind.startswith("i")
    given = paired(z)
    whole = given.re.shape[dim]
    if "r" in kind and inverse:
        length = n if n is not None else 2 * (whole - 1)
        if whole != length // 2 + 1:
            raise NotSupported(
                "irfft of other than n // 2 + 1 numbers", op="fft_irfft", hint="cut or pad first"
            )
        given = _both_halves(given, length, dim)
    elif n is not None and n != whole:
        raise NotSupported("a Fourier transform of another length", op=f"fft_{kind}", hint="cut or pad first")
    length = given.re.shape[dim]
    scale = {"ortho": length**-0.5, "forward": 1.0 if inverse else 1 / length}.get(
        norm or "backward", 1 / length if inverse else 1.0
    )
    rows = range(length // 2 + 1 if kind == "rfft" else length)
    turn = (1 if inverse else -1) * 2 * math.pi / length
    angles = [[turn * (j * k % length) for k in rows] for j in range(length)]
    dtype = given.re.dtype
    cos = torch.tensor([[scale * math.cos(a) for a in row] for row in angles], dtype=dtype)
    sin = torch.tensor([[scale * math.sin(a) for a in row] for row in angles], dtype=dtype)
    re, im = parts(z) if "r" not in kind or not inverse else (given.re, given.im)
    moved = joined(re.movedim(dim, -1), None if im is None else im.movedim(dim, -1))
    out = matmul(moved, Pair(cos, sin))
    out = Pair(out.re.movedim(-1, dim), out.im.movedim(-1, dim))
    return out.re if kind == "irfft" else out


def _both_halves(z: Pair, length: int, dim: int) -> Pair:
    """The numbers of all frequencies of a real signal, from those that are not negative."""
    inner = _slice_of(z, dim, 1, (length + 1) // 2)
    re = torch.cat([z.re, inner.re.flip(dim)], dim)
    zero = torch.zeros_like(z.im.narrow(dim, 0, 1))  # what has to be real is taken as real
    middle = z.im.narrow(dim, 1, (length + 1) // 2 - 1)
    parts = [zero, middle, *([zero] if length % 2 == 0 else []), -inner.im.flip(dim)]
    return Pair(re, torch.cat(parts, dim))


def _slice_of(z: Pair, dim: int, begin: int, end: int) -> Pair:
    """z[begin:end] of an axis."""
    return Pair(z.re.narrow(dim, begin, end - begin), z.im.narrow(dim, begin, end - begin))


RULES.update({f"fft_{kind}": partial(fourier, kind=kind) for kind in ("fft", "ifft", "rfft", "irfft")})
