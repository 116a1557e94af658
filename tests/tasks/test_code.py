"""A run with a cell of the user's own names code: it is run by leave only, and only as it was in training."""

import json
import sys
from pathlib import Path

import pytest

import elman as package
from command import TINY, elman, verse
from elman.config import UserError

CELL = """
import pathlib

import torch
from torch import nn

pathlib.Path("ran").touch()


class Cell(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.hidden_size = hidden_size
        self.map = nn.Linear(input_size + hidden_size, hidden_size)

    def forward(self, x, h):
        h = torch.tanh(self.map(torch.cat((x, h), -1)))
        return h, h
"""
FLAGS = [flag for flag in TINY if flag not in {"--engine", "torch"}]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with its cell in a module of the working directory."""
    name = f"cell_{tmp_path.name}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path(f"{name}.py").write_text(CELL)
    Path("text.txt").write_text(verse(40))
    words = [
        "train",
        "language-model",
        "--data",
        "text.txt",
        "--run",
        "run",
        "--cell",
        f"{name}:Cell",
        *FLAGS,
    ]
    done = elman(*words)
    assert done.code == 0, done.err
    del sys.modules[name]
    Path("ran").unlink()
    return Path(f"{name}.py")


def test_code_is_named_and_not_run_without_leave(run: Path) -> None:
    with pytest.raises(UserError, match=rf"needs code .*: {run.stem}:Cell.*trust=True"):
        package.load("run")
    for words in (["evaluate", "run"], ["generate", "run"], ["train", "language-model", "--resume", "run"]):
        done = elman(*words)
        assert done.code == 2
        assert "give --allow-code" in done.err
    assert not Path("ran").exists()
    assert elman("list", ".").code == 0
    assert not Path("ran").exists()


def test_with_leave_it_runs_and_goes_on(run: Path) -> None:
    assert package.load("run", trust=True).evaluate().value > 0
    assert Path("ran").exists()
    assert elman("evaluate", "run", "--allow-code").code == 0
    again = ["train", "language-model", "--resume", "run", "--epochs", 2, "--quiet"]
    assert elman(*again, "--allow-code").code == 0


def test_other_code_under_the_same_name_is_refused_a_comment_is_not(run: Path) -> None:
    assert len(json.loads(Path("run/run.json").read_text())["code"]["sha256"]) == 64
    run.write_text("# changed by hand\n" + CELL + "\n\n# the end\n")
    assert package.load("run", trust=True)
    run.write_text(CELL.replace("tanh", "sigmoid"))
    with pytest.raises(UserError, match="has changed since run was trained"):
        package.load("run", trust=True)
    run.unlink()
    with pytest.raises(UserError, match="there is no module"):
        package.load("run", trust=True)
