"""Runs of series that leave: forecasts, scores and classes as the run itself gives them, from numpy alone."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman as package
from command import elman
from elman.data.account import Account
from elman.data.series import Chosen, read_series
from elman.nn import outlooks as torch_outlooks
from elman.runtime import FrozenError, load
from elman.runtime.outlooks import OUTLOOKS, Readout, forward_filled, whole_windows
from tests.frozen.test_runs import alone
from tests.series.conftest import hourly
from tests.series.test_classes import turns, write

SMALL = ["--hidden", 6, "--batch", 8, "--length", 24, "--threads", 1, "--epochs", 1, "--quiet"]
KINDS: dict[str, list[Any]] = {
    "decay": ["--future-column", "price", "--horizon", 4, "--layers", 2],
    "mask": ["--gaps", "mask", "--cell", "lstm", "--outlook", "student-t", "--horizon", 3],
    "forward": [
        "--gaps",
        "forward",
        "--level",
        "level",
        "--outlook",
        "gaussian",
        "--engine",
        "torch",
        "--horizon",
        2,
    ],
    "anomalies": ["--target", "anomalies", "--gaps", "mean"],
}


def shops() -> list[str]:
    """Two series with gaps, as lines of a table."""
    draw, rows = random.Random(1), ["hour;shop;kind;price;sold"]
    for shop, kind in (("north", "big"), ("south", "small")):
        for t, value in enumerate(hourly(150, len(shop))):
            sold = "" if draw.random() < 0.1 else f"{value:.2f}".replace(".", ",")
            if t % 37 != 5:
                rows.append(
                    f"2024-01-{1 + t // 24:02d} {t % 24:02d}:00;{shop};{kind};{draw.choice([1, 2])};{sold}"
                )
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    (folder / "shops.csv").write_text("\n".join([*shops(), ""]))
    for name, more in KINDS.items():
        done = elman("train", "series", "--data", folder / "shops.csv", "--run", folder / name, *SMALL, *more)
        assert done.code == 0, done.err
    return folder


def exported(folder: Path, name: str) -> Path:
    done = elman("export", folder / name, "--file", folder / f"{name}.elman")
    assert done.code == 0, done.err
    return folder / f"{name}.elman"


def assert_like(found: Any, expected: Any, place: str = "answer") -> None:
    """The same answers: numbers to 1e-5, all else equal."""
    assert type(found) is type(expected), place
    if isinstance(found, dict):
        assert found.keys() == expected.keys(), place
        for key in found:
            assert_like(found[key], expected[key], f"{place}.{key}")
    elif isinstance(found, list):
        assert len(found) == len(expected), place
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert_like(a, b, f"{place}[{i}]")
    elif isinstance(found, float):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-5), place
    else:
        assert found == expected, place


@pytest.mark.parametrize("name", KINDS)
def test_rows_as_they_come(folder: Path, name: str) -> None:
    """With gaps in time, missing values, a foreign series and rows that are none."""
    path, trained = exported(folder, name), package.load(folder / name)
    lines = shops()[1:]
    rows = [
        *lines[90:140],
        *lines[240:270],
        "2024-01-20 05:00;east;odd;;7,5",
        "no row",
        "2024-01-01 00:00;north;big;1;3",
    ]
    rows.append("x;north;big;1;3")
    model = load(path)
    found = model.predict(rows)
    assert_like(found, trained.predict(rows))
    assert sum("error" in one for one in found) == 3
    assert_like(model.predict(lines[140:142]), trained_more(trained, lines[140:142]))
    if name == "decay":
        assert_like(alone(path, f"model.predict({rows[:3]!r})"), found[:3])
        model.begin()
        assert model.predict([shops()[0], *rows[:3]]) == found[:3]
        cells = dict(zip(shops()[0].split(";"), rows[0].split(";"), strict=True))
        model.begin()
        assert model.predict([cells]) == found[:1]


@pytest.mark.parametrize("name", ["decay", "anomalies"])
def test_what_is_no_series_is_told_alike(folder: Path, name: str) -> None:
    odd: list[Any] = [
        [], [[]], [[1.0, 2.0], [3.0]], ["a", "b"], None, 3.0, [[[1.0]]], np.zeros((0, 2)), [[1.0] * 7], "", " ",
        np.full((3, 2), np.nan),
    ]  # fmt: skip
    found = load(exported(folder, name)).predict(odd)
    assert found == package.load(folder / name).predict(odd)
    assert all("error" in one for one in found)


def trained_more(trained: Any, rows: list[str]) -> list[Any]:
    """Answers to rows that follow on those that came."""
    from elman.config import build

    flags = build(trained.task.verbs()["predict"].settings, {})
    return [dict(one.data) for one in trained.answer(rows, flags)]


@pytest.mark.parametrize("name", ["decay", "mask", "forward"])
def test_whole_series(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    path = exported(folder, name)
    done = elman(
        "predict", folder / name, folder / "shops.csv", "--read", "files", "--json", "--interval", "90"
    )
    expected = [json.loads(line) for line in done.out.splitlines()]
    model = load(path)
    frames, _ = read_series(
        (str(folder / "shops.csv"),), Account(), Chosen(), layout=model.codec.layout, step=model.codec.step
    )
    found = model.predict(frames, interval="90")
    for one in expected:
        del one["place"]
    assert len(found) == 2
    assert_like(found, expected)


def test_what_a_forecaster_refuses(folder: Path) -> None:
    model = load(exported(folder, "anomalies"))
    with pytest.raises(FrozenError, match="interval='95'"):
        model.predict([], interval="95")
    said = model.predict([[[1.0] * 7]])[0]["error"]
    assert said == f"7 channels; the model has {len(model.codec.layout.channels)}"
    done = elman(
        "train", "series", "--data", folder / "shops.csv", "--run", folder / "steps", *SMALL, "--ahead", "steps",
        "--paths", 3,
    )  # fmt: skip
    assert done.code == 0, done.err
    done = elman("export", folder / "steps")
    assert done.code == 2
    assert "forecasts by paths that torch draws (--ahead steps)" in done.err


@pytest.mark.parametrize(
    "more", [[], ["--gaps", "decay"], ["--scale-by", "case", "--frames", 3, "--cell", "lstm"]]
)
def test_classes(tmp_path: Path, more: list[Any]) -> None:
    write(tmp_path / "data.ts", turns(60, 0, lost=0.1))
    done = elman(
        "train", "series", "--target", "classify", "--data", tmp_path / "data.ts", "--run", tmp_path / "run",
        "--differences", *SMALL[:2], *SMALL[6:], *more,
    )  # fmt: skip
    assert done.code == 0, done.err
    path = exported(tmp_path, "run")
    draw = np.random.default_rng(0)
    cases: list[Any] = [draw.normal(size=(T, 2)) for T in (1, 2, 17, 40, 8)]
    cases[2][3:6, 1] = np.nan
    cases += ["1,2,3:4,?,6", "words", np.zeros(4), np.full((3, 2), np.nan)]
    cases += [[], [[1.0, 2.0], [3.0]], None, 3.0, np.zeros((2, 2, 2)), np.zeros((0, 2)), ["a"], ""]
    found = load(path).predict(cases)
    assert_like(found, [dict(one) for one in package.load(tmp_path / "run").predict(cases)])
    assert ["error" in one for one in found] == [False] * 6 + [True] * 11
    assert load(path).predict([]) == []


@pytest.mark.parametrize("name", OUTLOOKS)
def test_quantiles_of_drawn_outlooks(name: str) -> None:
    torch.manual_seed(0)
    h, M = 3, 2
    outlook = torch_outlooks.OUTLOOKS[name](h * M)
    loc, shape = torch.randn(40, 1, h * M) * 2, torch.randn(40, 1, h * M, outlook.count) * 3
    spread, unit = torch.rand(M, h) + 0.1, torch.rand(M) * 30 + 0.5
    theta = getattr(outlook, "theta", torch.zeros(0))
    with torch.no_grad():
        theta.add_(torch.randn_like(theta))
    prospect = torch_outlooks.Prospect(loc, shape, unit.tile(h).expand(loc.shape), spread.T.reshape(-1))
    zeros = np.zeros((M, h, 1), np.float32)
    own = Readout(
        "mean",
        False,
        name,
        zeros,
        zeros[..., 0],
        spread.numpy(),
        np.ones(M, np.float32),
        theta.detach().numpy(),
    )
    found = own.quantiles(loc.numpy(), shape.numpy(), unit.numpy())
    expected = outlook.quantiles(prospect).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)


def test_filling_and_windows_are_those_of_the_network() -> None:
    from elman.nn.networks import forecaster

    draw = np.random.default_rng(1)
    x = np.where(draw.random((9, 3, 2)) < 0.5, np.nan, draw.normal(size=(9, 3, 2))).astype(np.float32)
    carry = np.array([[np.nan, 1], [2, np.nan], [np.nan, np.nan]], np.float32)
    expected = forecaster.forward_filled(torch.from_numpy(x), torch.from_numpy(carry))
    for a, b in zip(forward_filled(x, carry), expected, strict=True):
        np.testing.assert_array_equal(a, b.numpy())
    np.testing.assert_array_equal(whole_windows(x), forecaster.whole_windows(torch.from_numpy(x)).numpy())
