"""One run of a captioner for all tests."""

from pathlib import Path

import pytest

from command import elman
from tests.captioning.shapes import write


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data and the run `run`."""
    folder = tmp_path_factory.mktemp("captioning")
    write(folder, 200)
    done = elman(
        *("train", "captioning", "--data", folder, "--run", folder / "run", "--cache", folder / "cache"),
        *("--size", "24", "--channels", "12", "24", "--depth", "1", "--hidden", "24", "--dropout", "0"),
        *("--grid-dropout", "0", "--turn", "0", "--light", "0", "--zoom", "0", "--doubly", "0.01"),
        *(
            "--batch",
            "16",
            "--epochs",
            "14",
            "--valid-share",
            "0.2",
            "--test-share",
            "0.2",
            "--rate",
            "0.006",
            "--smoothing",
            "0.05",
        ),
        *("--threads", "1", "--quiet"),
    )
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
