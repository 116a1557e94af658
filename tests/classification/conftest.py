"""One run of a classifier for all tests, and one with several labels."""

import os
from pathlib import Path

import pytest

from command import elman
from tests.classification import moods

SMALL = [
    "--hidden",
    "12",
    "--embedding",
    "16",
    "--batch",
    "16",
    "--dropout",
    "0.1",
    "--threads",
    "1",
    "--quiet",
]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data and the run `run`."""
    folder = tmp_path_factory.mktemp("moods")
    moods.write(folder / "data.csv", 600, 0)
    done = elman(
        "train",
        "emotion",
        "--data",
        folder / "data.csv",
        "--run",
        folder / "run",
        *SMALL,
        "--epochs",
        "6",
        "--rate",
        "0.02",
    )
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with several labels a text."""
    folder = tmp_path_factory.mktemp("several")
    moods.write_several(folder / "data.tsv", 500, 0)
    done = elman(
        "train",
        "emotion",
        "--data",
        folder / "data.tsv",
        "--run",
        folder / "run",
        *SMALL,
        "--epochs",
        "6",
        "--rate",
        "0.02",
    )
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    assert Path.cwd() == tmp_path or os.name != "posix"
    return tmp_path
