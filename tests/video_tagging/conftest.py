"""Two small taggers of one direction, trained once for all tests: of features, and of films."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from command import elman
from tests.video_tagging.made import write_films, write_frames

SMALL = ["--hidden", "12", "--no-bidirectional", "--dropout", "0", "--rate", "0.02", "--engine", "torch"]
SMALL += ["--threads", "1", "--quiet", "--batch", "8"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One table of frames, films, and a run of each."""
    home = tmp_path_factory.mktemp("video")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.chdir(home)
        write_frames(Path("frames.csv"), 60)
        flags = ["--group", "person", "--differences", "1", "--feature-rate", "4", "--epochs", "20"]
        done = elman("train", "video-tagging", "--data", "frames.csv", "--run", "rows", *flags, *SMALL)
        assert done.code == 0, done.err
        write_films(Path("films"), 32)
        seen = [
            "--size",
            "32",
            "--channels",
            "4",
            "8",
            "--encoded",
            "12",
            "--epochs",
            "12",
            "--labels",
            "several",
            "--differences",
            "1",
        ]
        done = elman("train", "video-tagging", "--data", "films", "--run", "run", *seen, *SMALL)
        assert done.code == 0, done.err
        yield home
