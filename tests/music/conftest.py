"""One run of each kind of model for all tests."""

from pathlib import Path

import pytest

from command import elman
from tests.music import tunes

SMALL = ["--hidden", "16", "--batch", "8", "--threads", "1", "--quiet", "--dropout", "0", "--resolution", "2"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, the run `run` of a model with independent keys, and the runs `nade` and `events`."""
    folder = tmp_path_factory.mktemp("music")
    tunes.write_lines(folder / "data.jsonl", 60)
    for run, more in (("run", ("--nade", "0")), ("nade", ("--nade", "8")), ("events", ("--kind", "events"))):
        data = ("--data", folder / "data.jsonl", "--run", folder / run, "--transpose", "3")
        done = elman("train", "music", *data, *SMALL, "--epochs", "12", "--rate", "0.02", *more)
        assert done.code == 0, done.err
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
