"""Anomalies: a score from the past only, a threshold from clean rows only, the same row by row as at once."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import elman as package
from benchmarks.injected import KINDS, inject, waves, write
from command import elman
from elman.runtime import load
from elman.runtime.following import Trust
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


def test_behind_a_gap_in_time_a_row_is_held_against_forecasts_of_its_own_age(
    watched: Path, tmp_path: Path
) -> None:
    """Rows of a gap, shorter and longer than the rows ahead, count as they do in the whole: in rows and frozen."""
    head, *lines = (watched / "held.csv").read_text().splitlines()
    draw = np.random.default_rng(0)
    lacking: set[int] = set()
    for start, rows in zip(draw.permutation(len(lines) // 70)[:5] * 70 + 40, (1, 2, 5, 23, 40), strict=True):
        lacking |= set(range(int(start), int(start) + rows))
    kept = [line for i, line in enumerate(lines) if i not in lacking]
    path = tmp_path / "gaps.csv"
    path.write_text("\n".join([head, *kept, ""]))
    trained = package.load(watched / "run")
    (frame,) = trained.read((str(path),), trained.config).frames
    assert sum(place is None for place in frame.places) == len(lacking & set(range(len(lines))))
    whole = anomalies.row_scores(trained.model, trained.codec, frame, float(trained.model.threshold))
    wanted = [score for score, place in zip(whole, frame.places, strict=True) if place is not None]
    done = elman("predict", watched / "run", path, "--json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert elman("export", watched / "run", "--file", tmp_path / "run.elman").code == 0
    frozen = load(tmp_path / "run.elman").predict([head, *kept])
    for found in (rows, frozen):
        scores = np.array([np.nan if one["score"] is None else one["score"] for one in found])
        np.testing.assert_allclose(scores, wanted, rtol=1e-3, atol=1e-4)


def test_a_score_is_of_the_past_and_its_own_row(watched: Path) -> None:
    trained = package.load(watched / "run")
    frame = trained.prepared.part("test").frames[0]
    whole = anomalies.row_scores(trained.model, trained.codec, frame, float(trained.model.threshold))
    changed = frame.part(0)
    changed.values = frame.values.copy()
    changed.values[700:] += 100
    other = anomalies.row_scores(trained.model, trained.codec, changed, float(trained.model.threshold))
    np.testing.assert_array_equal(other[:700], whole[:700])
    assert other[700] > whole[700]
    changed.values[700:] = np.nan
    assert np.isnan(anomalies.row_scores(trained.model, trained.codec, changed)[700:]).all()


def test_the_threshold_comes_from_clean_rows_alone(watched: Path) -> None:
    """Of the validation rows and of those before them, the larger; of few rows from a tail."""
    trained = package.load(watched / "run")
    valid, lags = trained.prepared.part("valid"), trained.codec.lags
    (whole,) = anomalies.frame_scores(trained.model, trained.codec, valid)
    share, start = trained.config.data.false_alarms, valid.starts[0]
    wanted = max(anomalies.threshold_of([rows], share) for rows in (whole[lags:start], whole[start:]))
    np.testing.assert_allclose(float(trained.model.threshold), wanted, rtol=1e-5)
    assert (whole[lags:] > wanted).sum() <= 3
    marked = valid._replace(frames=[valid.frames[0].part(0)])
    marked.frames[0].labels = (whole > np.quantile(whole[lags:], 0.9)).astype(np.int64)
    assert anomalies.clean_threshold([whole], marked, lags, share) < wanted


def test_few_rows_have_the_quantile_of_an_exponential_tail() -> None:
    """On average over draws it is that of all rows, which the quantile of few cannot be; many rows have their own."""
    draw = np.random.default_rng(0)
    share, truth = 0.002, np.log(1 / 0.002)
    few = draw.exponential(size=(400, 100))
    found = [anomalies.threshold_of([rows], share) for rows in few]
    assert np.mean([np.quantile(rows, 1 - share) for rows in few]) < 0.85 * truth
    assert abs(np.mean(found) / truth - 1) < 0.1
    many = draw.exponential(size=5000)
    assert anomalies.threshold_of([many], share) == np.quantile(many, 1 - share)
    assert anomalies.threshold_of([np.ones(50)], share) == 1.0
    assert anomalies.threshold_of([], share) == np.inf


def plain_scores(z: np.ndarray, threshold: float, lags: int, recent: int) -> list[float]:
    """`Trust` in plain words: row by row, forecast by forecast, of one target."""
    flagged: list[bool] = []
    scores = []
    for t in range(len(z)):
        known = [(k, z[t, k - 1]) for k in range(1, z.shape[1] + 1) if np.isfinite(z[t, k - 1])]
        good = [v for k, v in known if not any(flagged[max(0, t - k - lags + 1) : t - k + 1])]
        taken = (good or [v for _, v in known])[:recent]
        scores.append(sum(taken) / len(taken) if taken else np.nan)
        flagged.append(bool(scores[-1] > threshold))
    return scores


@pytest.mark.parametrize(("lags", "horizon", "recent"), [(1, 1, 1), (3, 8, 3), (6, 4, 2), (5, 12, 20)])
def test_forecasts_that_have_read_flagged_rows_do_not_count(lags: int, horizon: int, recent: int) -> None:
    """In pieces of any length, against the plain words; and row by row to the last bit."""
    draw = np.random.default_rng(lags)
    codec: Any = SimpleNamespace(horizon=horizon, targets=1, lags=lags, recent=recent)
    rows = 150
    z = np.abs(draw.standard_normal((rows, horizon, 1)))
    z[draw.random(z.shape) < 0.1] = np.nan
    z[draw.random(rows) < 0.1] = np.nan
    z[draw.random(rows) < 0.08] *= 6
    for k in range(1, horizon + 1):
        z[:k, k - 1] = np.nan
    for threshold in (2.5, np.inf):
        wanted = plain_scores(z[..., 0], threshold, lags, recent)
        whole, single = Trust(codec, threshold), Trust(codec, threshold)
        found = np.concatenate(
            [anomalies._followed(piece, whole) for piece in np.split(z, [1, 2, 40, 41, 90])]
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
        np.testing.assert_array_equal(found, [single.score(row) for row in z])
    assert (np.nan_to_num(plain_scores(z[..., 0], 2.5, lags, recent)) > 2.5).any()


def test_what_is_injected_is_marked_and_the_rest_is_as_it_was() -> None:
    values = waves(2000, 3)
    found, marks = inject(values, 3)
    np.testing.assert_array_equal(found[marks == 0], values[marks == 0])
    stretches = np.flatnonzero(np.diff(np.concatenate([[0], marks])) == 1)
    assert len(stretches) >= 2 * len(KINDS)
    assert all((found[a : a + 1] != values[a : a + 1]).any() or marks[a + 1] for a in stretches)
    np.testing.assert_array_equal(inject(values, 3)[0], found)
    assert (inject(values, 4)[1] != marks).any()
