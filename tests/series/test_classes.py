"""Classes of whole series: learnt from any form, told of files, lines and arrays."""

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman as package
from command import elman
from elman.config import build
from elman.tasks.series import classes
from elman.tasks.series.settings import Config
from tests.series.conftest import SMALL


def turns(count: int, seed: int, *, lost: float = 0.0) -> list[str]:
    """Two channels that turn one way or the other, of 12 to 20 steps, as lines of .ts."""
    draw, lines = random.Random(seed), []
    for number in range(count):
        way = 1 if number % 2 else -1
        start, speed = draw.uniform(0, 6), draw.uniform(0.3, 0.6)
        channels = []
        for part in (math.cos, math.sin):
            values = [part(start + way * speed * t) + 0.1 * draw.gauss(0, 1) for t in range(12 + number % 9)]
            channels.append(",".join("?" if draw.random() < lost else f"{v:.4f}" for v in values))
        lines.append(f"{channels[0]}:{channels[1]}:{'left' if way > 0 else 'right'}")
    return lines


def write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(["@problemName turns", "@classLabel true left right", "@data", *lines, ""]))


@pytest.fixture(scope="session")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("turns")
    write(folder / "data.ts", turns(160, 0))
    done = elman(
        "train", "series", "--target", "classify", "--data", folder / "data.ts", "--run", folder / "run",
        "--differences", "--hidden", 8, "--threads", 1, "--quiet", "--epochs", 15, "--rate", 0.01,
    )  # fmt: skip
    assert done.code == 0, done.err
    return folder


def test_it_learns_what_the_nearest_case_cannot_tell(turned: Path) -> None:
    trained = package.load(turned / "run")
    score = trained.evaluate()
    assert score.name == "accuracy"
    assert score.value > 0.9
    beside = {known.name: known.score.value for known in trained.baselines() if known.part == "test"}
    assert beside.keys() == {"majority", "1-NN, Euclidean"}
    assert score.figures["labels"].keys() == {"left", "right"}
    report = (turned / "run" / "report.html").read_text()
    assert "Confusion" in report
    drawing = trained.task.describe(trained, steps=3)
    assert drawing.parameters == sum(p.numel() for p in trained.model.parameters())


def test_files_lines_and_arrays_get_the_same_answers(turned: Path, here: Path) -> None:
    lines = turns(6, 5)
    write(here / "a.ts", [*lines[:3], "oops:1,2:left", *lines[3:]])
    done = elman("predict", turned / "run", "a.ts", "--json", "--together", 2)
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [one["place"] for one in found] == [f"a.ts:{n}" for n in range(4, 11)]
    assert found[3]["error"] == "not a case of .ts"
    told = [one["label"] for one in found if "label" in one]
    right = [name == line.rsplit(":", 1)[1] for name, line in zip(told, lines, strict=True)]
    assert len(right) == 6
    assert sum(right) >= 4
    bare = [line.rsplit(":", 1)[0] for line in lines]
    trained = package.load(turned / "run")
    assert [one["label"] for one in trained.predict(bare)] == told
    arrays = [np.array([[float(v) for v in part.split(",")] for part in line.split(":")]).T for line in bare]
    assert [one["label"] for one in trained.predict(arrays)] == told
    assert trained.predict(bare[0]) == trained.predict(arrays[0])
    bad = trained.predict(["1,2,3", "", "a:b"])
    assert ["channels; the model has 2" in bad[0]["error"], *(one["error"][:10] for one in bad[1:])] == [
        True, "no numbers", "no numbers",
    ]  # fmt: skip


def test_other_files_are_measured_and_unknown_classes_told(turned: Path, here: Path) -> None:
    write(here / "b.ts", [*turns(200, 9), "1,2:3,4:straight"])
    done = elman("evaluate", turned / "run", "--data", "b.ts", "--json")
    assert json.loads(done.out)["cases"] == 200
    assert "1 unknown label" in done.err


@pytest.mark.parametrize("gaps", ["decay", "mask", "mean", "forward"])
def test_missing_values_by_every_way(here: Path, gaps: str) -> None:
    """What stands in the place of a missing value has no effect; values of one case do not reach another."""
    write(here / "a.ts", turns(40, 1, lost=0.3))
    values = {
        "data.target": "classify",
        "data.train": (str(here / "a.ts"),),
        "model.gaps": gaps,
        "model.hidden": 5,
    }
    config: Config = build(Config, {**values, "data.differences": True, "data.frames": 2})
    prepared = classes.prepare(config, None)
    torch.manual_seed(0)
    model = classes.build_classifier(config, prepared.codec)
    numbers = prepared.parts["train"].numbers
    p = classes.probabilities(model, numbers)
    alone = np.concatenate([classes.probabilities(model, [own]) for own in numbers])
    np.testing.assert_allclose(p, alone, rtol=1e-4)
    assert all(np.isfinite(own).all() for own in numbers)
    assert prepared.codec.width == prepared.codec.features * (3 if gaps in {"decay", "mask"} else 1)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--horizon", 3], "--horizon has no effect"),
        (["--outlook", "gaussian"], "--outlook has no effect"),
        (["--pooling", "sum"], "--pooling sum"),
        (["--cell", "gru-d", "--layers", 2], "it is one layer"),
    ],
)
def test_mistakes_end_in_a_sentence(here: Path, flags: list[Any], said: str) -> None:
    write(here / "a.ts", turns(40, 1))
    done = elman(
        "train", "series", "--target", "classify", "--data", "a.ts", "--run", "run", *SMALL[:2], *flags
    )
    assert done.code == 2
    assert said in done.err


def test_one_class_is_too_few(here: Path) -> None:
    write(here / "a.ts", turns(10, 1)[::2])
    done = elman("train", "series", "--target", "classify", "--data", "a.ts", "--run", "run")
    assert done.code == 2
    assert "one class only (right)" in done.err
