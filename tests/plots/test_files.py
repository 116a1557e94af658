"""A picture is on disk whole or not at all."""

from pathlib import Path

import pytest

from elman.plots import draw_model
from elman.plots.files import write
from tests.plots.examples import language_model


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = write(tmp_path / "picture.svg", b"old")

    def full(part: Path, _: Path) -> int:
        raise OSError(f"no space for {part.stat().st_size} bytes")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space for 14 bytes"):
        write(picture, b"new and longer")
    assert picture.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [picture]


def test_pictures_are_replaced(tmp_path: Path) -> None:
    draw_model(language_model(steps=10), tmp_path)
    paths = draw_model(language_model(steps=77), tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert "T = 77" in (tmp_path / "unfolded.svg").read_text(encoding="utf-8")
