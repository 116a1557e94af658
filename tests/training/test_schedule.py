"""Learning rates against numbers worked out by hand."""

import json
import math
from typing import Any

import pytest
import torch

from elman.config import UserError
from elman.training.optimizer import Schedule, build_optimizer
from elman.training.settings import OptimizerSettings


def schedule(total: int = 100, **settings: Any) -> Schedule:
    return Schedule(OptimizerSettings(rate=1.0, **settings), total)


def test_constant() -> None:
    assert {schedule(schedule="constant").rate(step, 1 + step // 10) for step in range(100)} == {1.0}


def test_divide_in_each_epoch_after() -> None:
    rates = [
        schedule(schedule="after", divide_after=4, divide_by=2.0).rate(0, epoch) for epoch in range(1, 8)
    ]
    assert rates == [1, 1, 1, 1, 0.5, 0.25, 0.125]


def test_divide_every() -> None:
    rates = [
        schedule(schedule="step", divide_every=2, divide_by=10.0).rate(0, epoch) for epoch in range(1, 7)
    ]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_falls_from_the_rate_to_the_final_rate() -> None:
    cosine = schedule(total=8, schedule="cosine", final_rate=0.2)
    half = math.sqrt(0.5)
    by_hand = [
        1,
        0.6 + 0.4 * math.cos(math.pi / 8),
        0.6 + 0.4 * half,
        0.6 + 0.4 * math.cos(3 * math.pi / 8),
        0.6,
    ]
    assert [cosine.rate(step, 1) for step in range(5)] == pytest.approx(by_hand)
    assert cosine.rate(8, 1) == pytest.approx(0.2)
    assert cosine.rate(20, 1) == pytest.approx(0.2)


def test_warmup_rises_linearly_in_front_of_any_schedule() -> None:
    assert [schedule(warmup=4).rate(step, 1) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    cosine = schedule(total=12, schedule="cosine", warmup=4)
    assert cosine.rate(3, 1) == pytest.approx(1)
    assert cosine.rate(8, 1) == pytest.approx(0.5)


def test_plateau_divides_when_validation_does_not_improve() -> None:
    plateau = schedule(schedule="plateau", divide_by=4.0)
    rates = []
    for loss in (3.0, 2.0, 2.0, 1.9, 2.5, 2.4):
        plateau.observe(loss)
        rates.append(plateau.rate(0, 1))
    assert rates == [1, 1, 1 / 4, 1 / 4, 1 / 16, 1 / 64]


def test_plateau_with_patience() -> None:
    plateau = schedule(schedule="plateau", divide_by=2.0, patience=1)
    rates = []
    for loss in (3.0, 3.1, 3.1, 3.1, 3.1, 2.0, 2.1):
        plateau.observe(loss)
        rates.append(plateau.rate(0, 1))
    assert rates == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_a_saved_schedule_goes_on() -> None:
    first, second = (schedule(schedule="plateau", patience=1) for _ in range(2))
    for loss in (3.0, 3.1):
        first.observe(loss)
    second.restore(json.loads(json.dumps(first.to_json())))
    for loss in (3.2, 2.0, 2.5, 2.6):
        first.observe(loss)
        second.observe(loss)
    assert first.to_json() == second.to_json()
    fresh = schedule()
    fresh.restore(json.loads(json.dumps(fresh.to_json())))
    assert fresh.streak.best == math.inf


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"schedule": "after", "divide_by": 1.0}, "--divide-by 1"),
        ({"momentum": 0.9}, "--momentum works with"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        OptimizerSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "kind", "expected"),
    [
        (
            {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.1},
            torch.optim.SGD,
            {"momentum": 0.5, "weight_decay": 0.1},
        ),
        (
            {"optimizer": "adam", "beta1": 0.8, "beta2": 0.9},
            torch.optim.Adam,
            {"betas": (0.8, 0.9), "weight_decay": 0},
        ),
        (
            {"optimizer": "adamw", "weight_decay": 0.2},
            torch.optim.AdamW,
            {"betas": (0.9, 0.999), "weight_decay": 0.2},
        ),
    ],
)
def test_optimizers_get_their_settings(
    settings: dict[str, Any], kind: type, expected: dict[str, Any]
) -> None:
    optimizer = build_optimizer(torch.nn.Linear(2, 2), OptimizerSettings(rate=0.3, **settings))
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == 0.3
    for name, value in expected.items():
        assert optimizer.param_groups[0][name] == value


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_adam_in_one_pass_follows_the_plain_rule(kind: Any) -> None:
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(5, 3, dtype=torch.float64)) for _ in range(2)]
    plain = [torch.nn.Parameter(own.detach().clone()) for own in ours]
    settings = OptimizerSettings(optimizer=kind, rate=0.1, beta1=0.8, beta2=0.95, weight_decay=0.3)
    optimizer = build_optimizer(torch.nn.ParameterList(ours), settings)
    m, v = [torch.zeros(5, 3, dtype=torch.float64)] * 2, [torch.zeros(5, 3, dtype=torch.float64)] * 2
    for n in range(1, 6):
        for i, own in enumerate(ours):
            own.grad = torch.randn(5, 3, dtype=torch.float64)
            g = own.grad.clone()
            with torch.no_grad():
                if kind == "adamw":
                    plain[i] -= 0.1 * 0.3 * plain[i]
                else:
                    g += 0.3 * plain[i]
                m[i], v[i] = 0.8 * m[i] + 0.2 * g, 0.95 * v[i] + 0.05 * g * g
                plain[i] -= 0.1 * m[i] / (1 - 0.8**n) / ((v[i] / (1 - 0.95**n)).sqrt() + 1e-8)
        optimizer.step()
    for own, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-9)
