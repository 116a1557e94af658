"""A run folder of format 1 (made by tests/fixtures/make_format_1.sh) still loads, measures, and goes on."""

import json
import shutil
from pathlib import Path

import pytest

import elman as package
from command import elman
from elman.metrics import bits
from elman.training.checkpoint import load

FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(FIXTURES, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old" / "format_1"


def test_it_is_what_it_says(old: Path) -> None:
    assert json.loads((old / "run.json").read_text())["format"] == 1
    assert load(old / "best.safetensors")[1].keys() == {"loss", "step", "epoch"}


def test_it_is_used_as_before(old: Path) -> None:
    valid = [json.loads(line) for line in (old / "log.jsonl").read_text().splitlines() if '"valid"' in line]
    found = package.load(old).evaluate(part="valid", streams=16).figures["loss"]
    assert found == pytest.approx(valid[-1]["loss"])
    assert elman("generate", old, "--length", 5, "--seed", 1).code == 0
    assert elman("report", old).code == 0


def test_it_goes_on_and_is_of_the_new_format_then(old: Path) -> None:
    best = bits(load(old / "best.safetensors")[1]["loss"])
    done = elman("train", "language-model", "--resume", old, "--max-steps", 30)
    assert done.code == 0, done.err
    assert "continuing" in done.err
    saved = json.loads((old / "run.json").read_text())
    assert (saved["format"], saved["module"]) == (2, "language_model")
    facts = load(old / "last.safetensors")[1]
    # The best is compared in the measure's own units: bits, where format 1 had nats.
    assert facts["best"] <= best
    assert facts["schedule"]["best"] <= best
    assert 7 < facts["schedule"]["best"] < 8
