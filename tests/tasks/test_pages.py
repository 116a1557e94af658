"""Pages that commands write: over an earlier page, and over nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from command import elman
from tests.classification import moods

SMALL = ["--hidden", 6, "--embedding", 5, "--batch", 16, "--threads", 1, "--epochs", 1, "--quiet"]


def test_only_a_page_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    moods.write(Path("data.csv"), 120, 0)
    Path("in.txt").write_text("so it is\n")
    done = elman("train", "emotion", "--data", "data.csv", "--run", "run", *SMALL, "--engine", "torch")
    assert done.code == 0, done.err
    commands = [
        ("--to", ["report", "run"]),
        ("--to", ["inspect", "run"]),
        ("--to", ["compare", "run", "run"]),
        ("--html", ["predict", "run", "in.txt"]),
    ]
    mine, page = Path("mine"), Path("page.html")
    page.touch()  # as made to hold a name
    for flag, words in commands:
        for other in (b"weights", b"<!doctype html><html></html>", Path("data.csv").read_bytes()):
            mine.write_bytes(other)
            done = elman(*words, flag, mine)
            assert done.code == 2
            said = "mine is there already, and is no page that elman wrote: remove it"
            assert done.err == f"elman: error: {said}, or give {flag} another name\n"
            assert mine.read_bytes() == other
        before = page.read_bytes()
        done = elman(*words, flag, page)
        assert done.code == 0, done.err
        assert page.read_bytes() not in {before, b""}
    old = page.read_text().replace('<meta name="generator" content="Elman">', "")
    page.write_text(old)  # as of a version that did not say so
    assert elman("report", "run", "--to", page).code == 0
    done = elman("report", "run", "--to", "none/page.html")
    assert (done.code, done.err) == (
        2,
        "elman: error: none/page.html cannot be written: No such file or directory\n",
    )
