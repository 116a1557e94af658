"""The learning curve: values in the run's measure, and a picture of any log."""

import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from elman.config import UserError
from elman.plots import learning_curve
from elman.plots.curve import read_curve, shown, smooth

START = {"event": "start", "step": 0, "epoch": 1, "measure": "perplexity", "epoch_steps": 100}


def write_log(path: Path, *events: dict[str, Any], end: str = "") -> Path:
    path.write_text("".join(json.dumps(event) + "\n" for event in events) + end, encoding="utf-8")
    return path


def point(event: str, step: int, loss: float) -> dict[str, Any]:
    return {"event": event, "step": step, "epoch": 1, "loss": loss}


def test_values_are_in_the_measure_of_the_run(tmp_path: Path) -> None:
    events = [
        point("train", 50, 2.0),
        point("valid", 100, 1.5),
        point("valid", 200, 1.0),
        point("valid", 300, 1.1),
    ]
    curve = read_curve(write_log(tmp_path / "log.jsonl", START, *events))
    assert curve.train == {50: pytest.approx(math.exp(2.0))}
    assert curve.best == (200, pytest.approx(math.e))
    bits = read_curve(write_log(tmp_path / "log.jsonl", START | {"measure": "bits per character"}, *events))
    assert bits.best == (200, pytest.approx(1 / math.log(2)))
    nats = read_curve(
        write_log(tmp_path / "log.jsonl", START | {"measure": "negative log likelihood"}, *events)
    )
    assert nats.best == (200, 1.0)


def test_lines_that_are_no_points_are_left_out(tmp_path: Path) -> None:
    events = [
        START,
        point("train", 1, math.nan),
        point("train", 2, math.inf),
        point("train", 3, 1e9),
        {"event": "stop"},
    ]
    curve = read_curve(write_log(tmp_path / "log.jsonl", *events, end='[1]\n{"event": "tra'))
    assert list(curve.train) == [3]
    assert math.isfinite(curve.train[3])


@pytest.mark.parametrize(
    "events",
    [
        [],
        [START],
        [START, point("train", 50, 2.0)],
        [START, point("valid", 50, 2.0)],
        [START, point("valid", 0, 0.0)],
        [START, *(point("train", step, 9 - step / 100) for step in range(1, 400)), point("valid", 400, 4.0)],
        [START, point("train", 1, 1e9), point("train", 2, 1.0)],
    ],
    ids=["empty", "begun", "one point", "only validation", "zero", "many", "exploded"],
)
def test_any_log_makes_a_picture(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    log = write_log(tmp_path / "log.jsonl", *events)
    picture = learning_curve(log, tmp_path / "curve.svg", title="run <1>")
    assert picture == tmp_path / "curve.svg"
    assert ET.parse(picture).getroot().tag.endswith("svg")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.png", "curve.svg", "log.jsonl"]


def test_the_same_log_makes_the_same_picture(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", START, point("train", 50, 2.0), point("train", 100, 1.0))
    first, second = (learning_curve(log, tmp_path / f"{name}.svg", title="run") for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_errors_name_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no log .*none\.jsonl; training writes one"):
        learning_curve(tmp_path / "none.jsonl", tmp_path / "curve.png", title="run")
    log = write_log(tmp_path / "log.jsonl", START)
    with pytest.raises(UserError, match=r"as \.png and \.svg, not as curve\.pdf"):
        learning_curve(log, tmp_path / "curve.pdf", title="run")


def test_smooth_keeps_lines_and_ends() -> None:
    assert smooth([3.0] * 7) == [3.0] * 7
    values = smooth([float(step) for step in range(300)])
    assert values[0] == 0.0
    assert values[150] == pytest.approx(150)
    assert len(values) == 300


@pytest.mark.parametrize(("value", "text"), [(1.23456, "1.235"), (114.5, "114.5"), (12345.6, "12,346")])
def test_shown(value: float, text: str) -> None:
    assert shown(value) == text
