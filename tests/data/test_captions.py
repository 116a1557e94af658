"""Captions of every form: the same pictures with the same captions, and what is wrong with a row in the account."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from elman.config import UserError
from elman.data.account import Account
from elman.data.captions import Listing, read_captions

RIGHT = {"a.jpg": ["a dog, brown", "the dog runs"], "b.jpg": ["a cat"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in RIGHT:
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / name)
    return tmp_path


def pairs() -> list[tuple[str, str]]:
    return [(name, caption) for name, own in RIGHT.items() for caption in own]


def table(folder: Path) -> Path:
    rows = ["image,caption", *(f'{name},"{caption}"' for name, caption in pairs())]
    return written(folder / "captions.txt", "\n".join(rows))


def unquoted(folder: Path) -> Path:
    rows = ["image,caption", *(f"{name},{caption}" for name, caption in pairs())]
    return written(folder / "captions.txt", "\n".join(rows))


def token(folder: Path) -> Path:
    rows = [f"{name}#{n}\t{caption}" for name, own in RIGHT.items() for n, caption in enumerate(own)]
    return written(folder / "x.token.txt", "\n".join(rows))


def numbered(folder: Path) -> Path:
    rows = [f"{name}| {n}| {caption}" for name, own in RIGHT.items() for n, caption in enumerate(own)]
    return written(folder / "results.csv", "\n".join(["image_name| comment_number| comment", *rows]))


def coco(folder: Path) -> Path:
    ids = {name: number for number, name in enumerate(RIGHT)}
    images = [{"id": number, "file_name": name} for name, number in ids.items()]
    said = [{"id": n, "image_id": ids[name], "caption": caption} for n, (name, caption) in enumerate(pairs())]
    return written(folder / "captions.json", json.dumps({"images": images, "annotations": said}))


def karpathy(folder: Path) -> Path:
    images = [
        {"filename": name, "split": "restval", "sentences": [{"raw": caption} for caption in own]}
        for name, own in RIGHT.items()
    ]
    return written(folder / "dataset.json", json.dumps({"images": images, "dataset": "x"}))


def named(folder: Path) -> Path:
    return written(folder / "captions.json", json.dumps(RIGHT))


def lists(folder: Path) -> Path:
    rows = [json.dumps({"file_name": f"images/{name}", "captions": own}) for name, own in RIGHT.items()]
    return written(folder / "metadata.jsonl", "\n".join(rows))


def columns(folder: Path) -> Path:
    rows = ["file\tcaption_0\tcaption_1", "a\ta dog, brown\tthe dog runs", "b\ta cat\t"]
    return written(folder / "t.tsv", "\n".join(rows))


def beside(folder: Path) -> Path:
    for name, own in RIGHT.items():
        written(folder / "images" / f"{name[:-4]}.txt", "\n".join(own))
    return folder / "images"


def written(path: Path, text: str) -> Path:
    path.write_text(f"{text}\n", encoding="utf-8")
    return path


FORMS = [table, unquoted, token, numbered, coco, karpathy, named, lists, columns, beside]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_says_the_same(folder: Path, form: Callable[[Path], Path]) -> None:
    path = form(folder)
    account = Account("captions")
    found = read_captions([str(path)], account)
    assert {one.path.name: list(one.captions) for one in found} == RIGHT
    assert account.used == 3 and account.found
    assert {one.part for one in found} == {"train" if form is karpathy else ""}


def test_names_say_what_is_seen(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a_red-car.png")
    (one,) = read_captions([str(tmp_path)], Account(), Listing(form="names"))
    assert one.captions == ("a red car",)
    with pytest.raises(UserError, match="no captions"):
        read_captions([str(tmp_path)], Account())


def test_what_is_wrong_is_in_the_account(folder: Path) -> None:
    path = written(folder / "c.csv", "image,caption\na.jpg,a dog\nz.jpg,a bird\nb.jpg,\n,a fish")
    account = Account("captions")
    assert len(read_captions([str(path)], account)) == 1
    faults = {reason: [place.line for place in places] for reason, places in account.faults.items()}
    assert faults == {"no such picture": [3], "empty caption": [4], "no picture named": [5]}


def test_pictures_that_lie_elsewhere(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = table(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(UserError, match="name their folder by --pictures"):
        read_captions([str(path)], Account())
    assert len(read_captions([str(path)], Account(), Listing(pictures=str(folder / "images")))) == 2


def test_columns_are_named(folder: Path) -> None:
    path = written(folder / "c.csv", "image,caption,other\na.jpg,a dog,un chien\nb.jpg,a cat,un chat")
    found = read_captions([str(path)], Account(), Listing(caption_columns=("other", "2")))
    assert found[0].captions == ("un chien", "a dog")
    with pytest.raises(UserError, match="no such column"):
        read_captions([str(path)], Account(), Listing(picture_column="picture"))
