"""The classifier: trained, measured, asked, explained; exact over long texts."""

import json
import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman as package
from command import elman
from elman.config import UserError, build
from elman.data.labels import Labels, steady_thresholds
from elman.data.words import Lexicon, pieces_of
from elman.tasks.classification import learning
from elman.tasks.classification.learning import batch_of, build_model, loss_of
from elman.tasks.classification.settings import Config
from elman.tasks.classification.texts import Codec
from tests.classification import moods
from tolerances import assert_near

START = Path(__file__).parents[2]


def test_it_learns_what_there_is_to_learn_and_beats_the_majority(folder: Path) -> None:
    trained = package.load(folder / "run")
    score = trained.evaluate()
    assert score.name == "accuracy"
    assert score.value > 0.95
    low, high = score.interval
    assert low <= score.value <= high
    beside = {known.name: known.score.value for known in trained.baselines() if known.part == "test"}
    assert beside["majority"] < 0.5
    assert any(name.startswith("linear bag of words") for name in beside)
    assert score.figures["labels"].keys() == set(moods.MOODS)


def test_several_labels_have_thresholds_tuned_on_the_validation_data(several: Path) -> None:
    trained = package.load(several / "run")
    score = trained.evaluate()
    assert score.name == "macro F1"
    assert score.value > 0.9
    valid = trained.prepared.part("valid")
    p = trained.probabilities(valid)
    expected = steady_thresholds(p, valid.truth)
    np.testing.assert_allclose(trained.thresholds, expected, atol=1e-6)
    answer = trained.predict("so happy and furious it is")
    assert set(answer["labels"]) == {"joy", "anger"}


FILES: dict[str, Any] = {
    "a.csv": 'who,text\n1,"so happy,\nit is"\n2\n3,\n4,we are scared\n',
    "a.jsonl": '{"text": "so happy"}\n\n{"text": 7}\n{broken\n{"text": "we are scared"}\n',
    "a.txt": "so happy\n\nwe are scared\n",
    "b.csv": 'text\n"so, happy"\n\nwe are scared\n',
    "a.json": '[{"text": "so happy"}, {"text": null}, {"text": "we are scared"}]',
}


@pytest.mark.parametrize(
    ("name", "places"), [("a.csv", 4), ("a.jsonl", 5), ("a.txt", 3), ("a.json", 3), ("b.csv", 3)]
)
def test_as_many_answers_as_texts(folder: Path, here: Path, name: str, places: int) -> None:
    Path(name).write_text(FILES[name])
    plain = elman("predict", folder / "run", name)
    objects = [json.loads(line) for line in elman("predict", folder / "run", name, "--json").out.splitlines()]
    assert plain.code == 0
    assert len(plain.out.splitlines()) == len(objects) == places
    assert ["error" in one for one in objects] == [line == "" for line in plain.out.splitlines()]
    assert [objects[0]["label"], objects[-1]["label"]] == ["joy", "fear"]
    assert sum("error" in one for one in objects) == places - 2


def test_a_header_alone_is_said_to_be_one(folder: Path, here: Path) -> None:
    for name, header in (("a.csv", "text,mood"), ("b.csv", "text,label")):
        Path(name).write_text(f"{header}\n")
        asked = elman("predict", folder / "run", name)
        assert (asked.code, asked.out) == (0, "")
        assert f"{name} has no input" in asked.err
    Path("c.csv").write_text("text,mood\nso happy,\n")
    assert len(elman("predict", folder / "run", "c.csv").out.splitlines()) == 1
    for word in ("train", "evaluate"):
        name = "emotion" if word == "train" else folder / "run"
        refused = elman(word, name, "--data", "b.csv")
        assert refused.code == 2
        assert "b.csv has a header (text, label) and no row below it" in refused.err


def test_inputs_are_looked_for_before_the_model_is_loaded(folder: Path, here: Path) -> None:
    broken = here / "run"
    shutil.copytree(folder / "run", broken)
    (broken / "best.safetensors").write_bytes(b"")
    Path("a.txt").write_text("so happy\n")
    assert "no such file or folder: b.txt; did you mean a.txt" in elman("predict", broken, "b.txt").err
    assert "nothing to read" in elman("predict", broken).err
    assert "best.safetensors is damaged" in elman("predict", broken, "a.txt").err


def test_a_folder_is_a_text_a_file_and_a_table_may_be_lines(folder: Path, here: Path) -> None:
    Path("texts").mkdir()
    for number, text in enumerate(["so happy\nand glad\n", "", "we are\nscared"]):
        Path(f"texts/{number}.txt").write_text(text)
    found = elman("predict", folder / "run", "texts").out.splitlines()
    assert [line.split(" ")[0] for line in found] == ["joy", "", "fear"]
    Path("a.csv").write_text("so happy, so glad\n")
    assert elman("predict", folder / "run", "a.csv", "--read", "lines").out.startswith("joy")


def test_answers_show_the_words_that_weighed(folder: Path, here: Path) -> None:
    trained = package.load(folder / "run")
    text = "it is the furious day of time"
    answer = trained.predict(text, words=2)
    assert answer["label"] == "anger"
    assert abs(sum(answer["probabilities"].values()) - 1) < 1e-4
    first = answer["words"][0]
    assert (first["word"], text[first["start"] : first["end"]]) == ("furious", "furious")
    assert first["weight"] > 0
    assert "words" not in trained.predict(text, words=0)
    Path("in.txt").write_text(f"{text}\n<b>happy</b>\n")
    line = elman("predict", folder / "run", "in.txt", "--colour", "always", "--html", "page.html").out
    assert "\x1b[1manger" in line
    assert "\x1b[32mfurious +" in line
    page = Path("page.html").read_text()
    assert re.search("<mark[^>]*>furious</mark>", page)
    assert "<b>happy" not in page
    assert not re.search("https?:|src=", page)


def flips(trained: Any, texts: list[str], *, count: int, seed: int) -> tuple[float, float]:
    """How often the class changes without the heaviest words, and without as many others, drawn."""
    draw = random.Random(seed)
    heavy = drawn = 0
    explained = trained.explained(texts)
    shorter: list[list[str]] = [[], []]
    for one in explained:
        order = np.argsort(-one.weights, kind="stable")[:count].tolist()
        chance = draw.sample(range(len(one.spans)), min(count, len(one.spans)))
        for own, gone in zip(shorter, (order, chance), strict=True):
            own.append(" ".join(span.word for place, span in enumerate(one.spans) if place not in gone))
    labels = [one.labels for one in explained]
    for own, kind in zip(shorter, ("heavy", "drawn"), strict=True):
        kept = [i for i, text in enumerate(own) if text.strip()]
        after = trained.explained([own[i] for i in kept])
        changed = sum(one.labels != labels[i] for i, one in zip(kept, after, strict=True))
        heavy, drawn = (changed, drawn) if kind == "heavy" else (heavy, changed)
    return heavy / len(texts), drawn / len(texts)


def test_without_its_three_heaviest_words_a_text_changes_class_far_more_often(folder: Path) -> None:
    trained = package.load(folder / "run")
    heavy, drawn = flips(trained, trained.prepared.part("valid").texts, count=3, seed=0)
    assert heavy >= 2 * drawn
    assert heavy > 0.3


DATA = Path(os.environ.get("ELMAN_DATA", "../shared/data"))


@pytest.mark.slow
@pytest.mark.data
def test_so_does_a_text_of_real_emotions(here: Path) -> None:
    """Two epochs of the reported configuration, asked about its 2,000 validation texts."""
    data = START / DATA / "emotion"
    if not data.is_dir():
        pytest.skip(f"no emotions under {DATA}: set ELMAN_DATA to the folder that holds emotion/")
    config = START / "configs" / "classification" / "emotion.toml"
    flags = ["--config", config, "--data", data, "--epochs", "2", "--threads", "1", "--quiet"]
    done = elman("train", "emotion", *flags, "--run", "run")
    assert done.code == 0, done.err
    trained = package.load("run")
    valid = trained.prepared.part("valid").texts
    heavy, drawn = flips(trained, valid, count=3, seed=0)
    assert len(valid) == 2000
    assert heavy >= 2 * drawn
    assert heavy > 0.3


def test_the_report_shows_labels_confusion_calibration_and_errors(folder: Path, several: Path) -> None:
    one, many = ((run / "run" / "report.html").read_text() for run in (folder, several))
    for title in ("Labels", "Calibration", "Worst errors", "Data", "Network"):
        assert f"<h2>{title}</h2>" in one
        assert f"<h2>{title}</h2>" in many
    assert "<h2>Confusion</h2>" in one
    assert "Expected calibration error" in one
    assert "threshold" in many
    assert "read 600 rows, used 600" in one


# The network


def config(**model: Any) -> Config:
    values = {"hidden": 5, "embedding": 4, "dropout": 0.0, "word_dropout": 0.0, **model}
    return build(Config, {f"model.{name}": value for name, value in values.items()})


CODEC = Codec(Labels(("a", "b", "c"), several=False), Lexicon(tuple("stuvwxyz")), {})


def drawn_texts(lengths: list[int]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, CODEC.lexicon.size, length).astype(np.int32) for length in lengths]


@pytest.mark.parametrize("pooling", ["last", "max+mean", "attention"])
def test_long_texts_are_read_whole_and_exactly_in_chunks(pooling: str) -> None:
    texts = drawn_texts([301, 7, 150])
    batch = batch_of(texts, np.array([0, 1, 2]))
    found = []
    for every in (0, 32):
        torch.manual_seed(0)
        model = build_model(config(pooling=pooling, recompute_every=every), CODEC)
        losses = loss_of(model, batch, 0.0, None)
        losses.sum().backward()
        found.append((losses.detach(), {name: p.grad for name, p in model.named_parameters()}))
    assert_near(found[1][0], found[0][0])
    for name, gradient in found[0][1].items():
        assert_near(found[1][1][name], gradient, gradient=True, what=name)


def test_a_text_has_the_same_answer_alone_and_in_company() -> None:
    model = build_model(config(), CODEC)
    texts = drawn_texts([3, 40, 1, 12, 12, 700])
    together = learning.probabilities(model, texts, several=False)
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_allclose(learning.probabilities(model, [text], several=False)[0], row, atol=1e-6)


def test_losses_by_hand() -> None:
    model = build_model(config(), CODEC)
    batch = batch_of(drawn_texts([4, 6]), np.array([2, 0]))
    logits = learning.logits_of(model, batch).detach()
    logs = logits.log_softmax(dim=1)
    assert_near(loss_of(model, batch, 0.0, None).detach(), torch.stack([-logs[0, 2], -logs[1, 0]]))
    smooth = 0.7 * torch.stack([-logs[0, 2], -logs[1, 0]]) - 0.3 * logs.mean(dim=1)
    assert_near(loss_of(model, batch, 0.3, None).detach(), smooth)
    weights = np.array([2.0, 1.0, 0.5], dtype=np.float32)
    assert_near(
        loss_of(model, batch, 0.0, weights).detach(), torch.stack([-0.5 * logs[0, 2], -2 * logs[1, 0]])
    )
    truth = np.array([[1, 0, 1], [0, 0, 0]])
    p = logits.sigmoid()
    own = torch.stack([-(p[0, 0] * (1 - p[0, 1]) * p[0, 2]).log(), -(1 - p[1]).log().sum()])
    assert_near(loss_of(model, batch._replace(truth=truth), 0.0, None).detach(), own)


def test_word_weights_are_the_gradient_times_the_input() -> None:
    model = build_model(config(), CODEC).double()
    text = drawn_texts([6])[0]
    found = learning.word_weights(model, [text], [[1]], several=False)[0]
    table = model.embedding.weight.detach()
    e = table[torch.from_numpy(text.astype(np.int64))]

    def log_p(vectors: torch.Tensor) -> float:
        handle = model.embedding.register_forward_hook(lambda *_: vectors.unsqueeze(1))
        with torch.no_grad():
            logs = learning.logits_of(model, batch_of([text], np.zeros(1, dtype=np.int64))).log_softmax(1)
        handle.remove()
        return float(logs[0, 1])

    step = 1e-5
    for place in range(6):
        up, down = e.clone(), e.clone()
        up[place] *= 1 + step
        down[place] *= 1 - step
        assert abs((log_p(up) - log_p(down)) / (2 * step) - found[place]) < 1e-6


def test_pretrained_vectors_are_where_the_embedding_starts(folder: Path, here: Path) -> None:
    words = [word for mood in moods.MOODS.values() for word in mood]
    rows = [f"{word} {place}.5 {-place} 1 2" for place, word in enumerate(words)]
    Path("vectors.txt").write_text("\n".join(rows) + "\n")
    flags = ["--vectors", "vectors.txt", "--hidden", "4", "--max-steps", "2", "--epochs", "1", "--quiet"]
    done = elman("train", "emotion", "--data", folder / "data.csv", "--run", "run", *flags, "--frozen")
    assert done.code == 0, done.err
    assert f"vectors of 4 numbers for {len(words)} of" in " ".join(
        json.loads(Path("run/run.json").read_text())["account"]
    )
    Path("vectors.txt").unlink()
    trained = package.load("run")
    number = trained.codec.lexicon.words.index("glad") + 1
    assert trained.model.embedding.weight[number].tolist() == [1.5, -1.0, 1.0, 2.0]
    wide = elman("train", "emotion", "--data", folder / "data.csv", "--run", "b", "--vectors", "vectors.txt")
    assert wide.code == 2
    assert "vectors.txt" in wide.err


def test_words_that_look_alike_share_subwords() -> None:
    lexicon = Lexicon(("real", "really", "so"), subwords=10**4)
    torch.manual_seed(0)
    wide = config(embedding=200)
    model = build_model(wide, Codec(Labels(("a", "b"), several=False), lexicon, {})).eval()
    model.embedding.weight.data.zero_()
    _, real, really, so = model.embedding(torch.arange(4).unsqueeze(1)).squeeze(1).unbind()
    rows = model.embedding.subwords[pieces_of("real", 10**4)]
    torch.testing.assert_close(real, rows.mean(0))
    assert torch.cosine_similarity(real, really, dim=0) > torch.cosine_similarity(real, so, dim=0)
    for given in ({"data.tokens": "characters"}, {"data.vectors": "v.txt", "data.frozen": True}):
        with pytest.raises(UserError, match="--subwords"):
            build(Config, {"data.subwords": 5, **given})


def test_class_weights_reach_the_loss_and_names_are_checked(folder: Path) -> None:
    trained = package.load(folder / "run")
    part = trained.prepared.part("train")
    heavier = build(Config, {"data.class_weights": ["joy=3"]})
    names = trained.codec.labels.names
    weights = learning.label_weights(heavier, part, trained.codec)
    assert weights.tolist() == [3.0 if name == "joy" else 1.0 for name in names]
    even = learning.label_weights(build(Config, {"data.class_weights": ["balanced"]}), part, trained.codec)
    counts = np.bincount(part.truth)
    np.testing.assert_allclose(even * counts, counts.sum() / 3, rtol=1e-5)
    with pytest.raises(UserError, match="no such label; did you mean anger"):
        learning.label_weights(build(Config, {"data.class_weights": ["angr=3"]}), part, trained.codec)


@pytest.mark.slow
def test_a_megabyte_is_trained_on_whole_in_two_gigabytes(here: Path) -> None:
    """A text of a million bytes, among short ones: an epoch and an answer, with the memory of the process bounded."""
    import resource
    import subprocess
    import sys

    draw = random.Random(0)
    long = " ".join(draw.choices(moods.FILLING + moods.MOODS["joy"], k=230_000))[:1_000_000]
    rows = [*moods.rows(40, 1), (long, "joy")]
    Path("a.csv").write_text("text,mood\n" + "".join(f"{text},{mood}\n" for text, mood in rows))
    flags = ["--valid-share", "0.1", "--test-share", "0", "--epochs", "1", "--threads", "1", "--quiet"]
    command = [sys.executable, "-m", "elman", "train", "emotion", "--data", "a.csv", "--run", "run", *flags]
    assert subprocess.run(command, check=False).returncode == 0
    Path("long.txt").write_text(long)
    asked = subprocess.run(
        [sys.executable, "-m", "elman", "predict", "run", "long.txt", "--json"],
        capture_output=True,
        check=True,
    )
    assert json.loads(asked.stdout)["text"] == long
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2_000_000
