"""The table of exits in docs/export.md, beside what the exits do with a model of each kind.

`python -m tests.frozen.test_exits` prints what they do.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import elman as package
import elman.onnx
from command import elman
from elman import nn as en
from elman.onnx.quantizing import quantize
from elman.runtime import Frozen, load
from elman.tasks.base import TASKS
from elman.web import pages
from tests.music import tunes
from tests.series.test_classes import turns
from tests.series.test_classes import write as write_turns
from tests.tasks.test_contract import CASES

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
COLUMNS = ["a frozen file", "elman.runtime", "C", "a page", "ONNX", "int8", "ONNX int8"]
BRIEF = ["--threads", "1", "--quiet", "--epochs", "1"]


class Kind(NamedTuple):
    """A kind of run. data: makes data.txt, or what the flags name, in the current folder."""

    task: str
    data: Callable[[], Any]
    flags: list[str]


def contract(task: str, *more: str) -> Kind:
    return Kind(task, CASES[task].data, [*CASES[task].flags, *more])


MUSIC = ["--data", "data.txt", "--hidden", "6", "--batch", "8", "--resolution", "2"]
SPEECH = [flag for flag in CASES["speech"].flags if flag != "--no-bidirectional"]
# By the name of its row.
RUNS = {
    "a language model": contract("language-model"),
    "a classifier of texts": contract("classification"),
    "a tagger of words": contract("tagging"),
    "series: a forecast at once": contract("series"),
    "series: forecasts by paths (`--ahead steps`)": contract("series", "--ahead", "steps"),
    "series: anomalies": contract("series", "--target", "anomalies"),
    "series: classes": Kind(
        "series", lambda: write_turns(Path("data.ts"), turns(60, 0)),
        ["--data", "data.ts", "--target", "classify", "--hidden", "6", "--batch", "8"],
    ),
    "speech by CTC": contract("speech"),
    "speech by a decoder with attention": Kind(
        "speech", CASES["speech"].data, [*SPEECH, "--decoder", "attention"]
    ),
    "recordings: classes": contract("speech", "--target", "class", "--label", "speaker"),
    "music: a roll (`--nade 0`), events": contract("music", "--nade", "0"),
    "music: a roll with a NADE": contract("music", "--nade", "8"),
    "tags of clips": contract("video-tagging"),
    "a translator": contract("translation"),
    "captions": contract("captioning"),
}  # fmt: skip
EVENTS = Kind("music", lambda: tunes.write_lines(Path("data.txt"), 40), [*MUSIC, "--kind", "events"])


def layers() -> dict[str, torch.nn.Module]:
    """One of each kind that stands in a row of layers and networks."""
    torch.manual_seed(0)
    table = en.Embedding(7, 3)
    return {
        "a layer or a stack of layers": en.LSTM(3, 4, num_layers=2),
        "a network (`Tagger`, `LanguageModel`, `SequenceClassifier`)": en.Tagger(table, en.GRU(3, 4), 2),
        "a `SequenceGenerator`": en.SequenceGenerator(table, en.GRU(3, 4), 7),
    }


def told() -> dict[str, list[str]]:
    """The cells of each row, as the page has them."""
    lines = PAGE.read_text(encoding="utf-8").split("## Which kind leaves by which exit")[1].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert rows[0][1:] == COLUMNS
    return {row[0]: row[1:] for row in rows[1:]}


def reasons() -> dict[str, str]:
    """What the command says where a number stands in a cell."""
    return dict(re.findall(r"^(\d+)\. \*(.+?)\*", PAGE.read_text(encoding="utf-8"), re.MULTILINE))


@contextmanager
def core_for_browsers() -> Iterator[None]:
    """Something in its place where it was never built: what is asked here is whether there is a page."""
    core, pages.MODULE = pages.MODULE, pages.MODULE if pages.MODULE.exists() else PAGE
    try:
        yield
    finally:
        pages.MODULE = core


def of_run(kind: Kind) -> list[str]:
    """For each column "yes", or what the command said; in the current folder."""
    kind.data()
    done = elman("train", kind.task, "--run", "run", *kind.flags, *BRIEF)
    assert done.code == 0, done.err

    def by(form: str, *more: str) -> str:
        name = "-".join(["made", form, *more])
        with core_for_browsers():
            done = elman("export", "run", "--to", form, "--file", name, *more)
        assert (done.code, Path(name).exists()) in {(0, True), (2, False)}, done.err
        assert done.code == 0 or done.err.count("\n") == 1, done.err
        return "yes" if done.code == 0 else done.err.strip()

    frozen = by("frozen")
    answers = frozen
    if frozen == "yes":
        answers = "numbers" if type(load("made-frozen")) is Frozen else "yes"
    cells = [frozen, answers, by("c"), by("html"), by("onnx"), by("frozen", "--int8"), by("onnx", "--int8")]
    if cells[0] == "yes":  # the program and the page have the same file in them
        assert by("c", "--int8") == cells[5]
        assert cells[3] != "yes" or by("html", "--int8") == cells[5]
    return cells


def of_layer(model: torch.nn.Module) -> list[str]:
    """The same of a layer or a network, from Python; there are no pages of these."""

    def by(write: Callable[[], Any]) -> str:
        try:
            write()
        except (TypeError, ValueError) as error:
            return str(error)
        return "yes"

    def in_eight_bits() -> None:
        elman_onnx.export(model.eval(), "whole.onnx")
        quantize("whole.onnx", "small.onnx")

    elman_onnx = package.onnx
    frozen = by(lambda: package.export(model, "made.elman"))
    if frozen == "yes":
        assert type(load("made.elman")) is Frozen
    whole = by(lambda: elman_onnx.export(model.eval(), "made.onnx"))
    eight = by(lambda: package.export(model, "made8.elman", int8=True))
    numbers = "numbers" if frozen == "yes" else frozen
    return [frozen, numbers, frozen, "of a run", whole, eight, by(in_eight_bits)]


def assert_told(name: str, found: list[str]) -> None:
    expected, said = told()[name], reasons()
    for column, cell, one in zip(COLUMNS, expected, found, strict=True):
        where = f"{name}, {column}: the page says {cell!r}, and the exit: {one}"
        number = re.fullmatch(r"no \((\d+)\)", cell)
        assert (said[number[1]] in one) if number else one.startswith(cell), where


def test_every_kind_has_a_row() -> None:
    assert list(told()) == [*layers(), *RUNS]
    assert {TASKS[kind.task].module for kind in RUNS.values()} == {word.module for word in TASKS.values()}
    cells = {cell for row in told().values() for cell in row}
    assert {cell[4:-1] for cell in cells - {"yes", "numbers", "of a run"}} == set(reasons())


@pytest.mark.parametrize("name", layers())
def test_layers_leave_as_the_table_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_told(name, of_layer(layers()[name]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RUNS)
def test_runs_leave_as_the_table_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kinds = [RUNS[name], EVENTS] if name.endswith("events") else [RUNS[name]]
    for number, kind in enumerate(kinds):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))
        assert_told(name, of_run(kind))


def main(wanted: list[str]) -> None:
    """Print the cells of each kind, of those whose names begin so."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        made: list[tuple[str, Callable[[], list[str]]]] = []
        made += [(name, lambda model=model: of_layer(model)) for name, model in layers().items()]
        made += [(name, lambda kind=kind: of_run(kind)) for name, kind in [*RUNS.items(), ("events", EVENTS)]]
        for number, (name, find) in enumerate(made):
            if wanted and not any(name.startswith(word) for word in wanted):
                continue
            (Path(folder) / str(number)).mkdir()
            with chdir(Path(folder) / str(number)):
                print(
                    name, *(f"  {c}: {f}" for c, f in zip(COLUMNS, find(), strict=True)), sep="\n", flush=True
                )


if __name__ == "__main__":
    main(sys.argv[1:])
