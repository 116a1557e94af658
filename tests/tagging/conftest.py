"""One run that finds spans for all tests, and one with plain tags."""

from pathlib import Path

import pytest

from command import elman
from tests.tagging import names

SMALL = ["--hidden", "12", "--embedding", "12", "--letters", "8", "--letter-embedding", "6", "--batch", "8"]
SMALL += ["--dropout", "0.1", "--rate", "0.03", "--threads", "1", "--quiet"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data and the run `run`, which answers by a chain."""
    folder = tmp_path_factory.mktemp("names")
    names.write(folder / "data.conll", 240, 0)
    flags = ["--data", folder / "data.conll", "--run", folder / "run", "--epochs", "10", "--output", "crf"]
    done = elman("train", "tagging", *flags, *SMALL)
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with plain tags and a softmax."""
    folder = tmp_path_factory.mktemp("plain")
    names.write_parts(folder / "data.txt", 200, 0)
    flags = ["--data", folder / "data.txt", "--run", folder / "run", "--epochs", "3", "--smoothing", "0.05"]
    done = elman("train", "tagging", *flags, *SMALL)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
