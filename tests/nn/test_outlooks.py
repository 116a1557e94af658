"""What is said of values to come: losses and quantiles against scipy, samples against quantiles."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from elman import metrics
from elman.nn import LEVELS, OUTLOOKS, Prospect
from elman.tasks.series import scores

K = 3
N = 5


def prospect(kind: Any, seed: int = 0) -> tuple[Any, Prospect, torch.Tensor]:
    torch.manual_seed(seed)
    outlook = kind(K).double()
    double = {"dtype": torch.float64}
    found = Prospect(
        torch.randn(N, K, **double).abs() + 0.3,
        torch.randn(N, K, outlook.count, **double),
        torch.rand(N, K, **double) * 20 + 1,
        torch.rand(K, **double) + 0.5,
    )
    return outlook, found, found.loc + torch.randn(N, K, **double)


def law(name: str, outlook: Any, p: Prospect) -> Any:
    """The distribution by scipy."""
    if name == "negative-binomial":
        mean, alpha = (part.detach().numpy() for part in outlook.parameters_of(p))
        return stats.nbinom(1 / alpha, 1 / (1 + alpha * mean))
    scale = outlook.scale(p).detach().numpy()
    if name == "student-t":
        return stats.t(outlook.freedom.detach().numpy(), p.loc.numpy(), scale)
    return stats.norm(p.loc.numpy(), scale)


@pytest.mark.parametrize("name", ["gaussian", "student-t", "negative-binomial"])
def test_losses_and_quantiles_are_those_of_the_distribution(name: str) -> None:
    outlook, p, y = prospect(OUTLOOKS[name])
    own = law(name, outlook, p)
    q = outlook.quantiles(p).detach().numpy()
    levels = np.array(LEVELS)[:, None, None]
    if name == "negative-binomial":
        counts = torch.randint(0, 30, (N, K))
        loss = outlook.loss(p, counts / p.unit).detach().numpy()
        np.testing.assert_allclose(loss, -own.logpmf(counts.numpy()), rtol=1e-9)
        np.testing.assert_allclose(np.moveaxis(q * p.unit.numpy()[..., None], -1, 0), own.ppf(levels))
    else:
        np.testing.assert_allclose(outlook.loss(p, y).detach().numpy(), -own.logpdf(y.numpy()), rtol=1e-6)
        np.testing.assert_allclose(np.moveaxis(q, -1, 0), own.ppf(levels), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(OUTLOOKS))
def test_samples_follow_the_quantiles(name: str) -> None:
    outlook, p, _ = prospect(OUTLOOKS[name])
    generator = torch.Generator().manual_seed(0)
    many = Prospect(*(part.expand(4000, *part.shape) for part in p[:3]), p.spread)
    drawn = outlook.sample(many, generator).detach().numpy()
    q = outlook.quantiles(p).detach().numpy()
    for place in (3, 9, 15):
        share = (drawn <= q[..., place] + 1e-9).mean(axis=0)
        low = LEVELS[place] - 0.03
        assert (share > low).all()
        if name != "negative-binomial":
            assert (share < LEVELS[place] + 0.03).all()


def test_quantiles_never_cross_and_their_loss_is_the_pinball_loss() -> None:
    outlook, p, y = prospect(OUTLOOKS["quantiles"])
    q = outlook.quantiles(p)
    assert (q.diff(dim=-1) > 0).all()
    assert torch.equal(q[..., 9], p.loc)
    np.testing.assert_allclose(
        outlook.loss(p, y).numpy(), metrics.pinball(y.numpy(), q.numpy(), LEVELS), rtol=1e-6
    )
    assert scores.LEVELS == LEVELS


@pytest.mark.parametrize("name", sorted(OUTLOOKS))
def test_gradients(name: str) -> None:
    outlook, p, y = prospect(OUTLOOKS[name])
    loc, shape = p.loc.clone().requires_grad_(), p.shape.clone().requires_grad_()
    at = torch.randint(0, 9, (N, K)) / p.unit if name == "negative-binomial" else y

    def loss(loc: torch.Tensor, shape: torch.Tensor) -> Any:
        return outlook.loss(p._replace(loc=loc, shape=shape), at)

    assert torch.autograd.gradcheck(loss, (loc, shape))


def test_the_crps_of_a_normal_forecast_by_its_quantiles() -> None:
    """Gneiting & Raftery 2007, eq. 21, to within the grid of nineteen levels."""
    y = np.linspace(-3, 3, 25)
    normal = stats.norm()
    exact = y * (2 * normal.cdf(y) - 1) + 2 * normal.pdf(y) - 1 / np.sqrt(np.pi)
    q = np.tile(normal.ppf(LEVELS), (len(y), 1))
    np.testing.assert_allclose(metrics.pinball(y, q, LEVELS), exact, atol=0.04)


def test_other_measures_of_forecasts() -> None:
    truth = np.array([1.0, 0.0, np.nan, 4.0])
    point = np.array([3.0, 0.0, 1.0, 4.0])
    assert metrics.smape(truth, point) == pytest.approx((200 * 2 / 4 + 0 + 0) / 3)
    assert metrics.coverage(truth, point - 1, point + 1) == pytest.approx(2 / 3)
    marks = np.array([0, 0, 1, 1, 0, 0, 1], dtype=bool)
    assert metrics.windows_marked(marks, 3).tolist() == [True, True, True]
    assert metrics.f1_of_marks(marks, ~marks) == 0.0
    assert metrics.f1_of_marks(marks, marks) == 1.0
