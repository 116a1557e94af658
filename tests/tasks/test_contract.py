"""One contract for every task: what it reads is accounted for, its training goes on bit for bit after any break, as
many answers come out as inputs went in, its report asks nothing of a network, and what is drawn is what is trained.
"""

import importlib
import json
import math
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import elman as package
from command import elman, verse
from elman.page import text as escaped
from elman.tasks import base
from elman.tasks.base import TASKS, Word, find
from elman.tasks.session import TaskLearner
from elman.training import parallel
from tests.captioning.shapes import write as write_pictures
from tests.speech.sounds import texts as texts_said
from tests.speech.sounds import write_table
from tests.tagging import names
from tests.video_tagging import made

TOY = Word("tests.tasks.toy", "say whether a line has an odd number of ones", {"model.hidden": 6})


class Case(NamedTuple):
    """A task on small data.

    data: makes them in the current folder. flags: of `elman train`. inputs: lines to be answered. streamed: where the
    network goes one way, (outputs of a whole sequence at once, the same step by step). shared: what the account says
    where an item is on both sides of the split, if the data have items.
    """

    data: Any
    flags: list[str]
    inputs: list[str]
    streamed: Callable[[Any], tuple[torch.Tensor, torch.Tensor]] | None = None
    shared: str = ""


def texts() -> None:
    Path("data.txt").write_text(verse(40))


def bits() -> None:
    draw = random.Random(0)
    lines = ["".join(draw.choice("01") for _ in range(draw.randint(1, 6))) for _ in range(60)]
    Path("data.txt").write_text("\n".join([*lines, "not a line", ""]))


def language_model_streamed(trained: Any) -> tuple[torch.Tensor, torch.Tensor]:
    model, tokens = trained.model, torch.randint(trained.codec.size, (9, 2))
    whole = model(tokens, model.initial_state(2)).logits
    state, found = model.initial_state(2), []
    for token in tokens:
        logits, state = model.step(token, state)
        found.append(logits)
    return whole, torch.stack(found)


def parity_streamed(trained: Any) -> tuple[torch.Tensor, torch.Tensor]:
    model, x = trained.model, torch.randint(2, (9, 1, 1)).float()
    state, found = None, []
    for step in x:
        y, state = model.recurrent(step.unsqueeze(0), state)
        found.append(y[0])
    return model.recurrent(x)[0], torch.stack(found)


LANGUAGE = ["--hidden", "6", "--batch", "2", "--steps", "8", "--dropout", "0.2", "--engine", "torch"]


def moods() -> None:
    draw = random.Random(0)
    rows = ["text;label"]
    for _ in range(120):
        mood = draw.choice(["joy", "anger"])
        words = [*draw.choices(["so", "it", "is", "and", "very"], k=draw.randint(0, 6)), f"{mood}ful"]
        rows.append(f"{' '.join(draw.sample(words, len(words)))};{mood}")
    Path("data.txt").write_text("\n".join([*rows, ";joy", ""]))


def tunes() -> None:
    draw = random.Random(0)
    pieces = []
    for _ in range(60):
        root, begin = draw.randint(48, 60), draw.randrange(3)
        steps = range(begin, begin + draw.randint(5, 9))
        pieces.append(json.dumps([[root + (0, 5, 7)[t % 3] + tone for tone in (0, 4, 7)] for t in steps]))
    Path("data.txt").write_text("\n".join([*pieces, "[]", ""]))


def music_streamed(trained: Any) -> tuple[torch.Tensor, torch.Tensor]:
    from elman.tasks.music.composing import Steps

    v = (torch.rand(9, 2, 88) < 0.1).float()
    steps = Steps(trained.model)
    return trained.model.features(v).logits, torch.stack([steps(step) for step in v])


TUNES = ["--hidden", "6", "--batch", "8", "--on-bad", "skip", "--engine", "torch", "--resolution", "1"]


def waves() -> None:
    draw = random.Random(0)
    rows = [f"{math.sin(2 * math.pi * t / 8) + 0.1 * draw.gauss(0, 1):.3f}" for t in range(160)]
    rows[40:43] = ["", "?", "nan"]
    Path("data.txt").write_text("\n".join([*rows, ""]))


def series_streamed(trained: Any) -> tuple[torch.Tensor, torch.Tensor]:
    model = trained.model
    x, since = torch.randn(9, 2, 1), torch.rand(9, 2, 1)
    x[3, 0] = x[4] = torch.nan
    known = torch.zeros(9, 2, 0)
    whole = model(x, since, known)
    state, found = None, []
    for step in range(9):
        one = model(*(part[step : step + 1] for part in (x, since, known)), None, state)
        state = one.state
        found.append(torch.cat([one.loc.unsqueeze(-1), one.shape], dim=-1)[0])
    return torch.cat([whole.loc.unsqueeze(-1), whole.shape], dim=-1), torch.stack(found)


WAVES = ["--hidden", "6", "--batch", "4", "--season", "8", "--horizon", "3", "--length", "32"]


def pairs() -> None:
    draw = random.Random(0)
    words = {"eins": "one", "zwei": "two", "drei": "three"}
    rows = [[draw.choice([*words]) for _ in range(draw.randint(1, 5))] for _ in range(60)]
    lines = [f"{' '.join(row)}\t{' '.join(words[word] for word in row)}" for row in rows]
    Path("data.txt").write_text("\n".join([*lines, "vier\t", ""]))


PAIRS = ["--hidden", "6", "--batch", "4", "--tokens", "words", "--on-bad", "skip", "--engine", "torch"]
MOODS = ["--hidden", "6", "--batch", "8", "--min-count", "1", "--on-bad", "skip", "--engine", "torch"]
MOODS += ["--subwords", "30"]


def tagged() -> None:
    names.write(Path("data.txt"), 80, 0)


TAGGED = ["--hidden", "6", "--embedding", "6", "--letters", "4", "--letter-embedding", "4", "--batch", "8"]
TAGGED += ["--engine", "torch", "--on-bad", "skip"]


def spoken() -> None:
    write_table(Path(), texts_said(60), "data.txt")


def speech_streamed(trained: Any) -> tuple[torch.Tensor, torch.Tensor]:
    model, x = trained.model, torch.randn(9, 1, trained.model.embedding.dense.in_features)
    whole, state, found = model(x).logits, None, []
    for step in x:
        logits, state = model.step(step, state)
        found.append(logits)
    return whole, torch.stack(found)


def clips() -> None:
    rows = ["path,class"]
    for number, way in enumerate(made.write_features(Path("clips"), 40)):
        rows.append(f"clips/{number}.csv,{way}")
    Path("data.txt").write_text("\n".join([*rows, "clips/none.csv,up", ""]))


def video_streamed(trained: Any) -> tuple[torch.Tensor, torch.Tensor]:
    from elman.nn import RunningPooling

    model, x = trained.model, torch.randn(9, 1, 4)
    running, state, found = RunningPooling(model.pooling), None, []
    for step in x:
        logits, state = model.step(step, state, running)
        found.append(logits)
    return model.prefixes(x), torch.cat(found)


CLIPS = ["--hidden", "6", "--batch", "8", "--differences", "1"]


def pictured() -> None:
    write_pictures(Path(), 40)
    rows = Path("captions.csv").read_text()
    Path("data.txt").write_text(f"{rows}pictures/3.png,\n")


PICTURED = ["--hidden", "6", "--size", "16", "--channels", "4", "--depth", "1", "--batch", "8"]
PICTURED += ["--on-bad", "skip"]
SPEECH = ["--hidden", "6", "--layers", "1", "--embedding", "5", "--batch", "8", "--bands", "12"]
SPEECH += ["--stride", "2"]
ONE_WAY = ["--no-bidirectional", "--engine", "torch", "--on-bad", "skip"]
CASES = {
    "classification": Case(
        moods,
        ["--data", "data.txt", *MOODS],
        ["so joyful", "x", "", "angerful it is"],
        None,
        "of the training data",
    ),
    "language-model": Case(
        texts,
        ["--data", "data.txt", *LANGUAGE],
        ["line 3", "li", "", "line 12 says"],
        language_model_streamed,
    ),
    "music": Case(
        tunes,
        ["--data", "data.txt", *TUNES, "--transpose", "2", "--crop", "4", "--nade", "0"],
        ["[[60, 64, 67], [65, 69, 72]]", "what", "", "[60, 62]"],
        music_streamed,
        "of the training data",
    ),
    "tagging": Case(
        tagged,
        ["--data", "data.txt", *TAGGED],
        ["in Baton now", "x", "", "Mr. Ada Bo, so it is"],
        None,
        "of the training data",
    ),
    "speech": Case(
        spoken,
        ["--data", "data.txt", *SPEECH, *ONE_WAY],
        ["sounds/3.wav", "nothing.wav", "", "sounds/4.wav"],
        speech_streamed,
        "of the training data",
    ),
    "video-tagging": Case(
        clips,
        ["--data", "data.txt", *CLIPS, *ONE_WAY],
        ["clips/3.csv", "nothing.csv", "", "clips/4.csv"],
        video_streamed,
        "of the training data",
    ),
    "series": Case(waves, ["--data", "data.txt", *WAVES], ["0.3", "what", "", "?", "1.5"], series_streamed),
    "translation": Case(
        pairs, ["--data", "data.txt", *PAIRS], ["eins zwei", "fünf", "", "drei"], None, "of the training data"
    ),
    "captioning": Case(
        pictured,
        ["--data", "data.txt", *PICTURED],
        ["pictures/3.png", "nothing.png", "", "pictures/4.png"],
        None,
        "of the training data",
    ),
    "parity": Case(bits, ["--data", "data.txt"], ["01", "what", "", "1"], parity_streamed, "both sides"),
}
EVERY = ["--threads", "1", "--quiet", "--epochs", "2", "--validate-every", "7", "--rate", "0.01"]
LEAKY = ["--epochs", "1", "--max-steps", "1", "--test", "again.txt", "--no-baselines", "--overwrite"]
HEADED = {"classification", "speech"}
# Words of one module are one task.
NAMES = [*{word.module: name for name, word in reversed(TASKS.items())}.values(), "parity"]


@pytest.fixture(scope="module")
def words() -> Iterator[None]:
    """The words of the package, and the toy's."""
    TASKS["parity"] = TOY
    yield
    del TASKS["parity"]


@pytest.fixture(scope="module", params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, words: None) -> Path:
    """A folder called by the task, with its data and a run."""
    folder = tmp_path_factory.mktemp("contract") / request.param
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        CASES[request.param].data()
        done = train(request.param, "run")
    assert done.code == 0, done.err
    return folder


def train(name: str, run: str, *more: object) -> Any:
    return elman("train", name, "--run", run, *CASES[name].flags, *EVERY, *more)


@pytest.fixture
def case(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.chdir(folder)
    return CASES[folder.name]


def test_every_task_has_a_case() -> None:
    assert set(CASES) == set(NAMES)


def test_the_run_says_what_was_read_and_by_what(case: Case, folder: Path) -> None:
    saved = json.loads(Path("run/run.json").read_text())
    assert saved["account"]
    assert (saved["task"], saved["module"]) == (folder.name, TASKS[folder.name].module)
    report = Path("run/report.html").read_text()
    assert all(escaped(line) in report for line in saved["account"])


def test_a_report_is_one_file_that_asks_nothing_of_a_network(case: Case) -> None:
    assert elman("report", "run", "--to", "page.html").out == "page.html\n"
    page = Path("page.html").read_text()
    for forbidden in (
        r"https?:",
        r"""(src|href)=["'](?!#|data:image/png;base64,)""",
        "@import",
        r"url\((?!#)",
        "<script",
        "<link",
    ):
        assert not re.search(forbidden, page), forbidden
    assert "the network does not" not in page


def test_the_inside_is_shown_or_a_sentence_says_why_not(case: Case) -> None:
    inside = package.load("run").inside()
    done, report = elman("inspect", "run", "--to", "inside.html"), Path("run/report.html").read_text()
    if isinstance(inside, str):
        assert (done.code, done.err) == (2, f"elman: error: {inside}\n")
        assert "Gradient over time" not in report
        return
    assert done.code == 0, done.err
    page = Path("inside.html").read_text()
    for title in ("Gradient over time", "Saturated gates", "States over time", "What units respond to"):
        assert f"<h2>{title}</h2>" in page and f"<h2>{title}</h2>" in report
    assert "vanishing" in page and "nan" not in re.sub(
        r"data:[^\"]*|<text.*?</text>|<span.*?</span>", "", page
    )
    assert not re.search(r"https?:|<script|<link", page)


class KilledError(BaseException):
    """Comes in the middle of a step, and nothing is saved."""


def killed_at(step: int, name: str, *more: object) -> None:
    """Train until a step, then be gone."""
    from elman.training.loop import Trainer

    whole = Trainer._step

    def broken(self: Trainer, log: Any) -> None:
        if self.position.step == step:
            raise KilledError
        whole(self, log)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_step", broken)
        with pytest.raises(KilledError):
            train(name, "broken", "--overwrite", *more)


def test_a_training_that_is_killed_anywhere_ends_with_the_same_bits(case: Case, folder: Path) -> None:
    steps = learner(folder.name).epoch_steps * 2
    draw = random.Random(folder.name)
    for step in draw.sample(range(1, steps), 3):
        every = draw.randint(1, 5)
        killed_at(step, folder.name, "--checkpoint-every", every)
        torch.manual_seed(draw.randint(0, 99))
        done = elman("train", folder.name, "--resume", "broken", "--quiet")
        assert done.code == 0, done.err
        for kept in ("last", "best"):
            first, second = (load_file(f"{run}/{kept}.safetensors") for run in ("run", "broken"))
            assert first.keys() == second.keys()
            different = [name for name, tensor in first.items() if not torch.equal(tensor, second[name])]
            assert not different, f"{kept}, killed at step {step} of {steps}, saved every {every} steps"


def learner(name: str) -> TaskLearner:
    task = find(name)
    config = base.saved_config(base.Run.open(Path("run")), task)
    return TaskLearner(task, config, task.prepare(config, task.codec(base.Run.open(Path("run")))))


def test_batches_depend_on_epoch_and_index_alone(case: Case, folder: Path) -> None:
    first, second = learner(folder.name), learner(folder.name)
    assert first.epoch_steps == second.epoch_steps
    places = [(epoch, index) for epoch in (1, 2, 3) for index in range(first.epoch_steps)]
    seen = {place: repr(first.batches(*place)) for place in places}
    random.Random(1).shuffle(places)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    assert all(repr(second.batches(*place)) == seen[place] for place in places[:40])
    assert torch.equal(before, torch.get_rng_state())


def test_a_batch_can_be_dealt_out_by_rows(case: Case, folder: Path) -> None:
    """Two shares of a batch have, by their weights, the mean gradient of the whole."""
    own = learner(folder.name)
    task, config, model = own.task, own.config, own.model
    batch = own.batches(1, 0)
    rows, shares = task.rows(batch), []
    model.eval()

    def state(which: np.ndarray) -> Any:
        return parallel.Processes(2, int(which[0])).dealt(own.initial_state(), own.stream_axes())

    def gradients(found: Any) -> list[torch.Tensor]:
        model.zero_grad()
        (found.objective * found.over).backward()
        return [p.grad.double().clone() for p in model.parameters() if p.grad is not None]

    out = task.loss(model, batch, own.initial_state(), config)
    whole = gradients(out)
    for which in (np.arange(0, rows, 2), np.arange(1, rows, 2)):
        one = task.loss(model, task.pick(batch, which), state(which), config)
        assert task.rows(task.pick(batch, which)) == len(which)
        shares.append((one, gradients(one)))
    assert sum(one.over for one, _ in shares) == out.over
    assert sum(one.predictions for one, _ in shares) == out.predictions
    assert sum(one.total for one, _ in shares) == pytest.approx(out.total, rel=1e-4)
    for a, b, both in zip(shares[0][1], shares[1][1], whole, strict=True):
        torch.testing.assert_close(a + b, both, rtol=1e-3, atol=1e-5 * out.over)


def assert_alike(a: Any, b: Any) -> None:
    """Equal, but for the last digits of numbers that other company in a batch may round otherwise."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        a, b = list(a.values()), list(b.values())
    if isinstance(a, list):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_alike(one, other)
    else:
        assert a == (pytest.approx(b, rel=1e-4, abs=3e-6) if isinstance(b, float) else b)


def test_as_many_answers_come_out_as_lines_went_in(case: Case) -> None:
    lines = (case.inputs * 30)[:100]
    Path("in.txt").write_text("\n".join(lines) + "\n")
    plain, objects = (
        elman("predict", "run", "in.txt"),
        elman("predict", "run", "in.txt", "--json", "--together", 7),
    )
    assert (plain.code, objects.code) == (0, 0)
    assert len(plain.out.splitlines()) == len(objects.out.splitlines()) == 100
    found = [json.loads(line) for line in objects.out.splitlines()]
    assert [one["place"] for one in found] == [f"in.txt:{n}" for n in range(1, 101)]
    again = package.load("run").predict(lines)
    assert_alike([{"place": f"in.txt:{n}", **one} for n, one in enumerate(again, 1)], found)
    assert_alike(package.load("run").predict(lines[0]), again[0])


def test_step_by_step_is_the_whole_at_once(case: Case) -> None:
    if case.streamed is None:
        pytest.skip("the network goes both ways")
    trained = package.load("run")
    with torch.no_grad():
        whole, steps = case.streamed(trained)
    torch.testing.assert_close(steps, whole, rtol=1e-5, atol=1e-6)


def test_an_item_on_both_sides_of_the_split_is_said(case: Case, folder: Path) -> None:
    if not case.shared:
        pytest.skip("the data have no items")
    saved, said = Path("run/run.json"), ""
    if case.shared != "both sides":
        # A drawn split keeps equal items on one side: only parts of one's own share them.
        lines = Path("data.txt").read_text().splitlines(keepends=True)
        first = 1 if folder.name in HEADED else 0
        Path("again.txt").write_text("".join([*lines[:first], *lines[first : first + 25]]))
        done = elman("train", folder.name, "--run", "leaky", *case.flags, *EVERY[:2], *LEAKY)
        assert done.code == 0, done.err
        saved, said = Path("leaky/run.json"), done.err
        assert case.shared in said
    assert any(case.shared in line for line in json.loads(saved.read_text())["account"])


def test_the_measure_stands_beside_its_baselines(case: Case) -> None:
    found = json.loads(elman("evaluate", "run", "--json").out)
    assert {"metric", "value", "higher", "interval", "baselines", "step", "epoch"} <= found.keys()
    assert found["baselines"]
    assert {one["name"] for one in found["baselines"]} == {found["metric"]}
    assert found["value"] == pytest.approx(package.load("run").evaluate().value)
    lines = elman("evaluate", "run").out.splitlines()
    assert sum(line.startswith("beside it, ") for line in lines) == len(found["baselines"])


def test_what_the_training_has_measured_is_said_of_its_own_model_only(case: Case) -> None:
    trained = package.load("run")
    (part, score), *_ = trained.scores().items()
    assert trained.evaluate(part=part).value == pytest.approx(score.value)
    trained.where = trained.where | {"step": trained.where["step"] - 1}
    assert trained.scores() == {}


def test_what_is_drawn_is_what_is_trained(case: Case) -> None:
    trained = package.load("run")
    drawing = trained.task.describe(trained, steps=3)
    assert drawing.parameters == sum(parameter.numel() for parameter in trained.model.parameters())


def test_loading_moves_no_random_generator(case: Case) -> None:
    before = torch.get_rng_state()
    trained = package.load("run")
    trained.evaluate()
    assert torch.equal(before, torch.get_rng_state())
    assert not trained.model.training


def test_changed_data_are_not_measured_in_silence(case: Case) -> None:
    whole = Path("data.txt").read_text()
    try:
        Path("data.txt").write_text(whole + "1\n")
        done = elman("evaluate", "run")
        assert done.code == 2
        assert "the data are not those that run was trained on" in done.err
        report = elman("report", "run", "--to", "page.html")
        assert report.code == 0
        assert "The numbers are those of the training, because the data" in Path("page.html").read_text()
    finally:
        Path("data.txt").write_text(whole)


def test_defaults_of_a_word_reach_help_and_run(case: Case, folder: Path) -> None:
    for path, value in TASKS[folder.name].defaults.items():
        section, name = path.split(".")
        if f"--{name.replace('_', '-')}" in EVERY:
            continue
        assert json.loads(Path("run/run.json").read_text())["config"][section][name] == value
    if folder.name == "parity":
        assert "--hidden UNITS width (default: 6)" in " ".join(elman("train", "parity", "--help").out.split())


def test_a_task_has_its_page_and_its_configurations() -> None:
    root = Path(__file__).parents[2]
    for word in TASKS.values():
        if "." not in word.module:
            assert (root / "docs" / f"{word.module}.md").is_file()
            assert list((root / "configs" / word.module).glob("*.toml"))


def test_a_task_imports_no_torch(words: None) -> None:
    import subprocess
    import sys

    for name in NAMES:
        module = TASKS[name].module
        path = module if "." in module else f"elman.tasks.{module}"
        assert importlib.import_module(path).TASK
        code = f"import sys, {path}; sys.exit('torch' in sys.modules)"
        assert (
            subprocess.run(
                [sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False
            ).returncode
            == 0
        )
