"""Taggers and models of series over HTTP: the answers that elman.runtime gives to the same file."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from command import elman
from elman.runtime import load
from elman.serve.refusals import RefusedError
from elman.serve.requests import as_series
from tests.series.conftest import hourly
from tests.serve.serving import serving
from tests.tagging import names


def exported(folder: Path, task: str, data: Path, *flags: Any) -> Path:
    small = ["--hidden", 6, "--batch", 8, "--threads", 1, "--epochs", 1, "--quiet"]
    done = elman("train", task, "--data", data, "--run", folder / task, *small, *flags)
    assert done.code == 0, done.err
    done = elman("export", folder / task, "--file", folder / f"{task}.elman")
    assert done.code == 0, done.err
    return folder / f"{task}.elman"


def post(url: str, **body: Any) -> httpx.Response:
    return httpx.post(url, json=body, trust_env=False, timeout=60)


@pytest.mark.slow
def test_tags(tmp_path: Path) -> None:
    data = tmp_path / "plain.txt"
    names.write_parts(data, 80, 0)
    path = exported(tmp_path, "tagging", data, "--letters", 0, "--affixes", 0, "--embedding", 5)
    texts = ["Ada was in London .", "London was", "so"]
    with serving({"tagging": path}, "tagging") as server:
        url = f"{server.url}/models/tagging/tag"
        assert post(url, texts=texts).json() == {"answers": load(path).predict(texts)}
        found = post(url, texts=["Ada was", "   "]).json()["answers"]
        assert found == [*load(path).predict(["Ada was"]), {"error": "empty text"}]


@pytest.mark.slow
def test_forecasts(tmp_path: Path) -> None:
    data = tmp_path / "hours.csv"
    lines = [
        f"2024-01-{1 + t // 24:02d} {t % 24:02d}:00,{value:.2f}" for t, value in enumerate(hourly(200, 3))
    ]
    data.write_text("\n".join(["hour,sold", *lines, ""]))
    path = exported(tmp_path, "series", data, "--length", 24, "--horizon", 3)
    series = [[float(v) for v in hourly(50, 7)], [1.0, None, 3.0, 2.5]]
    with serving({"series": path}, "series", longest=200) as server:
        url = f"{server.url}/models/series/forecast"
        found = post(url, series=series)
        expected = load(path).predict([np.array(values, dtype=float) for values in series])
        assert found.json() == {"answers": expected}
        assert post(url, texts=["a"]).status_code == 422
        assert post(url, series=[[0.0] * 201]).status_code == 413


@pytest.mark.parametrize("values", [[], [[]], ["a"], [[1, 2], [3]], [[[1]]], [{}]])
def test_what_is_no_series(values: list[Any]) -> None:
    with pytest.raises(RefusedError, match="a series is a list of numbers"):
        as_series(values)


def test_what_is_a_series() -> None:
    np.testing.assert_array_equal(as_series([1, None, 2.5]), [1, np.nan, 2.5])
    np.testing.assert_array_equal(as_series([[1, 2], [None, 4]]), [[1, 2], [np.nan, 4]])
