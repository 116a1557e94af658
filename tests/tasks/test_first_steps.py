"""What a newcomer meets first: stray quotes, files called labels.txt, pipes, cells that do not fit."""

import itertools
import os
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from elman.config import UserError
from elman.data.account import Account
from elman.data.corpus import CorpusSettings
from elman.data.corpus import read_part as read_text
from elman.data.delimited import sniff
from elman.data.inputs import check_inputs
from elman.data.labelled import read_labelled
from elman.data.pieces import Piece
from elman.data.vocabulary import Words, learn
from elman.tasks import verbs
from elman.tasks.base import TASKS, configure, find
from elman.tasks.classification.texts import read_part
from elman.tasks.code import made
from elman.training.progress import BAR_WIDTH, PERCENTAGE, SPACES, fitted

CELLS = """
import torch


class OneArgument(torch.nn.Module):
    def __init__(self, input_size):
        super().__init__()


class Refuses(torch.nn.Module):
    def __init__(self, input_size, hidden_size):
        raise ArithmeticError("an odd width is needed")


class Halves(torch.nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.hidden_size, self.output_size = hidden_size, hidden_size // 2
        self.dense = torch.nn.Linear(input_size + hidden_size, hidden_size)

    def forward(self, x, h):
        h = torch.tanh(self.dense(torch.cat((x, h), -1)))
        return h[..., : self.output_size], h
"""


@pytest.mark.parametrize("delimiter", ["\t", ";", "|"])
@pytest.mark.parametrize("seed", range(5))
def test_quotes_that_are_letters_stay(tmp_path: Path, delimiter: str, seed: int) -> None:
    draw = random.Random(seed)
    words = ['"so-called"', "plain", 'a"b', '"', "end"]
    texts = [" ".join(draw.choices(words, k=draw.randint(2, 5))) + f" {i}" for i in range(40)]
    path = tmp_path / "rows.txt"
    rows = [f"text{delimiter}label", *(f"{text}{delimiter}{'ab'[i % 2]}" for i, text in enumerate(texts))]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert [example.text for example in read_labelled([str(path)], Account())] == texts


def test_escaped_quotes_are_still_recognized() -> None:
    rows = ["text,label"] + [f'"he said \\"no, {i}\\"",a' for i in range(20)]
    found = sniff("\n".join(rows))
    assert found is not None
    assert found.escape == "\\"


def _rows(path: Path, labels: tuple[str, ...]) -> str:
    rows = [f"word{i} text,{labels[i % len(labels)]}" for i in range(40)]
    path.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("beside", ["up\ndown\nup\n", "\n", "up\nother\n", "down\nup\n"])
def test_a_file_beside_the_data_costs_no_label(tmp_path: Path, beside: str) -> None:
    """It is called labels.txt, and holds the labels of other texts, one a line, or something else."""
    data = _rows(tmp_path / "rows.csv", ("up", "down", "still"))
    (tmp_path / "labels.txt").write_text(beside, encoding="utf-8")
    task = find("classification")
    prepared = task.prepare(configure(task, {"data.train": [data]}), None)
    assert set(prepared.codec.labels.names) == {"up", "down", "still"}


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_never_ends_is_not_predicted(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pipe" if kind == "pipe" else Path("/dev/zero")
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(UserError, match=f"is a {kind}.*standard input"):
        check_inputs([str(path)])


@pytest.mark.parametrize("width", [30, 40, 60, 80, 200])
def test_a_bar_gives_way_in_whole_fields(width: int) -> None:
    speeds, figures = (
        ("7 words/s", "1,234,567 characters/s"),
        ("loss 1.0", "loss 12.345  bits/character 17.81"),
    )
    for speed, figure, epoch in itertools.product(speeds, figures, ("epoch 1/2", "step 1,000,000/2,000,000")):
        fields = {"epoch": epoch, "figures": figure, "speed": speed, "left": "1:02:03 left"}
        found = fitted(fields, width)
        assert all(found[name] in {"", fields[name]} for name in fields)
        assert (found["figures"], found["left"]) == (figure, fields["left"])
        length = sum(map(len, found.values())) + BAR_WIDTH + SPACES + PERCENTAGE
        assert length <= width or (found["speed"], found["epoch"]) == ("", "")
        if width == 200:
            assert found == fields


def test_words_that_a_model_does_not_know_are_named() -> None:
    words = Words.learn([Piece("the cat sat\n")], size=0, min_count=1)
    assert words.strange("the dog sat\nby the dog a cat") == ["dog", "by", "a"]
    assert words.strange("the cat") == []
    assert learn("bytes", [], size=0, min_count=1, marked=False).strange("anything") == []


@pytest.mark.parametrize(
    ("cell", "tied", "said"),
    [
        ("OneArgument", False, "TypeError"),
        ("Refuses", False, r"odd width is needed \(.*first_cells\.py:12\)"),
        ("Halves", True, "make the widths equal"),
    ],
)
def test_a_cell_that_does_not_fit_is_an_error_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str, tied: bool, said: str
) -> None:
    (tmp_path / "first_cells.py").write_text(CELLS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    task = find("language-model")
    given = {"model.cell": f"first_cells:{cell}", "model.tied": tied, "model.hidden": 8}
    codec = learn("characters", ["abc"], size=0, min_count=1, marked=False)
    with pytest.raises(UserError, match=said):
        made(task, configure(task, given), codec)


@pytest.mark.parametrize("layers", [0, 1001, 10**9])
@pytest.mark.parametrize("name", list(TASKS))
def test_layers_are_bounded(name: str, layers: int) -> None:
    if name == "captioning":
        pytest.skip("its network has one recurrent layer")
    with pytest.raises(UserError, match="layers"):
        configure(find(name), {"model.layers": layers})


def test_what_evaluate_leaves_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = find("classification")
    config = configure(
        task, {"data.train": [_rows(tmp_path / "rows.csv", ("up", "down"))], "data.on_bad": "skip"}
    )
    codec = task.prepare(config, None).codec
    other = tmp_path / "other.csv"
    other.write_text("text,label\na,up\n,up\nb,sideways\nc,down\n", encoding="utf-8")
    (tmp_path / "other.txt").write_text("abc\n", encoding="utf-8")
    letters = learn("characters", ["abc\n"], size=0, min_count=1, marked=False)
    read = [
        read_part((str(other),), config.data, codec).account,
        read_text([str(tmp_path / "other.txt")], CorpusSettings(), letters).account,
    ]
    for account, line in zip(read, ("read 4 rows, used 2, left out 2", "read 1 files, used 1"), strict=True):
        stub = SimpleNamespace(measured=lambda settings: 1, in_words=str, account=account)
        list(verbs.evaluate(stub, verbs.Evaluate(data=("other",))))  # type: ignore[arg-type]
        assert line in capsys.readouterr().err
