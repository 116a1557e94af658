"""The run folder: whole or not there, never in the way of other files."""

import os
from pathlib import Path

import pytest
import torch

from elman.config import UserError
from elman.files import write_bytes
from elman.training import checkpoint
from elman.training.log import Log, read_log
from elman.training.run import FORMAT, Run, stage, write_json


def make(path: Path, *, overwrite: bool = False, entries: dict[str, object] | None = None) -> Run:
    with stage(path, "toy", entries or {}, {"words.json": ["a"]}, overwrite=overwrite) as run:
        (run.path / "weights").write_text("w")
    return run


def test_a_new_run_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    with stage(path, "toy", {"x": 1}, {"words.json": ["ä"]}, overwrite=False) as run:
        assert not path.exists()
        assert run.path.parent == path.parent
    assert run.path == path
    again = Run.open(path)
    assert again.manifest["format"] == FORMAT
    assert again.entry("task") == "toy"
    assert again.entry("x") == 1
    assert again.read_json("words.json") == ["ä"]
    assert [entry.name for entry in path.parent.iterdir()] == ["run"]


def test_an_error_leaves_nothing_and_the_old_run(tmp_path: Path) -> None:
    path = tmp_path / "run"
    make(path, entries={"x": 1})
    with (
        pytest.raises(RuntimeError, match="early"),
        stage(path, "toy", {"x": 2}, {}, overwrite=True),
    ):
        raise RuntimeError("early")
    assert Run.open(path).entry("x") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_a_run_is_only_replaced_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "run"
    make(path, entries={"x": 1})
    with pytest.raises(
        UserError, match="already holds a run: continue it by --resume, replace it by --overwrite"
    ):
        make(path)
    make(path, overwrite=True, entries={"x": 2})
    assert Run.open(path).entry("x") == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_other_folders_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="exists and is not a run folder"):
            make(tmp_path / "home", overwrite=overwrite)
    assert (tmp_path / "home" / "letter").read_text() == "dear"
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty")


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    with run.hold():
        with pytest.raises(UserError, match="another process is training"), Run.open(run.path).hold():
            pass
        with pytest.raises(UserError, match="another process is training"):
            make(run.path, overwrite=True)
    with run.hold():
        assert Run.open(run.path).entry("task") == "toy"


def test_a_file_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})

    def fail(handle: int) -> None:
        raise OSError("disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="full"):
        write_bytes(path, b"half")
    assert path.read_text() == '{\n "x": 1\n}\n'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "run.json is damaged"),
        ("[]", "it names no format"),
        ('{"format": "x"}', "it names no format"),
        ('{"format": 99, "elman": "9.9"}', "written by a newer Elman (format 99, version 9.9)"),
    ],
)
def test_a_damaged_or_newer_manifest(tmp_path: Path, content: str, says: str) -> None:
    run = make(tmp_path / "run")
    (run.path / "run.json").write_text(content)
    with pytest.raises(UserError) as error:
        Run.open(run.path)
    assert says in str(error.value)


def test_missing_parts(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    (run.path / "words.json").unlink()
    with pytest.raises(UserError, match=r"is damaged: words\.json is missing"):
        run.read_json("words.json")
    with pytest.raises(UserError, match="it has no 'config'"):
        run.entry("config")
    make(tmp_path / "shakespeare")
    with pytest.raises(UserError, match=r"no run folder at .*shakespear; did you mean .*shakespeare\?"):
        Run.open(tmp_path / "shakespear")


TENSORS = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor(3), "c": torch.zeros(0)}


def test_tensors_and_facts_come_back(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "x.safetensors", TENSORS, {"pi": 3.141592653589793, "n": [1, None]})
    tensors, facts = checkpoint.load(tmp_path / "x.safetensors")
    assert facts == {"pi": 3.141592653589793, "n": [1, None]}
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor)
        assert tensors[name].dtype == tensor.dtype


@pytest.mark.parametrize("damage", ["cut", "empty", "garbled", "foreign", "newer", "missing"])
def test_a_damaged_checkpoint_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    import safetensors.torch

    path = tmp_path / "last.safetensors"
    checkpoint.save(path, TENSORS, {"n": 1})
    whole = path.read_bytes()
    if damage == "foreign":
        path.write_bytes(safetensors.torch.save({"a": torch.zeros(1)}))
    elif damage == "newer":
        path.write_bytes(safetensors.torch.save({"a": torch.zeros(1)}, {"format": "99", "facts": "{}"}))
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": whole[:-3], "empty": b"", "garbled": b"x" * len(whole)}[damage])
    says = {"newer": "newer Elman", "missing": r"has no last\.safetensors"}.get(damage, "is damaged")
    with pytest.raises(UserError, match=says):
        checkpoint.load(path)


def test_tensors_that_do_not_fit_the_model(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 3)
    fitting = checkpoint.model_tensors(model)
    path = tmp_path / "best.safetensors"
    for tensors, says in (
        ({"weight": fitting["weight"]}, "it lacks bias"),
        (fitting | {"extra": torch.zeros(1)}, "it has extra, which this model has not"),
        (fitting | {"bias": torch.zeros(4)}, r"bias is \(4,\), expected \(3,\)"),
    ):
        with pytest.raises(UserError, match=says):
            checkpoint.load_model(model, tensors, path)


def test_a_tied_tensor_is_kept_once_and_stays_tied(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(4, 3), torch.nn.Linear(3, 4))
    model[1].weight = model[0].weight
    tensors = checkpoint.model_tensors(model)
    assert set(tensors) == {"0.weight", "1.bias"}
    checkpoint.load_model(model, {name: tensor + 1 for name, tensor in tensors.items()}, tmp_path)
    assert model[1].weight is model[0].weight


def test_the_log_forgets_what_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with Log(path, 0) as log:
        for step in range(5):
            log.write("train", step=step, loss=1.0)
    with path.open("a") as file:
        file.write('{"event": "tra')
    assert len(read_log(path)) == 5
    with Log(path, 2) as log:
        log.write("resume", step=2)
    assert [event["step"] for event in read_log(path)] == [0, 1, 2, 2]
