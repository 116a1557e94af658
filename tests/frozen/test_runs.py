"""Runs that leave: the texts and answers of the run itself, from a process that has no torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import elman as package
from command import TINY, elman, verse
from elman.frozen import frozen_bytes, in_eight_bits
from elman.runtime import Frozen, FrozenError, load
from tests.classification import moods

KINDS = ("characters", "bytes", "words", "bpe")
LIGHT = """
import json, sys
import numpy
import elman.runtime
model = elman.runtime.load(sys.argv[1])
print(json.dumps(eval(sys.argv[2])))
assert "torch" not in sys.modules, "torch was imported"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text(verse(60))
    for kind in KINDS:
        flags = [*TINY, "--tokens", kind, *(["--vocabulary", 270] if kind == "bpe" else [])]
        if kind == "words":
            flags += ["--layers", 2, "--tied", "--embedding", 8, "--norm"]
        done = elman("train", "language-model", "--data", folder / "text.txt", "--run", folder / kind, *flags)
        assert done.code == 0, done.err
    small = ["--hidden", 6, "--embedding", 5, "--batch", 16, "--threads", 1, "--epochs", 1, "--quiet"]
    for name, write, more in (
        ("one", moods.write, ["--longest", 9]), ("several", moods.write_several, ["--subwords", 30]),
    ):  # fmt: skip
        data = folder / f"{name}.{'csv' if name == 'one' else 'tsv'}"
        write(data, 200, 0)
        done = elman("train", "emotion", "--data", data, "--run", folder / name, *small, *more)
        assert done.code == 0, done.err
    return folder


def exported(folder: Path, name: str) -> Path:
    done = elman("export", folder / name, "--file", folder / f"{name}.elman")
    assert done.code == 0, done.err
    assert done.out == f"{folder / name}.elman\n"
    return Path(done.out.strip())


def alone(path: Path, expression: str) -> object:
    """What an expression of `model` gives in a process of its own, which must not import torch."""
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, path, expression], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", KINDS)
def test_a_language_model_writes_the_same_text(folder: Path, kind: str) -> None:
    path = exported(folder, kind)
    trained = package.load(folder / kind)
    for prompt in ("", "the sea and the "):
        expected = trained.generate(prompt, length=60, temperature=0)
        assert load(path).generate(prompt, length=60, temperature=0) == expected
    if kind == "words":
        assert alone(path, "model.generate('the sea and the ', length=60, temperature=0)") == expected


def test_drawn_text_is_the_same_for_a_seed_and_has_the_chances_of_the_model(folder: Path) -> None:
    model = load(exported(folder, "characters"))
    drawn = [model.generate("the ", length=40, temperature=0.7, top_k=5, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert model.generate("the ", length=9, temperature=1e-6, seed=1) == model.generate(
        "the ", length=9, temperature=0
    )
    logits = model.run(np.array([[model.tokenizer.start]])).y[0, 0].astype(float)
    logits[model.tokenizer.unknown] = -np.inf
    chances = np.exp(logits - logits.max())
    chances /= chances.sum()
    firsts = [model.generate("", length=1, seed=seed) for seed in range(400)]
    for token in np.argsort(-chances)[:3]:
        found = np.mean([first == model.tokenizer.decode([token]) for first in firsts])
        assert abs(found - chances[token]) < 4 * np.sqrt(chances[token] / 400)


def test_what_a_writer_refuses(folder: Path) -> None:
    model = load(exported(folder, "characters"))
    for call, said in (
        (lambda: model.generate("\u2603"), "a character that the model has never seen"),
        (lambda: model.generate(temperature=-1), "temperature=-1"),
        (lambda: model.generate(temperature=float("nan")), "temperature=nan"),
        (lambda: model.generate(temperature=float("inf")), "temperature=inf"),
        (lambda: model.generate(length=-1), "length=-1"),
    ):
        with pytest.raises(FrozenError, match=said):
            call()


@pytest.mark.parametrize("name", ["one", "several"])
def test_a_classifier_gives_the_same_answers(folder: Path, name: str) -> None:
    path = exported(folder, name)
    texts = [
        "I am so happy today",
        "this is sad , sad news and nothing else at all to be said of it here",
        "xyzzy",
        "",
        "a",
        " \t\u2003\n",
    ]
    expected = package.load(folder / name).predict(texts, words=0)
    found = load(path).predict(texts)
    assert alone(path, f"model.predict({texts!r})") == found
    assert [text for text, one in zip(texts, found, strict=True) if one == {"error": "empty text"}] == [
        "",
        texts[-1],
    ]
    for a, b in zip(found, expected, strict=True):
        assert ("error" in a) == ("error" in b)
        if "error" in a:
            assert a == b
            continue
        assert {key: value for key, value in a.items() if key != "probabilities"} == {
            key: value for key, value in b.items() if key != "probabilities"
        }
        assert a["probabilities"] == pytest.approx(b["probabilities"], abs=2e-6)
    assert load(path).predict([]) == []
    assert load(path).predict(["  "]) == [{"error": "empty text"}]
    for wrong, said in (
        ("so", "one text is given"),
        ([b"so"], "text 0 is of the type bytes"),
        (["a", 1], "text 1 is"),
    ):
        with pytest.raises(FrozenError, match=said):
            load(path).predict(wrong)


def test_where_the_file_goes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = elman("export", folder / "bytes", "--to", "frozen", "--checkpoint", "last")
    assert done.out == f"{folder / 'bytes' / 'bytes.elman'}\n"
    done = elman("export", folder / "bytes", "--file", tmp_path / "nowhere" / "x.elman")
    assert done.code == 2
    assert "cannot be written: No such file or directory" in done.err
    done = elman("export", folder / "bytes", "--to", "c", "--file", tmp_path / "program")
    assert done.out == f"{tmp_path / 'program'}\n"
    assert (tmp_path / "program" / "model.elman").read_bytes() == exported(folder, "bytes").read_bytes()
    done = elman("export", folder / "bytes", "--to", "c", "--file", tmp_path)
    assert done.code == 2
    assert "cannot be written: there is something else of this name" in done.err
    for name, text in (("main.c", "int main(void) { return 0; }"), ("Makefile", "all:")):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(text)
        done = elman("export", folder / "bytes", "--to", "c", "--file", tmp_path / name)
        assert done.code == 2
        assert (tmp_path / name / name).read_text() == text
    done = elman("export", folder / "bytes", "--to", "onyx")
    assert done.code == 2
    assert "frozen" in done.err


@pytest.mark.parametrize("name", ["characters", "one"])
def test_int8_is_judged_by_the_measure_of_the_task(folder: Path, name: str) -> None:
    path = folder / f"{name}.int8.elman"
    done = elman("export", folder / name, "--int8", "--file", path)
    assert done.code == 0, done.err
    told = re.search(r"int8 on the validation data: (.+), before (.+); ([\d.]+) to ([\d.]+) MB", done.err)
    assert told is not None
    run, model, whole = package.load(folder / name), load(path), exported(folder, name)
    weights = [p.detach().clone() for p in run.model.parameters()]
    assert told[2] == str(run.evaluate(part="valid"))
    with in_eight_bits(run.model):
        assert told[1] == str(run.evaluate(part="valid"))
        rounded = Frozen(frozen_bytes(run.model.eval()))
    assert all(torch.equal(a, b) for a, b in zip(weights, run.model.parameters(), strict=True))
    assert (model.text("after int8"), model.text("before int8")) == told.groups()[:2]
    # The file has the very numbers that were judged.
    numbers = np.random.default_rng(0).integers(1, 9, size=(7, 3))
    assert np.array_equal(Frozen(path.read_bytes()).run(numbers).y, rounded.run(numbers).y)
    assert not np.array_equal(model.run(numbers).y, load(whole).run(numbers).y)
    assert path.stat().st_size < whole.stat().st_size


def test_int8_in_other_forms(folder: Path, tmp_path: Path) -> None:
    plain = folder / "plain.elman"
    assert elman("export", folder / "words", "--int8", "--file", plain).code == 0
    done = elman("export", folder / "words", "--to", "c", "--int8", "--file", tmp_path / "program")
    assert done.code == 0, done.err
    assert (tmp_path / "program" / "model.elman").read_bytes() == plain.read_bytes()
    assert load(plain).generate("", length=20, temperature=0)


@pytest.mark.parametrize("form", ["frozen", "html", "onnx"])
def test_only_an_earlier_export_is_replaced(folder: Path, tmp_path: Path, form: str) -> None:
    path = exported(folder, "bytes")
    others = [
        b"weights",
        (folder / "text.txt").read_bytes(),
        b"<html></html>",
        (8).to_bytes(8, "little") + b"{}" * 40,
    ]
    others += [] if form == "frozen" else [path.read_bytes()]
    mine = tmp_path / "mine"
    for other in others:
        mine.write_bytes(other)
        done = elman("export", folder / "bytes", "--to", form, "--file", mine)
        assert done.code == 2
        assert f"{mine} is there already, and is no file that `elman export --to {form}` wrote" in done.err
        assert mine.read_bytes() == other
    if form == "frozen":
        mine.write_bytes(b"")  # as made to hold a name
        for _ in range(2):
            done = elman("export", folder / "bytes", "--file", mine)
            assert done.code == 0, done.err
            assert mine.read_bytes() == path.read_bytes()


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="this system does not tell the memory of a process"
)
def test_importing_the_runtime_is_light() -> None:
    """No torch, and little memory: that of numpy and the core."""
    code = (
        "import sys, elman.runtime; from elman.runtime.library import library; library(); "
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))); "
        "assert not {'torch', 'elman.engine', 'elman.nn', 'elman._core'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60 << 10
