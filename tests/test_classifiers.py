"""The measurements of classifiers: what is recorded stays, and two loops in turns are told apart by their speed."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import classification, training, trainings
from benchmarks.classification import Training
from benchmarks.pairing import AnswersDifferError
from tests.classification import moods


def done(seed: int, value: float) -> Training:
    beside = {"majority": 0.4, "linear bag of words": 0.8}
    return Training(seed, "accuracy", value, (0.8, 0.9), value, beside, 1.5, 2, [f"line of {seed}"], "here")


def test_other_seeds_and_sets_stay_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "product_rate", lambda: 1.0)
    monkeypatch.setattr(trainings, "is_done", lambda run: True)
    values = {"emotion-1": 0.9, "emotion-2": 0.95, "sst2-1": 0.7}

    def trained(known: Any, seed: int, *_: object) -> Training:
        return done(seed, values[f"{known.name}-{seed}"])

    monkeypatch.setattr(classification, "train", trained)
    out = ["--out", str(tmp_path)]
    assert classification.main(["emotion", "--seeds", "2", *out]) == 1
    values["emotion-1"] = 0.97
    assert classification.main(["emotion", "--seeds", "1", *out]) == 0
    assert classification.main(["sst2", "--seeds", "1", *out]) == 1
    page = (tmp_path / "classification.md").read_text()
    assert "| emotion | accuracy | **0.9600** (0.9500 to 0.9700) |" in page
    assert "| sst2 | accuracy | **0.7000** (0.8000 to 0.9000) |" in page
    saved = json.loads((tmp_path / "classification.json").read_text())["results"]
    assert [(one["seed"], one["value"]) for one in saved["emotion"]] == [(1, 0.97), (2, 0.95)]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "emotion").mkdir()
    for name, count in (("train", 300), ("test", 30)):
        moods.write(folder / "emotion" / f"{name}.csv", count, 0)
    return folder


def test_two_loops_train_in_turns(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "WARM", 1)
    training.main(["--rounds", "2", "--steps", "1", "--data", str(small), "--out", str(tmp_path)])
    page = (tmp_path / "training.md").read_text()
    assert "| like lengths |" in page and "| mixed lengths |" in page
    rates = json.loads((tmp_path / "training.json").read_text())["tokens a second"]
    assert all(len(own) == 2 and min(own) > 0 for pair in rates.values() for own in pair.values())


def test_loops_that_compute_something_else_are_not_reported(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = training.Turns.answers

    def wrong(self: training.Turns) -> Any:
        found = plain(self)
        return found if "torch" in str(self.trainer.run.path) else {**found, "loss": found["loss"] + 1}

    monkeypatch.setattr(training.Turns, "answers", wrong)
    with pytest.raises(AnswersDifferError, match="like lengths, loss"):
        training.measure("like lengths", small, 2, 1)


def test_a_run_is_trained_once_and_read_without_its_places(tmp_path: Path) -> None:
    run, calls = tmp_path / "runs" / "set-1", list[str]()

    def train(task: str, flags: Any, run: Path) -> None:
        calls.append(task)
        run.mkdir()
        files = {
            "scores.json": {"test": {"name": "F1", "value": 0.5, "interval": [0.4, 0.6]}},
            "baselines.json": [
                {"baseline": "a", "value": part == "test", "part": part} for part in ("valid", "test")
            ],
        }
        for name, value in files.items():
            (run / name).write_text(json.dumps(value))
        scores = [("valid", 1, 0.3), ("valid", 2, 0.2), ("end", 3, 0.9)]
        events = [
            {"event": e, "epoch": n, "score": s, "time": "2026-11-26T1", "seconds": 60 * n}
            for e, n, s in scores
        ]
        (run / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        run.with_suffix(".log").write_text(f" 50% of it\n\nread {tmp_path}/data/a.csv\nin {run}\n")

    hidden = {"DATA": tmp_path / "data", "RUNS": tmp_path / "runs"}
    for _ in range(2):
        lines = trainings.trained("series", [], run, hidden, train)
        assert lines == ["read DATA/a.csv", "in RUNS/set-1"]
    assert calls == ["series"]
    done = trainings.read(run)
    assert (done.baselines, done.interval, done.minutes, done.epochs) == ({"a": True}, (0.4, 0.6), 3, 2)
    assert (done.best(higher=True), done.best(higher=False), done.day) == (0.3, 0.2, "2026-11-26")
