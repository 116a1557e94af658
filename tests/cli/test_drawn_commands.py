"""Command lines, settings files and damaged runs drawn at random: each ends in an answer, or in one line and code 2."""

import os
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, get_origin

import pytest

from command import TINY, Result, elman, verse
from elman.config import Option, options
from elman.tasks.base import TASKS, find

SECONDS = 60
# How long a training takes is not what is drawn here.
LENGTHS = {"epochs", "max_steps", "minutes", "checkpoint_seconds", "folds", "tensorboard"}
WORDS = {
    int: [
        "0",
        "1",
        "2",
        "7",
        "-1",
        "-7",
        "1e9",
        "1000000000",
        "9" * 30,
        "-" + "9" * 30,
        "nan",
        "two",
        "",
        " 3",
        "0x10",
    ],
    float: ["0", "0.5", "1", "2.5", "-1", "inf", "-inf", "nan", "1e308", "1e309", "1e-320", "a", "", "1,5"],
    str: [
        "",
        "a",
        "text.txt",
        "nowhere",
        "\N{SNOWMAN}",
        "a\0b",
        "x" * 300,
        "..",
        "-",
        "[",
        "**",
        "cpu",
        "cuda:99",
    ],
    tuple: ["text.txt", "nowhere", ".", "pipe", "empty", "binary", "/dev/null", "", "wide.txt", "text.txt"],
}


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail rather than hang."""

    def late(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"no end after {seconds} s")

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def assert_answered(line: list[str]) -> Result:
    """A command ends with 0, or with 2 and one line that says why."""
    with within(SECONDS):
        result = elman(*line)
    assert result.code in {0, 2}, (line, result)
    assert "Traceback" not in result.err, (line, result)
    errors = [text for text in result.err.splitlines() if text.startswith("elman: error: ")]
    assert len(errors) == (result.code == 2), (line, result)
    return result


def word(draw: random.Random, entry: Option) -> list[str]:
    """A value, good or bad, as it is written after the flag."""
    if entry.choices:
        return [draw.choice([*entry.choices, "other"])]
    if get_origin(entry.plain_type) is tuple:
        return draw.choices(WORDS[tuple], k=draw.randint(1, 2))
    return [draw.choice(WORDS.get(entry.plain_type, WORDS[str]))]


def flags(draw: random.Random, settings: type, most: int = 3) -> list[str]:
    """Some flags with values."""
    known = [entry for entry in options(settings) if entry.name not in LENGTHS and not entry.positional]
    line: list[str] = []
    for entry in draw.sample(known, draw.randint(0, min(most, len(known)))):
        line.append(entry.flag)
        line += [] if entry.plain_type is bool else word(draw, entry)
    return line


def places(folder: Path) -> dict[Path, bytes]:
    """What lies in a folder, but for pipes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(verse(100))
    (tmp_path / "empty").write_text("")
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "wide.txt").write_bytes("wide letters\n".encode("utf-16") * 50)
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.parametrize("seed", range(12))
def test_a_drawn_training(seed: int, here: Path) -> None:
    draw = random.Random(seed)
    task = draw.choice(list(TASKS))
    before = places(here)
    drawn = flags(draw, find(task).settings)
    data = [] if "--data" in drawn else ["--data", "text.txt"]
    short = ["--max-steps", "2"]
    tiny = [*TINY, *short] if task == "language-model" else ["--threads", "1", "--quiet", *short]
    result = assert_answered(["train", task, *data, *tiny, "--run", "run", *drawn])
    kept = {path: found for path, found in places(here).items() if here / "run" not in path.parents}
    assert kept == before
    if result.code == 2 and "diverged" not in result.err:
        assert not (here / "run").exists()


def literal(draw: random.Random, entry: Option) -> str:
    """A value as TOML has it, of its own type or of another."""
    if draw.random() < 0.3:
        return draw.choice(
            ["1", "-1", "1.5", "nan", "inf", "true", '"a"', "[]", "[1]", "{a = 1}", "1979-05-27", "9" * 25]
        )
    if entry.plain_type is bool:
        return draw.choice(["true", "false"])
    if entry.plain_type in {int, float}:
        return draw.choice(["0", "1", "0.25", "-3", "1e400"])
    return f'"{draw.choice([*entry.choices, "text.txt", "other"])}"'


@pytest.mark.parametrize("seed", range(12))
def test_a_drawn_settings_file(seed: int, here: Path) -> None:
    draw = random.Random(seed)
    task = find("language-model")
    known = [entry for entry in options(task.settings) if entry.name not in LENGTHS]
    lines: dict[str, list[str]] = {}
    for entry in draw.sample(known, draw.randint(1, 4)):
        name = draw.choice([entry.name, entry.flag.removeprefix("--"), entry.flag.removeprefix("--"), "zzz"])
        section = draw.choice([entry.section] * 5 + ["other", "data"])
        lines.setdefault(section, []).append(f"{name} = {literal(draw, entry)}")
    text = "\n".join(f"[{section}]\n" + "\n".join(rows) for section, rows in lines.items())
    text = text if draw.random() < 0.9 else text[: draw.randrange(len(text))] + "="
    Path("settings.toml").write_text(text)
    assert_answered(
        [
            "train",
            "language-model",
            "--config",
            "settings.toml",
            "--data",
            "text.txt",
            *TINY,
            "--max-steps",
            "2",
        ]
    )


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to be damaged."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "text.txt").write_text(verse(100))
    done = elman("train", "language-model", "--data", folder / "text.txt", "--run", folder / "run", *TINY)
    assert done.code == 0, done.err
    return folder / "run"


def damage(draw: random.Random, run: Path) -> None:
    """Spoil one file of a run."""
    path = draw.choice([path for path in sorted(run.iterdir()) if path.is_file() and path.name != ".lock"])
    raw = path.read_bytes()
    kind = draw.choice(["gone", "cut", "flipped", "empty", "folder", "pipe", "other"])
    path.unlink()
    if kind == "cut":
        path.write_bytes(raw[: draw.randrange(len(raw))])
    elif kind == "flipped":
        place = draw.randrange(len(raw))
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1 << draw.randrange(8)]) + raw[place + 1 :])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "other":
        path.write_bytes(
            draw.choice([b"{}", b"[]", b"null", b'{"format": 2}', b"\xff" * 50, b"[" * 5000, b"1e999"])
        )


def use(draw: random.Random, run: Path) -> list[str]:
    """A command that needs a run."""
    return draw.choice(
        [
            ["evaluate", str(run)],
            ["evaluate", str(run), "--json", "--checkpoint", "last"],
            ["generate", str(run), "--length", "3"],
            ["predict", str(run), str(run.parent / "text.txt"), "--length", "2"],
            ["report", str(run)],
            ["draw", str(run)],
            ["list", str(run.parent)],
            ["compare", str(run), str(run)],
            ["train", "language-model", "--resume", str(run), "--quiet"],
            ["train", "language-model", "--resume", str(run), "--quiet", "--epochs", "2"],
            ["train", "language-model", "--config", str(run), *TINY, "--run", str(run.parent / "another")],
        ]
    )


@pytest.mark.parametrize("seed", range(25))
def test_a_damaged_run(seed: int, here: Path, sound: Path) -> None:
    draw = random.Random(seed)
    shutil.copytree(sound, here / "run")
    damage(draw, here / "run")
    assert_answered(use(draw, here / "run"))


@pytest.mark.parametrize("seed", range(12))
def test_drawn_flags_of_a_verb(seed: int, here: Path, sound: Path) -> None:
    draw = random.Random(seed)
    verb = draw.choice(["evaluate", "generate", "predict", "report", "draw"])
    settings: Any = find("language-model").verbs()[verb].settings
    inputs = ["text.txt"] if verb == "predict" else []
    shutil.copytree(sound, here / "run")
    assert_answered(
        [
            verb,
            "run",
            *inputs,
            *(["--length", "3"] if verb in {"generate", "predict"} else []),
            *(word for word in flags(draw, settings, 2)),
        ]
    )
