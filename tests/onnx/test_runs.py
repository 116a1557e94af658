"""Runs that leave as ONNX files: their answers by onnxruntime are those of the run, and int8 is measured alike."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")

import elman as package
import onnx
from command import SOURCE, TINY, elman, verse
from elman.engine import EngineError
from elman.nn import Affixes, Embedding, LanguageModel, SequenceClassifier, SpelledWords, Speller, Tagger
from elman.onnx import export
from elman.onnx.answering import answered_by
from elman.onnx.files import session
from elman.onnx.quantizing import QUANTIZED, describe, quantize
from tests.classification import moods
from tolerances import assert_near

EXAMPLES = Path(__file__).parents[2] / "examples" / "onnx"
SMALL = ["--hidden", 6, "--embedding", 5, "--batch", 16, "--threads", 1, "--epochs", 1, "--quiet"]


def trained(*words: object) -> None:
    done = elman("train", *words)
    assert done.code == 0, done.err


def assert_measured_alike(folder: Path, *names: str) -> None:
    """What a run measures by its file is what it measures by itself, to rounding."""
    for name in names:
        path, _ = exported(folder / name)
        run = package.load(folder / name / "run")
        before = run.evaluate(part="valid")
        with answered_by(run.model, path):
            after = run.evaluate(part="valid")
        assert after.value == pytest.approx(before.value, abs=1e-6), name
        if "loss" in before.figures:  # a word error rate says less, and takes none
            assert after.figures["loss"] == pytest.approx(before.figures["loss"], rel=1e-5), name
        assert json.loads(texts_of(path)["codec"])


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    (folder / "text.txt").write_text(verse(60))
    trained(
        "language-model",
        "--data",
        folder / "text.txt",
        "--run",
        folder / "run",
        *TINY,
        "--tokens",
        "characters",
    )
    return folder


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reviews")
    moods.write(folder / "data.csv", 200, 0)
    trained(
        "emotion", "--data", folder / "data.csv", "--run", folder / "run", *SMALL, "--subwords", 30, "--longest", 9
    )  # fmt: skip
    return folder


def exported(folder: Path, *flags: object) -> tuple[Path, str]:
    """The file of a run, and what was said of it."""
    done = elman("export", folder / "run", "--to", "onnx", "--file", folder / "run.onnx", *flags)
    assert done.code == 0, done.err
    assert done.out == f"{folder / 'run.onnx'}\n"
    assert sorted(p.name for p in folder.glob("*.onnx*")) == ["run.onnx"]
    return folder / "run.onnx", done.err


def texts_of(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def example(name: str, *words: object) -> str:
    """What an example prints, in a process of its own that must not need torch."""
    code = f"import sys, runpy; sys.modules['torch'] = None; runpy.run_path({str(EXAMPLES / name)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": SOURCE, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_language_model_writes_the_same_text(book: Path) -> None:
    path, said = exported(book)
    assert re.search(r"beside the model, at most so far apart: logits \d", said)
    prompt = "line 4 says "
    text = package.load(book / "run").generate(prompt, length=100, temperature=0)
    assert example("write.py", path, prompt) == f"{prompt}{text}\n"
    assert texts_of(path)["task"] == "language model"


def test_int8_is_judged_by_the_measure_of_the_task(book: Path) -> None:
    path, said = exported(book, "--int8")
    found = re.search(r"int8 on the validation data: (.+), before (.+); [\d.]+ to [\d.]+ MB", said)
    assert found is not None
    run = package.load(book / "run")
    before = run.evaluate(part="valid")
    with answered_by(run.model, path):
        after = run.evaluate(part="valid")
    assert found.groups() == (str(after), str(before))
    assert abs(after.value - before.value) < 0.05 * before.value
    texts = texts_of(path)
    assert (texts["after int8"], texts["before int8"]) == found.groups()
    assert {"DynamicQuantizeLSTM", "MatMulInteger"} <= {node.op_type for node in onnx.load(path).graph.node}


def test_a_classifier_gives_the_same_answers(reviews: Path) -> None:
    path, _ = exported(reviews)
    texts = [text for text, _ in moods.rows(30, 5)] + ["xyzzy", "happy " * 20]
    run = package.load(reviews / "run")
    expected = [answer["label"] for answer in run.predict(texts, words=0)]
    assert example("classify.py", path, *texts) == "".join(
        f"{k}\t{text}\n" for k, text in zip(expected, texts, strict=True)
    )
    with answered_by(run.model, path):
        assert run.predict(texts, words=0) == [
            answer
            | {"probabilities": {k: pytest.approx(p, abs=2e-6) for k, p in answer["probabilities"].items()}}
            for answer in package.load(reviews / "run").predict(texts, words=0)
        ]


def test_what_cannot_leave_is_a_sentence(book: Path, tmp_path: Path) -> None:
    done = elman("export", book / "run", "--to", "onnx", "--file", tmp_path / "no" / "a.onnx")
    assert done.code == 2
    assert "there is no folder" in done.err


@torch.no_grad()
def test_a_file_answers_for_its_network_with_resets(tmp_path: Path) -> None:
    """As a language model of documents is measured."""
    network = LanguageModel(11, 5, 6, 2, engine="torch").eval()
    own = LanguageModel(11, 5, 6, 2).eval()
    own.load_state_dict(network.state_dict())
    path = export(network, tmp_path / "a.onnx")
    x, reset = torch.randint(11, (9, 3)), torch.zeros(9, 3, dtype=torch.bool)
    reset[0, 0] = reset[4, 1] = reset[8, 1] = True
    state = tuple(torch.randn_like(t) for t in own.initial_state(3))
    expected = own(x, state, reset=reset)
    with answered_by(network, path):
        found = network(x, state, reset=reset)
        with pytest.raises(EngineError, match=r"x has none: its shape is \(9, 0\)"):
            network(x[:, :0], network.initial_state(0))
    assert "forward" not in vars(network)
    for mine, right in zip((found.logits, *found.state), (expected.logits, *expected.state), strict=True):
        assert_near(mine, right)


@pytest.mark.slow
@pytest.mark.parametrize("both", [True, False])
@torch.no_grad()
def test_a_tagger_spells_its_words(both: bool, tmp_path: Path) -> None:
    """Words of any number of letters, known by table, letters and affixes; one file for all sizes."""
    speller = Speller(Embedding(9, 4), package.LSTM(4, 3, bidirectional=both))
    words = SpelledWords(Embedding(20, 5), speller, Affixes(3, count=64) if both else None)
    network = Tagger(words, package.GRU(words.output_size, 6, bidirectional=both), 4).eval()
    path = export(network, tmp_path / "a.onnx", lengths=True, state=not both)
    names, run = session(path)
    for T, B, C in ((1, 1, 1), (6, 3, 2), (4, 2, 11)):
        x, lengths = drawn_words(T, B, C), torch.arange(T - B + 1, T + 1)
        feed: dict[str, Any] = {"x": x.numpy(), "lengths": lengths.numpy()}
        feed |= {} if both else {"state": network.initial_state(B).numpy()}
        assert sorted(names) == sorted(feed)
        found, right = torch.as_tensor(run(feed)[0]), network(x, lengths=lengths).logits
        for b, n in enumerate(lengths.tolist()):
            assert_near(found[:n, b], right[:n, b])


def drawn_words(T: int, B: int, C: int) -> Tensor:
    sizes = torch.randint(1, C + 1, (T, B, 1))
    letters = torch.where(torch.arange(C) < sizes, torch.randint(1, 9, (T, B, C)), 0)
    return torch.cat((torch.randint(20, (T, B, 1)), letters), dim=-1)


@pytest.mark.parametrize("kind", ["GRU", pytest.param("LSTM", marks=pytest.mark.slow)])
@torch.no_grad()
def test_int8_reaches_every_weight(kind: str, tmp_path: Path) -> None:
    """The body of a Scan too; and numbers stay near."""
    from elman.onnx.export import exported as written

    layer = getattr(package, kind)(64, 128, num_layers=2)
    network = SequenceClassifier(Embedding(50, 64), layer, 3, pooling="max+mean").eval()
    held = written(network, tmp_path / "a.onnx", metadata={"a": "b"}, nodes=QUANTIZED)
    assert held.apart["logits"] < 1e-5
    path = quantize(held.path, tmp_path / "b.onnx")
    describe(path, {"c": "d"})
    assert {k: v for k, v in texts_of(path).items() if k in "abcd"} == {"a": "b", "c": "d"}
    assert path.stat().st_size < 0.3 * held.path.stat().st_size
    x, lengths = torch.randint(50, (12, 4)), torch.tensor([12, 1, 7, 3])
    with answered_by(network, path):
        found = network(x, lengths)
    right = network(x, lengths)
    assert 0 < float((found - right).abs().max()) < 0.05 * float(right.abs().max())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By features and by pictures."""
    from tests.video_tagging.conftest import SMALL as FEW
    from tests.video_tagging.made import write_films, write_frames

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("rows", "films"):
        (tmp_path / name).mkdir()
    write_frames(tmp_path / "rows" / "frames.csv", 40)
    write_films(tmp_path / "films" / "films", 16)
    flags = ["--group", "person", "--differences", 1, "--feature-rate", 4, "--epochs", 2]
    trained(
        "video-tagging", "--data", tmp_path / "rows" / "frames.csv", "--run", tmp_path / "rows" / "run", *flags, *FEW
    )  # fmt: skip
    seen = ["--size", 32, "--channels", 4, 8, "--encoded", 12, "--epochs", 2, "--labels", "several"]
    seen += ["--differences", 1, 3]
    trained(
        "video-tagging", "--data", tmp_path / "films" / "films", "--run", tmp_path / "films" / "run", *seen, *FEW
    )  # fmt: skip
    assert_measured_alike(tmp_path, "rows", "films")


@pytest.mark.slow
def test_taggers_series_and_recordings(tmp_path: Path) -> None:
    """Each run's own measure by its file is the run's, to rounding; a forecaster is refused in a sentence."""
    from tests.series.conftest import small_series
    from tests.series.test_classes import turns
    from tests.series.test_classes import write as write_turns
    from tests.speech import sounds
    from tests.tagging import names

    (tmp_path / "tags").mkdir()
    names.write(tmp_path / "tags" / "data.conll", 120, 0)
    small = ["--hidden", 8, "--threads", 1, "--quiet", "--epochs", 2]
    trained(
        "tagging", "--data", tmp_path / "tags" / "data.conll", "--run", tmp_path / "tags" / "run", *small,
        "--letters", 8, "--letter-embedding", 6, "--output", "crf",
    )  # fmt: skip
    (tmp_path / "turns").mkdir()
    write_turns(tmp_path / "turns" / "data.ts", turns(60, 0))
    trained(
        "series",
        "--target",
        "classify",
        "--data",
        tmp_path / "turns" / "data.ts",
        "--run",
        tmp_path / "turns" / "run",
        *small,
    )
    (tmp_path / "speech").mkdir()
    sounds.write_table(tmp_path / "speech", sounds.texts(30))
    trained(
        "speech",
        "--data",
        tmp_path / "speech" / "data.csv",
        "--run",
        tmp_path / "speech" / "run",
        *small,
        "--speeds",
        "1",
    )
    assert_measured_alike(tmp_path, "tags", "turns", "speech")
    (tmp_path / "sold.csv").write_text(small_series(120))
    trained("series", "--data", tmp_path / "sold.csv", "--run", tmp_path / "ahead", "--horizon", 3, *small)
    done = elman("export", tmp_path / "ahead", "--to", "onnx")
    assert done.code == 2
    assert "a Forecaster has no form in ONNX yet" in done.err
    assert not np.any([p.suffix == ".onnx" for p in (tmp_path / "ahead").iterdir()])
