"""Anomalies: a score from the past only, a threshold from clean rows only, the same row by row as at once."""

import json
from pathlib import Path

import numpy as np
import pytest

import elman as package
from benchmarks.injected import KINDS, inject, waves, write
from command import elman
from elman.tasks.series import anomalies

CUT, ROWS = 500, 900


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on a clean series, and the rows behind it with anomalies."""
    folder = tmp_path_factory.mktemp("waves")
    values = waves(ROWS, 0)
    write(folder / "clean.csv", values[:CUT], np.zeros(CUT, dtype=np.int64))
    write(folder / "held.csv", *inject(values[CUT:], 0), first=CUT)
    done = elman(
        "train", "series", "--target", "anomalies", "--data", folder / "clean.csv", "--test", folder / "held.csv",
        "--run", folder / "run", "--season", 24, "--hidden", 8, "--threads", 1, "--quiet", "--epochs", 2,
    )  # fmt: skip
    assert done.code == 0, done.err
    return folder


def test_it_finds_what_a_moving_z_score_does_not(watched: Path) -> None:
    trained = package.load(watched / "run")
    score = trained.evaluate()
    assert score.name == "window F1"
    beside = [known.score.value for known in trained.baselines() if known.part == "test"]
    assert len(beside) == 3
    assert score.value > max(beside) + 0.15
    assert "Marked rows" in (watched / "run" / "report.html").read_text()


def test_rows_one_by_one_have_the_scores_of_the_whole(watched: Path) -> None:
    trained = package.load(watched / "run")
    part = trained.prepared.part("test")
    whole = anomalies.part_scores(trained.model, trained.codec, part)[0]
    done = elman(
        "predict",
        watched / "run",
        watched / "held.csv",
        "--json",
        "--history",
        watched / "clean.csv",
        "--new",
    )
    found = [json.loads(line) for line in done.out.splitlines()]
    assert len(found) == len(whole) == ROWS - CUT
    np.testing.assert_allclose([one["score"] for one in found], whole, rtol=1e-3, atol=1e-4)
    flagged = anomalies.marked([whole], float(trained.model.threshold))[0]
    assert [one["anomaly"] for one in found] == flagged.tolist()


def test_a_score_is_of_the_past_and_its_own_row(watched: Path) -> None:
    trained = package.load(watched / "run")
    frame = trained.prepared.part("test").frames[0]
    whole = anomalies.row_scores(trained.model, trained.codec, frame)
    changed = frame.part(0)
    changed.values = frame.values.copy()
    changed.values[700:] += 100
    other = anomalies.row_scores(trained.model, trained.codec, changed)
    np.testing.assert_array_equal(other[:700], whole[:700])
    assert other[700] > whole[700]
    changed.values[700:] = np.nan
    assert np.isnan(anomalies.row_scores(trained.model, trained.codec, changed)[700:]).all()


def test_the_threshold_comes_from_clean_validation_rows(watched: Path) -> None:
    trained = package.load(watched / "run")
    valid = trained.prepared.part("valid")
    found = anomalies.part_scores(trained.model, trained.codec, valid)
    wanted = anomalies.threshold_of(found, trained.config.data.false_alarms)
    np.testing.assert_allclose(float(trained.model.threshold), wanted, rtol=1e-5)
    assert (found[0] > wanted).sum() <= 1


def test_what_is_injected_is_marked_and_the_rest_is_as_it_was() -> None:
    values = waves(2000, 3)
    found, marks = inject(values, 3)
    np.testing.assert_array_equal(found[marks == 0], values[marks == 0])
    stretches = np.flatnonzero(np.diff(np.concatenate([[0], marks])) == 1)
    assert len(stretches) >= 2 * len(KINDS)
    assert all((found[a : a + 1] != values[a : a + 1]).any() or marks[a + 1] for a in stretches)
    np.testing.assert_array_equal(inject(values, 3)[0], found)
    assert (inject(values, 4)[1] != marks).any()
