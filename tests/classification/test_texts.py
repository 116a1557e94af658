"""The data of a classifier, without torch: parts, names, accounts, refusals."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from elman.config import UserError, build
from elman.tasks.classification.settings import Config, TextSettings
from elman.tasks.classification.texts import Texts, prepare
from tests.classification import moods


def settings(*paths: Path, **more: object) -> TextSettings:
    values = {"train": [str(path) for path in paths], **more}
    return build(TextSettings, values)


def prepared(*paths: Path, **more: object) -> Texts:
    return prepare(Config(data=settings(*paths, **more)), None)


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def sizes(found: Texts) -> dict[str, int]:
    return {name: len(part.examples) for name, part in found.parts.items()}


def test_parts_are_drawn_saved_and_the_same_each_time(tmp_path: Path) -> None:
    path = moods.write(tmp_path / "a.csv", 300, 0)
    first, again = prepared(path), prepared(path)
    assert sum(sizes(first).values()) == 300
    assert sizes(first)["valid"] in range(25, 36)
    assert first.facts() == again.facts()
    assert first.files()["split.json"].keys() == {"valid", "test"}
    train = set(first.parts["train"].texts)
    assert not train & set(first.parts["test"].texts) | train & set(first.parts["valid"].texts)
    assert first.facts() != prepared(path, split_seed=1).facts()
    assert prepare(Config(data=settings(path)), first.codec).facts() == first.facts()


def test_a_folder_of_parts_with_names_of_labels(tmp_path: Path) -> None:
    for name, count in (("train", 8), ("dev", 4), ("test", 4)):
        write(
            tmp_path / f"{name}.tsv",
            "".join(f"so it is {i}\t{('0,2', '1', '2')[i % 3]}\tx{i}\n" for i in range(count)),
        )
    write(tmp_path / "labels.txt", "joy\nanger\nfear")
    found = prepared(tmp_path)
    assert sizes(found) == {"train": 8, "valid": 4, "test": 4}
    assert found.codec.labels.names == ("joy", "anger", "fear")
    assert found.codec.labels.several
    assert found.parts["valid"].truth.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 1], [1, 0, 1]]
    assert any("names of the labels" in line for line in found.lines())
    assert "valid has a text of the training data: 4" in "\n".join(found.lines())


def test_trees_train_on_phrases_and_test_on_sentences(tmp_path: Path) -> None:
    trees = "(3 (2 It) (4 (2 is) (3 good)))\n(1 (1 Bad) (2 it))\n(0 (2 so) (1 bad))\n(4 (3 good) (2 it))\n"
    for name in ("train", "dev", "test"):
        write(tmp_path / f"{name}.txt", trees)
    merge = ["very negative=negative", "very positive=positive", "neutral="]
    found = prepared(tmp_path, rename=merge, unique=True)
    assert found.codec.labels.names == ("negative", "positive")
    assert sizes(found) == {"train": 8, "valid": 4, "test": 4}
    account = found.accounts["train"]
    assert (account.read, account.used) == (14, 8)
    assert {len(at) for at in account.aside.values()} == {5, 1}


def test_folds_test_every_text_once(tmp_path: Path) -> None:
    path = moods.write(tmp_path / "a.csv", 100, 0)
    found = [prepared(path, fold=f"{number}/4") for number in range(1, 5)]
    tested = [text for one in found for text in one.parts["test"].texts]
    assert sorted(tested) == sorted(text for text, _ in moods.rows(100, 0))
    assert all(sum(sizes(one).values()) == 100 for one in found)


def test_groups_stay_together(tmp_path: Path) -> None:
    rows = [f"so it is {i},{'ab'[i % 2]},speaker {i % 20}" for i in range(100)]
    found = prepared(write(tmp_path / "a.csv", "\n".join(["text,label,who", *rows])), group_column="who")
    sides = [{example.group for example in part.examples} for part in found.parts.values()]
    assert sum(map(len, sides)) == 20
    assert sizes(found) == {"train": 80, "valid": 10, "test": 10}


@pytest.mark.parametrize(
    ("content", "more", "says"),
    [
        ("text,label\na b,x\nb c,x\n", {}, "too few labels"),
        ("text,label\na b,x\nb c,x\nc d,y\n", {}, "the label 'y' has one training item only .*a.csv:4"),
        ("text,label\na b,x\nb c,\nc d,y\n", {}, "1 of 3 rows cannot be used: 1 empty label .*a.csv:3"),
        ("text,label\na b,x\nb c,y\na b,x\nb c,y\n", {"label_column": ["mood"]}, "--label-column mood"),
        ("text,label\na b,x\nb c,y\na b,x\nb c,y\n", {"rename": ["z=x"]}, "--rename z=...: no such label"),
    ],
)
def test_refused(tmp_path: Path, content: str, more: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        prepared(write(tmp_path / "a.csv", content), valid_share=0.0, test_share=0.0, **more)


def test_nothing_to_learn_from() -> None:
    with pytest.raises(UserError, match="--data"):
        prepared()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"valid_share": 0.6, "test_share": 0.4}, "leave nothing"),
        ({"rename": ["a"]}, "expected OLD=NEW"),
        ({"class_weights": ["a=b"]}, "expected LABEL=WEIGHT"),
        ({"class_weights": ["a=-1"]}, "from 0 up"),
        ({"time_column": "t", "group_column": "g"}, "two ways to divide"),
        ({"fold": "6/5"}, "such as 1/5"),
        ({"fold": "1/5", "test": ["a"]}, "divide --data alone"),
        ({"frozen": True}, "name them by --vectors"),
    ],
)
def test_settings_at_odds(flags: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(TextSettings, flags)


def test_what_is_cut_is_named(tmp_path: Path) -> None:
    path = moods.write(tmp_path / "a.csv", 60, 0)
    cut = prepared(path, longest=4)
    assert max(len(row) for part in cut.parts.values() for row in part.tokens) == 4
    assert any("texts cut after 4 tokens" in line for line in cut.lines())
    whole = prepared(path)
    assert max(len(row) for row in whole.parts["train"].tokens) > 4


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    path = moods.write(tmp_path / "a.csv", 60, 0)
    code = (
        "import sys; from elman.tasks.classification.texts import prepare; "
        "from elman.tasks.classification.settings import Config, TextSettings; "
        f"prepare(Config(data=TextSettings(train=({str(path)!r},))), None); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert replace(settings(path), batch=3).batch == 3
