"""Ways of training beside the plain one: dry, from another run's weights, in folds, with TensorBoard."""

import importlib.util
import json
import random
import re
import statistics
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file

import elman as package
from command import TINY, elman, verse
from elman.tasks.base import TASKS, Word

EVERY = ["--epochs", 1, "--threads", 1]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(TASKS, "parity", Word("tests.tasks.toy", "the toy"))
    monkeypatch.setitem(
        TASKS, "oddness", Word("tests.tasks.toy", "the toy by another word", {"model.hidden": 3})
    )
    draw = random.Random(0)
    lines = ["".join(draw.choice("01") for _ in range(draw.randint(1, 6))) for _ in range(40)]
    Path("data.txt").write_text("\n".join(lines))
    Path("text.txt").write_text(verse(40))


def train(run: str, *more: object, word: str = "parity") -> Any:
    return elman("train", word, "--data", "data.txt", "--run", run, *EVERY, *more)


def test_a_dry_run_says_what_it_would_take_and_leaves_nothing() -> None:
    before = set(Path().rglob("*"))
    done = train("run", "--dry-run", "--epochs", 7, "--hidden", 5)
    assert done.code == 0, done.err
    assert set(Path().rglob("*")) == before
    assert "read 40, used 40, left out 0" in done.err
    gru = 3 * 5 * (1 + 5 + 2)
    assert f"{gru + 6:,} parameters to train" in done.err
    assert re.search(r"an epoch: 6 steps, 0:0\d \(\d+\.\d ms a step, \d timed\)", done.err)
    assert "all 42 steps: 0:" in done.err
    megabytes = re.search(r"memory: ([\d,]+) MB", done.err)
    assert megabytes
    assert 50 < float(megabytes[1].replace(",", "")) < 20_000


def test_a_dry_run_reads_the_data_as_the_training_does() -> None:
    Path("data.txt").unlink()
    assert train("run", "--dry-run").code == 2
    assert elman("train", "parity", "--dry-run").err.endswith("parity needs --data\n")


def test_a_training_need_not_measure_its_baselines() -> None:
    found = {}
    for run, flags in (("beside", []), ("alone", ["--no-baselines"])):
        done = train(run, *flags)
        assert done.code == 0, done.err
        assert ("beside it, " in done.err) == (run == "beside")
        found[run] = json.loads(elman("evaluate", run, "--json").out)
    assert found["beside"].pop("baselines")
    assert found["alone"].pop("baselines") == []
    assert found["alone"] == found["beside"]


def test_a_training_starts_with_the_weights_of_another_run() -> None:
    assert train("first", "--hidden", 5).code == 0
    # The model's settings are those of the other run, also under another word of the same module.
    done = train("second", "--init-from", "first", "--rate", "1e-30", word="oddness")
    assert done.code == 0, done.err
    first, second = load_file("first/best.safetensors"), load_file("second/last.safetensors")
    assert first
    for name, tensor in first.items():
        assert torch.equal(second[f"model.{name}"], tensor), name
    saved = json.loads(Path("second/run.json").read_text())
    assert saved["config"]["model"]["hidden"] == 5
    assert saved["init_from"] == str(Path("first").absolute())
    assert package.load("second").codec == package.load("first").codec


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            ["--init-from", "first", "--hidden", "4"],
            r"do not fit this model: recurrent\.weight_ih_l0 is \(15, 1\) there and \(12, 1\) here; .* and 2 more",
        ),
        (["--init-from", "text"], "text is a run of language-model, whose model is not one of parity"),
        (["--init-from", "nowhere"], "no run folder at nowhere"),
        (["--init-from", "first", "--folds", "3"], "leave one out"),
        (["--folds", "1"], "--folds: '1' is not a whole number >= 2"),
        (["--folds", "x"], "--folds: 'x' is not a whole number >= 2"),
        (["--fold", "6/"], "--fold: '6/' is not"),
    ],
)
def test_what_does_not_fit_is_said_before_any_work(flags: list[str], says: str) -> None:
    assert train("first", "--hidden", 5).code == 0
    if "text" in flags:
        words = ["--data", "text.txt", "--run", "text", *TINY]
        assert elman("train", "language-model", *words).code == 0
    done = train("second", *flags)
    assert done.code == 2
    assert re.search(says, done.err), done.err
    assert not Path("second").exists()


@pytest.mark.parametrize("flag", [["--init-from", "x"], ["--folds", "2"], ["--dry-run"]])
def test_a_training_that_goes_on_has_its_start_behind_it(flag: list[str]) -> None:
    assert f"leave {flag[0]} out" in elman("train", "parity", "--resume", "first", *flag).err


def test_folds_are_tested_each_on_its_own_part() -> None:
    done = train("cross", "--folds", 4)
    assert done.code == 0, done.err
    runs = [package.load(f"cross/fold-{number}") for number in (1, 2, 3, 4)]
    tested = [line for run in runs for line in run.prepared.part("test")]
    assert sorted(tested) == sorted(Path("data.txt").read_text().split())
    values = [run.evaluate().value for run in runs]
    assert f"4 folds: accuracy {statistics.fmean(values):.3f}, from {min(values):.3f}" in done.err
    again = train("cross", "--folds", 4)
    assert again.code == 2
    assert "already holds a run" in again.err


def test_a_task_without_folds_says_so() -> None:
    done = elman("train", "language-model", "--data", "text.txt", "--folds", 3, *TINY)
    assert "--folds: the data of language-model cannot be divided into folds" in done.err


def test_a_missing_extra_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "elman.config.find_spec", lambda name: None if name == "tensorboard" else found(name), raising=True
    )
    done = train("run", "--tensorboard")
    assert done.code == 2
    assert (
        "--tensorboard needs the package tensorboard, which is not installed: pip install 'elman[tensorboard]'"
        in (done.err)
    )


class Writer:
    """What SummaryWriter is asked."""

    made: ClassVar[list["Writer"]] = []

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step, self.closed = folder, purge_step, False
        self.scalars: list[tuple[str, float, int]] = []
        self.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def test_tensorboard_gets_what_the_log_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("torch.utils.tensorboard.writer")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    for name in ("torch.utils.tensorboard", "torch.utils.tensorboard.writer"):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("elman.config.find_spec", lambda name: True)
    Writer.made.clear()
    assert train("run", "--tensorboard", "--log-every", 2, "--max-steps", 4).code == 0
    assert elman("train", "parity", "--resume", "run", "--max-steps", 0).code == 0
    first, second = Writer.made
    assert Path(first.folder) == Path("run/tensorboard")
    assert (first.purge_step, second.purge_step, first.closed, second.closed) == (1, 5, True, True)
    log = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    losses = [("train/loss", e["loss"], e["step"]) for e in log if e["event"] == "train"]
    scores = [("valid/score", e["score"], e["step"]) for e in log if e["event"] == "valid"]
    written = first.scalars + second.scalars
    assert [entry for entry in written if entry[0] == "train/loss"] == losses
    assert [entry for entry in written if entry[0] == "valid/score"] == scores


@pytest.mark.parametrize("flags", [["--stop-after", 2], ["--validate-every", 5], ["--schedule", "plateau"]])
def test_what_goes_by_validations_needs_some(flags: list[object]) -> None:
    words = ["train", "language-model", "--data", "text.txt", "--valid-share", 0, *TINY]
    done = elman(*words, *flags)
    assert done.code == 2
    assert "goes by validations, but there are no validation data" in done.err
    assert elman(*words).code == 0
