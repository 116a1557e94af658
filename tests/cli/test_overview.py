"""`elman list` and `elman compare`: what the folders say, also of runs that are young, old, broken off or damaged."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from command import SOURCE, TINY, elman, verse

FIXTURE = Path(__file__).parent.parent / "fixtures" / "format_1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, one of them in a folder below, one of format 1, and a damaged one."""
    folder = tmp_path_factory.mktemp("list")
    (folder / "text.txt").write_text(verse(40))
    for name, hidden in (("a", 8), ("deep/b", 5)):
        flags = ["--data", folder / "text.txt", "--run", folder / "runs" / name, *TINY, "--hidden", hidden]
        done = elman("train", "language-model", *flags)
        assert done.code == 0, done.err
    shutil.copytree(FIXTURE, folder / "runs" / "old")
    shutil.copytree(folder / "runs" / "a", folder / "runs" / "bad")
    (folder / "runs" / "bad" / "run.json").write_text("{")
    return folder


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def test_every_run_has_a_line(here: Path) -> None:
    done = elman("list")
    lines = done.out.splitlines()
    assert lines[0].split()[:3] == ["run", "task", "measure"]
    rows = {line.split()[0]: line for line in lines[1:]}
    assert rows.keys() == {"runs/a", "runs/deep/b", "runs/old", "runs/bad/run.json"}
    measured = json.loads(elman("evaluate", "runs/a", "--json").out)
    assert f"bits per character {measured['value']:.3f}" in rows["runs/a"]
    assert " test " in rows["runs/a"]
    # Format 1 knew a loss only.
    assert "loss 5." in rows["runs/old"]
    assert "is damaged" in rows["runs/bad/run.json"]


def test_objects_and_folders(here: Path) -> None:
    found = [json.loads(line) for line in elman("list", "runs/deep", "runs/old", "--json").out.splitlines()]
    assert {one["run"] for one in found} == {"runs/deep/b", "runs/old"}
    deep = next(one for one in found if one["run"] == "runs/deep/b")
    assert deep["score"]["name"] == "bits per character"
    assert deep["parameters"] > 0
    assert elman("list", "nowhere").err == "elman: error: no such folder: nowhere\n"


def test_listing_needs_no_torch(here: Path) -> None:
    code = "import sys; from elman.cli import run; run(['list']); sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONPATH": SOURCE}, capture_output=True, check=False
        ).returncode
        == 0
    )


def test_runs_side_by_side_show_where_they_differ(here: Path) -> None:
    lines = elman("compare", "runs/a", "runs/deep/b", "--to", "page.html").out.splitlines()
    header, first, second = (line.split() for line in lines[:3])
    assert "hidden" in header
    assert "batch" not in header
    assert first[0] == "runs/a"
    assert second[0] == "runs/deep/b"
    page = Path("page.html").read_text()
    assert page.count("<polyline") == 2
    assert "http" not in page
    objects = [json.loads(line) for line in elman("compare", "runs/a", "runs/old", "--json").out.splitlines()]
    assert objects[0]["differs"]["tokens"] == "characters"
    assert objects[1]["differs"]["tokens"] == "bytes"


@pytest.mark.parametrize("runs", [[], ["runs/a"]])
def test_one_run_cannot_be_compared(here: Path, runs: list[str]) -> None:
    assert "needs two runs at least" in elman("compare", *runs).err
