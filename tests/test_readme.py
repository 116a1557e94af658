"""The documentation: every Python block runs, in the order of its page; every link and make target exists."""

import re
from pathlib import Path

import pytest

from command import TINY, elman, verse
from tests.captioning import shapes
from tests.classification import moods
from tests.music import tunes
from tests.series.conftest import small_series
from tests.speech import sounds
from tests.tagging import names as tagged
from tests.translation import small_language
from tests.video_tagging import made as clips

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)\)|src=\"(?!https?:)([^\"]+)\"")
TARGET = re.compile(r"(?:`|^    |^\$ )make ([a-z]+)", re.MULTILINE)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# The pages of a lecture are run by tests/test_learn.py, which looks at their pictures too.
WITH_CODE = [page for page in PAGES if page.parent.name != "learn" and BLOCK.search(page.read_text("utf-8"))]


@pytest.mark.parametrize("page", WITH_CODE, ids=name)
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    if "runs/demo" in text:
        (tmp_path / "text.py").write_text(verse() + "import def os\n" * 60, encoding="utf-8")
        assert elman("train", "language-model", *TINY, "--data", "text.py", "--run", "runs/demo").code == 0
    if "runs/reviews" in text:
        moods.write(tmp_path / "reviews.csv", 60, 0)
        small = ["--hidden", "8", "--epochs", "1", "--threads", "1", "--engine", "torch", "--quiet"]
        assert elman("train", "emotion", *small, "--data", "reviews.csv", "--run", "runs/reviews").code == 0
    if "runs/songs" in text:
        tunes.write_lines(tmp_path / "songs.jsonl", 30)
        small = ["--hidden", "8", "--epochs", "1", "--threads", "1", "--engine", "torch", "--quiet"]
        assert elman("train", "music", *small, "--data", "songs.jsonl", "--run", "runs/songs").code == 0
    if "runs/names" in text:
        tagged.write(tmp_path / "names.conll", 60, 0)
        small = ["--hidden", "8", "--letters", "4", "--epochs", "1", "--threads", "1", "--quiet"]
        assert elman("train", "tagging", *small, "--data", "names.conll", "--run", "runs/names").code == 0
    if "runs/dictation" in text:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        sounds.write_table(tmp_path, sounds.texts(40))
        sounds.write_wav(tmp_path / "interview.wav", sounds.tones("ab c"))
        small = ["--hidden", "8", "--epochs", "1", "--threads", "1", "--engine", "torch", "--quiet"]
        flags = [*small, "--no-bidirectional", "--data", "data.csv", "--run", "runs/dictation"]
        assert elman("train", "speech", *flags).code == 0
    if 'load("runs/actions")' in text:
        clips.write_frames(tmp_path / "frames.csv", 30)
        clips.write_features(tmp_path, 4)
        (tmp_path / "3.csv").rename(tmp_path / "wave.csv")
        small = ["--hidden", "8", "--epochs", "1", "--threads", "1", "--engine", "torch", "--quiet"]
        flags = [*small, "--no-bidirectional", "--data", "frames.csv", "--run", "runs/actions"]
        assert elman("train", "video-tagging", *flags).code == 0
    if 'load("runs/sales")' in text:
        (tmp_path / "sales.csv").write_text(small_series(90), encoding="utf-8")
        small = ["--hidden", "8", "--epochs", "1", "--threads", "1", "--quiet"]
        assert elman("train", "series", *small, "--data", "sales.csv", "--run", "runs/sales").code == 0
    if "runs/de-en" in text:
        small_language.write(tmp_path, 80, 0)
        small = ["--hidden", "8", "--epochs", "1", "--threads", "1", "--engine", "torch", "--quiet"]
        flags = [*small, "--data", "train", "--from", "de", "--to", "en", "--run", "runs/de-en"]
        assert elman("train", "translation", *flags).code == 0
    if "runs/photos" in text:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        shapes.write(tmp_path, 40)
        (tmp_path / "holiday.jpg").write_bytes((tmp_path / "pictures/1.png").read_bytes())
        small = [
            "--hidden",
            "8",
            "--size",
            "16",
            "--channels",
            "4",
            "--epochs",
            "1",
            "--threads",
            "1",
            "--quiet",
        ]
        assert (
            elman("train", "captioning", *small, "--data", "captions.csv", "--run", "runs/photos").code == 0
        )
    names: dict[str, object] = {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        # Blank lines in front, so that a traceback gives the line of the page.
        code = "\n" * (text.count("\n", 0, block.start()) + 1) + block[1]
        exec(compile(code, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_targets_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = {a or b for a, b in LINK.findall(text)}
    missing = sorted(link for link in links if not (page.parent / link).exists())
    assert not missing
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(TARGET.findall(text)) <= targets
