"""One run of a translator for all tests."""

from pathlib import Path

import pytest

from command import elman
from tests.translation.small_language import write


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data and the run `run`."""
    folder = tmp_path_factory.mktemp("translation")
    write(folder)
    done = elman(
        *(
            "train",
            "translation",
            "--data",
            folder / "train",
            "--from",
            "de",
            "--to",
            "en",
            "--run",
            folder / "run",
        ),
        *("--tokens", "words", "--min-count", "1", "--hidden", "32", "--dropout", "0", "--batch", "16"),
        *("--epochs", "6", "--rate", "0.02", "--smoothing", "0.05", "--threads", "1", "--quiet"),
    )
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
