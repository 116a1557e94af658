"""Small series, and one run of a forecaster for all tests."""

import math
import random
from datetime import date, timedelta
from pathlib import Path

import pytest

from command import elman

SMALL = ("--hidden", "8", "--batch", "8", "--length", "32", "--threads", "1", "--quiet")


def hourly(rows: int, seed: int = 0) -> list[float]:
    """A day's wave with noise."""
    draw = random.Random(seed)
    return [10 + 3 * math.sin(2 * math.pi * t / 24) + 0.3 * draw.gauss(0, 1) for t in range(rows)]


def small_series(rows: int) -> str:
    """A table of days and a value."""
    days = (date(2024, 1, 1) + timedelta(days=t) for t in range(rows))
    return "date,sold\n" + "".join(f"{day},{v:.2f}\n" for day, v in zip(days, hourly(rows), strict=True))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shops in a long table, with gaps, a price that is known ahead and a static column; and the run `run`."""
    folder = tmp_path_factory.mktemp("shops")
    draw = random.Random(1)
    rows = ["hour;shop;kind;price;sold"]
    for shop, kind in (("north", "big"), ("south", "small")):
        for t, value in enumerate(hourly(220, len(shop))):
            price = draw.choice([1, 2])
            sold = "" if draw.random() < 0.1 else f"{value - price:.2f}".replace(".", ",")
            if t % 37 != 5:
                rows.append(f"2024-01-{1 + t // 24:02d} {t % 24:02d}:00;{shop};{kind};{price};{sold}")
    (folder / "shops.csv").write_text("\n".join([*rows, ""]))
    done = elman(
        "train", "series", "--data", folder / "shops.csv", "--run", folder / "run", "--future-column", "price",
        "--horizon", 4, *SMALL, "--epochs", 3,
    )  # fmt: skip
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
