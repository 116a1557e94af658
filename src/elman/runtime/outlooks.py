"""What a forecaster says around its layers, in numpy: what these read of the values, and quantiles.

The equations are those of `elman.nn.Forecaster` and `elman.nn.outlooks`, in the same order and the same precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["OUTLOOKS", "Readout", "forward_filled", "whole_windows"]

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[Any]
LEVELS = tuple(round(0.05 * number, 2) for number in range(1, 20))
NORMAL = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
START = math.log(math.e - 1)
# As in `elman.nn.networks.forecaster`.
LONG = 8.0
# The negative binomial: quantiles are read from the sums of p(k) up to here.
MOST = 2000


class Readout(NamedTuple):
    """What stands around the layers of a forecaster: gaps, the linear map `(M, h, p)`, the outlook's own numbers.

    weight `(M, h, p)`, bias, spread `(M, h)`, change `(C,)`, theta `(h M,)` (of Student's t).
    """

    gaps: str
    relative: bool
    outlook: str
    weight: Singles
    bias: Singles
    spread: Singles
    change: Singles
    theta: Singles

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Readout:
        """What the task has written into the file."""
        arrays = [np.array(saved[n], np.float32) for n in ("weight", "bias", "spread", "change", "theta")]
        if saved["outlook"] not in OUTLOOKS:
            raise ValueError(f"the outlook {saved['outlook']!r} is none of {', '.join(OUTLOOKS)}")
        return cls(saved["gaps"], saved["relative"], saved["outlook"], *arrays)

    def inputs(self, x: Singles, filled: Singles, before: Singles, since: Singles, known: Singles) -> Singles:
        """What the layers read, `(T, B, I)`."""
        with np.errstate(invalid="ignore"):
            v = (x - before) / self.change if self.relative else x
        mask = np.isfinite(v).astype(np.float32)
        if self.gaps == "forward" and not self.relative:
            v = filled
        v = np.nan_to_num(v, nan=0.0)
        if self.gaps == "decay":
            ones, zeros = np.ones_like(known), np.zeros_like(known)
            beyond = np.maximum(since - 1, 0) / np.float32(LONG)
            return np.concatenate((v, known, mask, ones, beyond, zeros), axis=-1)
        parts = (v, known, mask, np.log1p(since)) if self.gaps == "mask" else (v, known)
        return np.concatenate(parts, axis=-1)

    def read_out(self, o: Singles, past: Singles) -> tuple[Singles, Singles]:
        """loc `(T, B, h M)`, shape `(T, B, h M, P)` from what the head gives and the values from p before the first."""
        M, h, p = self.weight.shape
        windows = np.lib.stride_tricks.sliding_window_view(past[1:, :, :M], p, axis=0)
        windows = whole_windows(windows)
        anchor = windows[..., -1:] if self.relative else np.zeros_like(windows[..., -1:])
        base = np.einsum("...mp,mhp->...hm", windows - anchor, self.weight) + self.bias.T
        base = base + np.moveaxis(anchor, -1, -2)
        o = o.reshape(*o.shape[:-1], h * M, -1)
        return base.reshape(*base.shape[:-2], -1) + self.spreads * o[..., 0], o[..., 1:]

    @property
    def spreads(self) -> Singles:
        """The usual error of each of the h M values, horizon by horizon."""
        return self.spread.T.reshape(-1)

    def quantiles(self, loc: Singles, shape: Singles, unit: Floats) -> Floats:
        """The quantiles of LEVELS, ascending, `(..., h M, Q)`; unit `(M,)`."""
        units = np.tile(np.asarray(unit, np.float32), self.weight.shape[1])
        return OUTLOOKS[self.outlook](self, loc, shape, units)


def forward_filled(x: Singles, carry: Singles) -> tuple[Singles, Singles]:
    """Each value, or the last one before it `(T, B, C)`, and the last one before each step; NaN where there is none."""
    steps = np.arange(len(x)).reshape(-1, 1, 1)
    at = np.maximum.accumulate(np.where(np.isfinite(x), steps, -1), axis=0)
    filled = np.where(at >= 0, np.take_along_axis(x, at.clip(min=0), axis=0), carry)
    return filled, np.concatenate((carry[None], filled[:-1]))


def whole_windows(windows: Singles) -> Singles:
    """Windows `(..., p)` with what comes before the first value taken for that value; zeros where there is none."""
    lacking = np.isnan(windows).sum(-1, keepdims=True).clip(max=windows.shape[-1] - 1)
    first = np.take_along_axis(windows, lacking, axis=-1)
    return np.nan_to_num(np.where(np.isnan(windows), first, windows), nan=0.0)


def _softplus(x: Floats) -> Floats:
    return np.where(x > 20, x, np.log1p(np.exp(np.minimum(x, 20)))).astype(x.dtype)


def _quantiles(own: Readout, loc: Singles, shape: Singles, unit: Singles) -> Floats:
    steps = np.diff(NORMAL.astype(np.float32))
    gaps = _softplus(shape + np.float32(START)) * steps * own.spreads[:, None]
    middle = gaps.shape[-1] // 2
    below = np.cumsum(gaps[..., middle - 1 :: -1], axis=-1)[..., ::-1]
    above = np.cumsum(gaps[..., middle:], axis=-1)
    at = loc[..., None]
    return np.concatenate((at - below, at, at + above), axis=-1)


def _scale(own: Readout, shape: Singles) -> Singles:
    return np.asarray(own.spreads * _softplus(shape[..., 0] + np.float32(START)) + np.float32(1e-6))


def _gaussian(own: Readout, loc: Singles, shape: Singles, unit: Singles) -> Floats:
    return loc[..., None] + _scale(own, shape)[..., None] * NORMAL.astype(np.float32)


def _student(own: Readout, loc: Singles, shape: Singles, unit: Singles) -> Floats:
    freedom = (2 + _softplus(own.theta)).astype(np.float64)
    return loc[..., None] + _scale(own, shape)[..., None] * _student_table(freedom).astype(np.float32)


def _student_table(freedom: Floats) -> Floats:
    """The quantiles of LEVELS of a standard t of each ν, `(K, Q)`: by the trapezoid rule in asinh(t)."""
    s = np.linspace(-12, 12, 4001)
    t, v = np.sinh(s), freedom[:, None]
    density = np.exp(-(v + 1) / 2 * np.log1p(t * t / v)) * np.cosh(s)
    cdf = np.pad(np.cumsum((density[:, 1:] + density[:, :-1]) / 2 * np.diff(s), axis=1), ((0, 0), (1, 0)))
    cdf /= cdf[:, -1:]
    return np.stack([np.interp(LEVELS, row, t) for row in cdf])


def _counts(own: Readout, loc: Singles, shape: Singles, unit: Singles) -> Floats:
    mean = unit * (_softplus(5 * loc) / 5) + np.float32(1e-6)
    alpha = own.spreads**2 * _softplus(shape[..., 0] + np.float32(START)) + np.float32(1e-6)
    mean, alpha = mean.astype(np.float64), alpha.astype(np.float64)
    deviation = np.sqrt(mean + alpha * mean * mean)
    last = min(MOST, int((mean + 12 * deviation).max()) + 2)
    cdf = np.cumsum(
        np.exp(_log_count(np.arange(last, dtype=np.float64), mean[..., None], alpha[..., None])), axis=-1
    )
    found = (cdf[..., None, :] < np.array(LEVELS)[:, None]).sum(-1).astype(np.float64)
    wide = (mean[..., None] + deviation[..., None] * NORMAL).clip(min=0)
    chosen = np.where((found >= last) | (mean[..., None] > MOST / 4), wide, found)
    return np.asarray(chosen / unit[:, None], np.float32)


def _log_count(k: Floats, mean: Floats, alpha: Floats) -> Floats:
    r = 1 / alpha
    coefficient = _lgamma(k + r) - _lgamma(k + 1) - _lgamma(r)
    return np.asarray(
        coefficient + k * (np.log(alpha * mean) - np.log1p(alpha * mean)) - r * np.log1p(alpha * mean)
    )


_lgamma: Callable[[Floats], Floats] = np.vectorize(math.lgamma, otypes=[np.float64])

OUTLOOKS: dict[str, Callable[[Readout, Singles, Singles, Singles], Floats]] = {
    "quantiles": _quantiles,
    "gaussian": _gaussian,
    "student-t": _student,
    "negative-binomial": _counts,
}
