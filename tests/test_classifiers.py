"""The measurements of classifiers: what is recorded stays, and two loops in turns are told apart by their speed."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import classification, training
from benchmarks.classification import Training
from benchmarks.pairing import AnswersDifferError
from tests.classification import moods


def done(seed: int, value: float) -> Training:
    beside = {"majority": 0.4, "linear bag of words": 0.8}
    return Training(seed, "accuracy", value, (0.8, 0.9), value, beside, 1.5, 2, [f"line of {seed}"], "here")


def test_other_seeds_and_sets_stay_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classification, "product_rate", lambda: 1.0)
    monkeypatch.setattr(classification, "_is_done", lambda run: True)
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
