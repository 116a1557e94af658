"""`elman inspect`: what is asked for is shown, what cannot be is said, and the report loses nothing by it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import elman as package
from command import elman, verse
from elman.tasks.base import load
from elman.tasks.inspection import look
from elman.tasks.inspection.looking import SHORT, fresh
from elman.tasks.session import _learner
from elman.training.progress import Silent

SMALL = ["--hidden", "7", "--batch", "2", "--steps", "8", "--max-steps", "6", "--threads", "1", "--quiet"]
CELL = """
import torch

class Slow(torch.nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.hidden_size = hidden_size
        self.inner = torch.nn.Linear(input_size + hidden_size, 2 * hidden_size)

    def forward(self, x, state):
        a, b = self.inner(torch.cat((x, state), -1)).chunk(2, -1)
        door = torch.sigmoid(a)
        state = door * state + (1 - door) * torch.tanh(b)
        return state, state
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a language model of a cell of one's own."""
    folder = tmp_path_factory.mktemp("inside")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        Path("slowcell.py").write_text(CELL)
        Path("data.txt").write_text(verse(60))
        flags = ["--data", "data.txt", "--run", "run", "--cell", "slowcell:Slow", "--layers", "2", *SMALL]
        done = elman("train", "language-model", *flags)
    assert done.code == 0, done.err
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return


def inspect(*flags: object) -> str:
    done = elman("inspect", "run", "--allow-code", "--to", "page.html", *flags)
    assert done.code == 0, done.err
    assert Path("page.html").is_file()
    return done.out


def test_lines_and_page_say_the_same() -> None:
    lines, page = inspect().splitlines(), Path("page.html").read_text()
    assert lines[-1] == "page.html"
    words = re.findall(
        r"  (before|after) training, (layer \d): (\w+), times ([\d.]+) a step", "\n".join(lines)
    )
    assert [(when, layer) for when, layer, *_ in words] == [
        (when, f"layer {number}") for when in ("before", "after") for number in (1, 2)
    ]
    for when, layer, word, rate in words:
        assert re.search(rf"<td>{layer}</td><td>{when}</td><td>× {rate}</td>.*?<td>{word}</td>", page)
    gates = re.findall(r"  (layer \d)  door +([\d.]+%) +([\d.]+%)", "\n".join(lines))
    assert [layer for layer, *_ in gates] == ["layer 1", "layer 2"]
    for layer, shut, opened in gates:
        assert f"<td>{layer}</td><td>door</td><td>{shut}</td><td>{opened}</td>" in page
    assert page.count('class="lit"') == page.count("<td>high</td>") + page.count("<td>low</td>") >= 6
    for title in ("Gradient over time", "Saturated gates", "States over time", "What units respond to"):
        assert f"<h2>{title}</h2>" in page


def test_the_same_every_time() -> None:
    inspect()
    first = Path("page.html").read_bytes()
    torch.randn(3)
    inspect()
    assert Path("page.html").read_bytes() == first


def test_a_text_of_ones_own_is_the_one_over_time() -> None:
    inspect("--text", "line 7 says")
    page = Path("page.html").read_text()
    assert f"24 units over {len('line 7 says') + 1} steps" not in page
    assert f"7 units over {len('line 7 says') + 1} steps" in page
    Path("own.txt").write_text("numbers")
    inspect("own.txt")
    assert f"7 units over {len('numbers') + 1} steps" in Path("page.html").read_text()


def test_layers_and_units_can_be_named() -> None:
    out = inspect("--layer", "1", "--unit", "5", "2")
    assert "units of layer 1" in out
    assert re.findall(r"^  unit (\d)", out, re.MULTILINE) == ["5", "2"]
    assert len(re.findall(r"^  unit \d", inspect("--units", "4"), re.MULTILINE)) == 4


def test_the_measures_as_an_object() -> None:
    found = json.loads(inspect("--json"))
    assert found["page"] == "page.html"
    assert {(one["layer"], one["when"]) for one in found["gradient"]} == {
        (f"layer {number}", when) for number in (1, 2) for when in ("before", "after")
    }
    unit = found["units"][0]
    peak = unit["highest"][0]
    model = load("run", trust=True)
    seen = look(model, model.inside())
    values = seen.tracks[1].memory[1][..., unit["unit"]]
    assert peak["value"] == pytest.approx(float(values[values.isfinite()].max()))
    assert float(values[peak["peak"], peak["row"]]) == pytest.approx(peak["value"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--layer", "3"], "--layer 3: the network has 1 (layer 1), 2 (layer 2)"),
        (["--unit", "7"], "--unit 7: layer 2 has the units 0 to 6"),
        (["--unit", "x"], "--unit x is no number of a unit"),
        (["--text", "a", "own.txt"], "one sequence is shown over time"),
        (["none.txt"], "none.txt"),
        (["--text", "ü"], "a character that the model has never seen"),
        (["--units", "2", "--unit", "1"], "--units"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_line(flags: list[str], said: str) -> None:
    Path("own.txt").write_text("numbers")
    done = elman("inspect", "run", "--allow-code", *flags)
    assert done.code == 2
    assert said in done.err and done.err.count("\n") == 1


def test_fresh_weights_are_those_that_the_training_began_with() -> None:
    model = load("run", trust=True)
    with torch.random.fork_rng(devices=[]):
        learner = _learner(model.task, model.config, Silent(), None)
    began, found = learner.model.state_dict(), fresh(model).state_dict()
    assert began.keys() == found.keys()
    assert all(torch.equal(value, began[name]) for name, value in found.items())
    assert not all(torch.equal(value, began[name]) for name, value in model.model.state_dict().items())


def test_looking_moves_nothing() -> None:
    model = load("run", trust=True)
    before, generator = {k: v.clone() for k, v in model.model.state_dict().items()}, torch.get_rng_state()
    look(model, model.inside(), effort=SHORT)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(v, before[k]) for k, v in model.model.state_dict().items())


def test_a_fault_inside_does_not_lose_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*given: object, **named: object) -> None:
        raise RuntimeError("a cell that cannot be looked at")

    monkeypatch.setattr("elman.tasks.inspection.look", fault)
    flags = ["--data", "data.txt", "--run", "faulty", "--engine", "torch", *SMALL]
    assert elman("train", "language-model", *flags).code == 0
    report = Path("faulty/report.html").read_text()
    assert "a cell that cannot be looked at" in report
    assert "<h2>Settings</h2>" in report
    assert package.load("faulty").scores()


def test_a_step_after_which_a_unit_is_high_comes_often() -> None:
    model = load("run", trust=True)
    found = look(model, model.inside())
    for unit in found.units:
        means: dict[str, list[float]] = {}
        for row, reading in enumerate(found.readings):
            for at, name in enumerate(reading.names):
                means.setdefault(name, []).append(float(unit.values[at, row]))
        often = {name: sum(own) / len(own) for name, own in means.items() if len(own) >= 5}
        assert unit.means is not None
        assert unit.means.highest[0][1] == pytest.approx(max(often.values()))
        assert unit.means.lowest[0][1] == pytest.approx(min(often.values()))
