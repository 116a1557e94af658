"""What is said of a value that is not known yet: quantiles, or the parameters of a distribution."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "LEVELS",
    "OUTLOOKS",
    "Gaussian",
    "NegativeBinomial",
    "Outlook",
    "Prospect",
    "Quantiles",
    "StudentT",
]

# The quantiles that a forecast is told by: the median, and 90 % and 80 % between their outer pairs.
LEVELS = tuple(round(0.05 * number, 2) for number in range(1, 20))
OutlookName = Literal["quantiles", "gaussian", "student-t", "negative-binomial"]
# softplus(START) = 1
START = math.log(math.e - 1)


class Prospect(NamedTuple):
    """The parameters of K future values, as `Outlook` reads them: loc `(..., K)`, shape `(..., K, P)`, unit `(..., K)`.

    unit: what one scaled unit is in the values' own, for counts; spread `(K,)`: the usual error of each.
    """

    loc: Tensor
    shape: Tensor
    unit: Tensor
    spread: Tensor


class Outlook(nn.Module):
    """A kind of outlook on K values: `count` numbers of the network for each beside its location."""

    count = 0

    def loss(self, prospect: Prospect, y: Tensor) -> Tensor:
        """What a value `(..., K)` costs, `(..., K)`; NaN where the value is NaN."""
        raise NotImplementedError

    def quantiles(self, prospect: Prospect) -> Tensor:
        """The quantiles of `LEVELS`, ascending, `(..., K, Q)`."""
        raise NotImplementedError

    def sample(self, prospect: Prospect, generator: torch.Generator | None = None) -> Tensor:
        """A value drawn for each, `(..., K)`."""
        raise NotImplementedError


class Quantiles(Outlook):
    r"""Nineteen quantiles that never cross, trained by their pinball losses (Koenker & Bassett 1978).

        q_.5 = loc    q_i = q_{i±1} ± spread Δ_i softplus(shape_i)
        loss = 2 / (Q + 1) Σ_i max(τ_i (y − q_i), (τ_i − 1)(y − q_i))        in the mean the CRPS, in units of y

    Δ_i: the distance of two neighbours in a normal distribution, where training starts. A value is drawn by the line
    through the quantiles.
    """

    count = len(LEVELS) - 1
    steps: Tensor
    levels: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        normal = torch.tensor([NormalDist().inv_cdf(level) for level in LEVELS])
        self.register_buffer("steps", normal.diff(), persistent=False)
        self.register_buffer("levels", torch.tensor(LEVELS), persistent=False)

    def quantiles(self, prospect: Prospect) -> Tensor:
        """See the class."""
        gaps = F.softplus(prospect.shape + START) * self.steps * prospect.spread.unsqueeze(-1)
        middle = self.count // 2
        below = gaps[..., :middle].flip(-1).cumsum(-1).flip(-1)
        above = gaps[..., middle:].cumsum(-1)
        loc = prospect.loc.unsqueeze(-1)
        return torch.cat((loc - below, loc, loc + above), dim=-1)

    def loss(self, prospect: Prospect, y: Tensor) -> Tensor:
        """See the class."""
        error = y.unsqueeze(-1) - self.quantiles(prospect)
        losses = torch.maximum(self.levels * error, (self.levels - 1) * error)
        return 2 * losses.sum(-1) / (len(LEVELS) + 1)

    def sample(self, prospect: Prospect, generator: torch.Generator | None = None) -> Tensor:
        """By inversion; beyond the outermost quantiles the line goes on."""
        q = self.quantiles(prospect)
        u = torch.rand(prospect.loc.shape, generator=generator, device=q.device, dtype=q.dtype)
        at = u * (len(LEVELS) + 1) - 1
        low = at.floor().clamp(0, len(LEVELS) - 2).long().unsqueeze(-1)
        share = at.unsqueeze(-1) - low
        a, b = q.gather(-1, low), q.gather(-1, low + 1)
        return (a + share * (b - a)).squeeze(-1)


class Gaussian(Outlook):
    """Normal: σ = spread softplus(shape); the loss is -log p in nats."""

    count = 1
    normal: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer(
            "normal", torch.tensor([NormalDist().inv_cdf(level) for level in LEVELS]), persistent=False
        )

    def scale(self, prospect: Prospect) -> Tensor:
        """σ `(..., K)`."""
        return prospect.spread * F.softplus(prospect.shape[..., 0] + START) + 1e-6

    def quantiles(self, prospect: Prospect) -> Tensor:
        """loc + σ Φ⁻¹(τ)."""
        return prospect.loc.unsqueeze(-1) + self.scale(prospect).unsqueeze(-1) * self.normal

    def loss(self, prospect: Prospect, y: Tensor) -> Tensor:
        """-log p(y)."""
        scale = self.scale(prospect)
        return 0.5 * ((y - prospect.loc) / scale) ** 2 + scale.log() + 0.5 * math.log(2 * math.pi)

    def sample(self, prospect: Prospect, generator: torch.Generator | None = None) -> Tensor:
        """loc + σ ε."""
        noise = torch.randn(prospect.loc.shape, generator=generator, dtype=prospect.loc.dtype)
        return prospect.loc + self.scale(prospect) * noise.to(prospect.loc.device)


class StudentT(Gaussian):
    """Student's t with ν = 2 + softplus(θ) learned for each of the K values; its scale as `Gaussian`'s σ."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.theta = nn.Parameter(torch.full((size,), 3.0))

    @property
    def freedom(self) -> Tensor:
        """ν `(K,)`."""
        return 2 + F.softplus(self.theta)

    def loss(self, prospect: Prospect, y: Tensor) -> Tensor:
        """-log p(y)."""
        scale, v = self.scale(prospect), self.freedom
        z = (y - prospect.loc) / scale
        tail = (v + 1) / 2 * torch.log1p(z * z / v)
        constant = torch.lgamma((v + 1) / 2) - torch.lgamma(v / 2) - 0.5 * torch.log(v * math.pi)
        return tail - constant + scale.log()

    def quantiles(self, prospect: Prospect) -> Tensor:
        """By the sum of the density on a fine grid, once for each ν."""
        table = student_quantiles(self.freedom.detach().double()).to(prospect.loc)
        return prospect.loc.unsqueeze(-1) + self.scale(prospect).unsqueeze(-1) * table

    def sample(self, prospect: Prospect, generator: torch.Generator | None = None) -> Tensor:
        """A normal over the root of a χ² of ν degrees over ν, of a sum of squares and a gamma for the rest."""
        size = prospect.loc.shape
        grid = student_grid(self.freedom.detach().double())
        u = torch.rand(size, generator=generator, dtype=torch.float64)
        t = torch.stack(
            [_inverse(*grid, k, u[..., k]) for k in range(size[-1])],
            dim=-1,
        )
        return prospect.loc + self.scale(prospect) * t.to(prospect.loc)


def student_grid(freedom: Tensor) -> tuple[Tensor, Tensor]:
    """Points t `(N,)`, and the distribution of each ν there, `(K, N)`, by the trapezoid rule in asinh(t)."""
    s = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    t = torch.sinh(s)
    v = freedom.unsqueeze(1)
    density = torch.exp(-(v + 1) / 2 * torch.log1p(t * t / v)) * torch.cosh(s)
    sums = torch.cumulative_trapezoid(density, s, dim=1)
    cdf = F.pad(sums, (1, 0))
    return t, cdf / cdf[:, -1:]


def _inverse(t: Tensor, cdf: Tensor, k: int, u: Tensor) -> Tensor:
    right = torch.searchsorted(cdf[k], u.contiguous()).clamp(1, len(t) - 1)
    a, b = cdf[k][right - 1], cdf[k][right]
    return t[right - 1] + (u - a) / (b - a).clamp(min=1e-300) * (t[right] - t[right - 1])


def student_quantiles(freedom: Tensor) -> Tensor:
    """The quantiles of `LEVELS` of a standard t of each ν, `(K, Q)`."""
    t, cdf = student_grid(freedom)
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    return torch.stack([_inverse(t, cdf, k, levels) for k in range(len(freedom))])


class NegativeBinomial(Outlook):
    """Counts: mean μ = unit softplus(5 loc) / 5, variance μ + α μ², α = spread² softplus(shape); -log p in nats.

    Scaled values are counts over their unit (Salinas et al. 2020, DeepAR, arXiv 1704.04110, section 3.1).
    """

    count = 1
    # Quantiles are read from the sums of p(k) up to here; of larger means the normal distribution is taken.
    most = 2000

    def __init__(self, size: int) -> None:
        super().__init__()

    def parameters_of(self, prospect: Prospect) -> tuple[Tensor, Tensor]:
        """μ and α, `(..., K)` each."""
        mean = prospect.unit * (F.softplus(5 * prospect.loc) / 5) + 1e-6
        return mean, prospect.spread**2 * F.softplus(prospect.shape[..., 0] + START) + 1e-6

    def loss(self, prospect: Prospect, y: Tensor) -> Tensor:
        """-log p(k), k = y unit."""
        mean, alpha = self.parameters_of(prospect)
        return -_log_count(torch.round(y * prospect.unit), mean, alpha)

    def quantiles(self, prospect: Prospect) -> Tensor:
        """The least count whose distribution reaches each level, over the unit."""
        mean, alpha = (part.detach().double() for part in self.parameters_of(prospect))
        deviation = (mean + alpha * mean * mean).sqrt()
        last = min(self.most, int((mean + 12 * deviation).max().item()) + 2)
        k = torch.arange(last, dtype=torch.float64, device=mean.device)
        cdf = _log_count(k, mean.unsqueeze(-1), alpha.unsqueeze(-1)).exp().cumsum(-1)
        levels = torch.tensor(LEVELS, dtype=torch.float64, device=mean.device)
        found = torch.searchsorted(cdf, levels.expand(*cdf.shape[:-1], -1).contiguous()).double()
        normal = torch.tensor([NormalDist().inv_cdf(level) for level in LEVELS], device=mean.device)
        wide = (mean + deviation.unsqueeze(-1).movedim(-1, 0) * normal.view(-1, *[1] * mean.dim())).movedim(
            0, -1
        )
        chosen = torch.where((found >= last) | (mean.unsqueeze(-1) > self.most / 4), wide.clamp(min=0), found)
        return (chosen / prospect.unit.unsqueeze(-1)).to(prospect.loc)

    def sample(self, prospect: Prospect, generator: torch.Generator | None = None) -> Tensor:
        """A Poisson draw whose mean is a gamma draw."""
        mean, alpha = self.parameters_of(prospect)
        rate = torch._standard_gamma((1 / alpha).cpu(), generator=generator) * (mean * alpha).cpu()
        return (torch.poisson(rate, generator=generator).to(mean) / prospect.unit).to(prospect.loc)


def _log_count(k: Tensor, mean: Tensor, alpha: Tensor) -> Tensor:
    r = 1 / alpha
    coefficient = torch.lgamma(k + r) - torch.lgamma(k + 1) - torch.lgamma(r)
    return (
        coefficient
        + k * (torch.log(alpha * mean) - torch.log1p(alpha * mean))
        - r * torch.log1p(alpha * mean)
    )


OUTLOOKS: dict[str, Any] = {
    "quantiles": Quantiles,
    "gaussian": Gaussian,
    "student-t": StudentT,
    "negative-binomial": NegativeBinomial,
}
