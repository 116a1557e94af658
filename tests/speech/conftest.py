"""One small recognizer of one direction, trained once for all tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import elman as package
from command import elman
from tests.speech.sounds import texts, write_table

FLAGS = [
    *(
        "--hidden",
        "24",
        "--layers",
        "1",
        "--no-bidirectional",
        "--epochs",
        "24",
        "--batch",
        "8",
        "--rate",
        "0.03",
    ),
    *("--stride", "2", "--bands", "20", "--speeds", "1", "--dropout", "0", "--gain", "0", "--equalizer", "0"),
    *("--time-masks", "0", "--band-masks", "0", "--engine", "torch", "--threads", "1", "--quiet"),
]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Recordings, a table of them, and a run."""
    home = tmp_path_factory.mktemp("speech")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.chdir(home)
        write_table(home, texts(80))
        done = elman("train", "speech", "--data", "data.csv", "--run", "run", *FLAGS)
        assert done.code == 0, done.err
        yield home


@pytest.fixture
def trained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(folder)
    return package.load("run")
