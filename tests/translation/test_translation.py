"""The translator: trained, measured, asked; as many lines out as in."""

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sacrebleu.metrics.bleu import BLEU

import elman as package
from command import elman
from elman.data.subwords import UNKNOWN, learn_vocabulary
from elman.decoding import score_targets
from elman.nn import DecoderState
from elman.tasks.translation import learning, scores
from elman.tasks.translation.answers import detokenized, oddness, spelled, tokenized
from elman.tasks.translation.learning import Search, batch_of
from tests.translation.small_language import sentences, translated, write


@pytest.fixture(scope="module")
def trained(folder: Path) -> Any:
    return package.load(folder / "run")


def test_it_learns_what_there_is_to_learn_and_beats_the_baselines(trained: Any) -> None:
    score = trained.evaluate()
    assert (score.name, score.higher) == ("BLEU", True)
    assert score.value > 90
    low, high = score.interval
    assert low <= score.value <= high + 1e-6
    assert re.search(r"tok:none.*version:", score.figures["signature"])
    assert score.figures["BLEU_13a"] > 90 and score.figures["chrF"] > 90
    beside = {known.name: known.score.value for known in trained.baselines() if known.part == "test"}
    assert set(beside) == {"copy of the source", "nearest training sentence"}
    assert max(beside.values()) < 50


def test_the_score_is_sacrebleu_of_what_predict_says(trained: Any, folder: Path) -> None:
    part = trained.prepared.part("test")
    said = [answer["translation"] for answer in trained.predict([pair.source for pair in part.pairs])]
    expected = BLEU(tokenize="none", force=True).corpus_score(said, [part.references]).score
    assert trained.evaluate().value == pytest.approx(expected)


LINES = "ein hund .\n\ndas haus rot .\n   \nzebra hund .\n\u2028ein\u2028 .\n"


def test_as_many_lines_out_as_in_through_a_pipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((LINES + "letzte .").encode())))
    done = elman("predict", folder / "run", "-", "--together", "2")
    lines = done.out.split("\n")
    assert done.code == 0 and lines.pop() == "" and len(lines) == 7
    assert lines[0] == "dog a ." and lines[2] == "red house the ."
    assert lines[1] == lines[3] == ""


def test_files_scores_and_the_n_best(folder: Path, here: Path, trained: Any) -> None:
    Path("a.txt").write_text("ein hund .\n\nrot .\n")
    scored = elman("predict", folder / "run", "a.txt", "--scores").out.splitlines()
    value, text = scored[0].split("\t")
    assert text == "dog a ."
    model, codec = trained.model, trained.codec
    source = codec.source.encode(["ein hund ."])[0]
    state = model.encode(torch.from_numpy(source).long().unsqueeze(1))
    target = codec.target.encode([text])[0].tolist()
    (expected,) = score_targets(model.step, torch.tensor([0]), state, [target], end=0)
    assert float(value) == pytest.approx(expected, abs=1e-3)
    many = elman("predict", folder / "run", "a.txt", "--n-best", "3").out.splitlines()
    assert [line.split(" ||| ")[0] for line in many] == ["0", "0", "0", "1", "2", "2", "2"]
    ranks = [float(line.split(" ||| ")[2]) for line in many[:3]]
    assert ranks == sorted(ranks, reverse=True) and many[0].split(" ||| ")[1] == "dog a ."
    objects = [
        json.loads(line)
        for line in elman("predict", folder / "run", "a.txt", "--json", "--n-best", "2").out.splitlines()
    ]
    assert [len(one["n_best"]) for one in objects] == [2, 1, 2]
    assert [one["place"] for one in objects] == ["a.txt:1", "a.txt:2", "a.txt:3"]
    assert elman("predict", folder / "run", "a.txt", "--n-best", "9").code == 2


@pytest.mark.parametrize(
    ("source", "translation", "odd"),
    [
        ("ein hund .", "a dog .", ""),
        ("new york city", "new york city", "the same as their source"),
        ("ok", "ok", ""),
        ("so", "and " * 30, "3 times longer or shorter than their source"),
        ("und " * 40, "no", "3 times longer or shorter than their source"),
        ("", "", ""),
    ],
)
def test_odd_translations_are_told(source: str, translation: str, odd: str) -> None:
    assert oddness(source, translation) == odd


def test_what_looks_odd_is_said_beside_the_answers(
    folder: Path, here: Path, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.txt").write_text("ein hund .\nrot .\n")
    monkeypatch.setattr("elman.tasks.translation.answers.SHORT", 0)
    monkeypatch.setattr("elman.tasks.translation.answers.ODD_RATIO", 1.05)
    done = elman("predict", folder / "run", "a.txt")
    assert done.out == "dog a .\nred .\n"
    assert "1 1.05 times longer or shorter than their source: a.txt:1" in done.err


def test_a_trained_translator_goes_on_with_other_pairs(folder: Path, here: Path) -> None:
    write(here, 60, 9)
    flags = [
        "--data",
        "train",
        "--from",
        "de",
        "--to",
        "en",
        "--run",
        "r",
        "--epochs",
        "1",
        "--rate",
        "0.0001",
    ]
    done = elman("train", "translation", *flags, "--init-from", folder / "run", "--threads", "1", "--quiet")
    assert done.code == 0, done.err
    again = package.load("r")
    assert again.codec.source.texts == package.load(folder / "run").codec.source.texts
    assert again.evaluate().value > 80


def test_it_is_asked_from_python(trained: Any) -> None:
    assert trained.predict("ein hund .")["translation"] == "dog a ."
    best = trained.translate(["ein hund .", "rot ."], n_best=2)
    assert [len(own) for own in best] == [2, 2]
    assert best[1][0].text == "red ."


def test_an_unknown_word_is_the_one_that_was_looked_at(trained: Any) -> None:
    codec = trained.codec
    tokens = [UNKNOWN, *codec.target.encode(["a ."])[0].tolist()]
    looked = np.array([[0.1, 0.8, 0.1], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert spelled(codec, "ein Zebra .", tokens, looked) == "Zebra a ."
    assert spelled(codec, "ein Zebra .", tokens, None) == "<unk> a ."


def test_other_files_are_measured(folder: Path, here: Path) -> None:
    write(here, 40, 7)
    done = json.loads(elman("evaluate", folder / "run", "--data", "train", "--json").out)
    assert done["metric"] == "BLEU" and done["value"] > 90 and done["sentences"] == 40
    given = elman(
        "evaluate", folder / "run", "--data", "train.de", "--target-from", "train.en", "--beam", "1"
    )
    assert "40 sentences" in given.out and "beam 1" in given.out
    Path("train.en").write_text("a .\n")
    short = elman("evaluate", folder / "run", "--data", "train")
    assert short.code == 2 and "has 40 lines" in short.err and "has 1" in short.err


def test_the_report_shows_where_it_looks(folder: Path) -> None:
    page = (folder / "run" / "report.html").read_text()
    assert page.count('class="heat"') == 3
    assert all(f"The {which}, chrF" in page for which in ("best", "median", "worst"))
    assert "GRU with attention" in page


def test_batches_hold_every_pair_with_an_end_on_both_sides(trained: Any) -> None:
    train = trained.prepared.part("train")
    batches, count = trained.task.batches(trained.config, trained.prepared)
    seen = 0
    for index in range(count):
        batch = batches(1, index)
        assert batch.source.shape[0] == batch.source_lengths.max()
        for b, n in enumerate(batch.target_lengths):
            assert batch.target[0, b] == 0 and batch.truth[n - 1, b] == 0
            assert batch.target[1:n, b].tolist() == batch.truth[: n - 1, b].tolist()
        seen += batch.source.shape[1]
    assert seen == len(train.pairs)


def test_the_loss_is_that_of_all_logits(trained: Any) -> None:
    part = trained.prepared.part("test")
    batch = batch_of(part.sources[:5], part.targets[:5])
    loss, total, count = learning.loss_of(trained.model, batch, 0.0)
    lengths = torch.from_numpy(batch.source_lengths)
    state = trained.model.encode(torch.from_numpy(batch.source), lengths)
    targets = [row.tolist() for row in part.targets[:5]]
    first = torch.zeros(5, dtype=torch.int64)
    expected = -sum(score_targets(trained.model.step, first, state, targets, end=0))
    assert total == pytest.approx(expected, rel=1e-4)
    assert loss.item() * count == pytest.approx(total, rel=1e-4)
    assert count == int(batch.target_lengths.sum())


def test_translations_do_not_depend_on_their_neighbours(trained: Any) -> None:
    tokens = trained.codec.source.encode(sentences(12, 3))
    together = learning.translate(trained.model, tokens, Search())
    for own, row in zip(together, tokens, strict=True):
        assert own[0].tokens == learning.translate(trained.model, [row], Search())[0][0].tokens
    state = trained.model.encode(torch.from_numpy(tokens[0]).long().unsqueeze(1))
    assert isinstance(state, DecoderState)


@pytest.mark.parametrize(
    ("given", "joined"),
    [
        ("a man &apos;s dog , red .", "a man's dog, red."),
        ("he said : &quot; well @-@ known &quot; !", 'he said: "well-known"!'),
        ("( a ) is n't &#91; b &#93;", "(a) isn't [b]"),
        ("", ""),
    ],
)
def test_what_was_set_apart_is_joined(given: str, joined: str) -> None:
    assert detokenized(given) == joined


def test_raw_lines_are_set_apart_as_the_training_was(folder: Path, here: Path) -> None:
    known = learn_vocabulary(["a man &apos;s dog ."], unit="words", size=0)
    assert tokenized('A man\'s t-shirt, "red".', known) == "a man &apos;s t-shirt , &quot; red &quot; ."
    cased = learn_vocabulary(["Ein Hund ."], unit="words", size=0)
    assert tokenized("Der Hund's Haus.", cased) == "Der Hund 's Haus ."
    Path("a.txt").write_text("Ein Hund.\n\nRot.\n")
    assert elman("predict", folder / "run", "a.txt", "--tokenize", "--detokenized").out == "dog a.\n\nred.\n"


BAD = [
    (["--data", "nowhere"], "no such file: nowhere"),
    (["--data", "t"], "name the two sides by --from and --to"),
    (["--data", "t", "--from", "de", "--to", "en", "--attention", "dot"], "--attention general"),
    (["--data", "t", "--from", "de", "--to", "en", "--attention", "multihead", "--heads", "5"], "--heads 5"),
    (["--data", "t", "--from", "de", "--to", "en", "--cell", "gruu"], "gru"),
    (["--data", "t", "--valid", "t", "--from", "de", "--to", "en", "--longest", "1"], "leaves no pair"),
    (["--data", "u", "--from", "de", "--to", "en"], "u.de has 2 lines, u.en has 3"),
    (["--data", "t.de", "--target-from", "t.en", "t.en"], "1 files of sources and 2"),
    (["--data", "v", "--from", "de", "--to", "en"], "2 of 3 pairs cannot be used: 1 empty source"),
    (["--data", "t", "--from", "de", "--to", "en", "--feeding"], "--look after"),
]


@pytest.mark.parametrize(("flags", "said"), BAD)
def test_bad_input_is_a_sentence_before_any_work(here: Path, flags: list[str], said: str) -> None:
    for name, text in {"t": "a b .\nc d .\n", "u": "a\nb\n", "v": "a\n\nb\n"}.items():
        Path(f"{name}.de").write_text(text)
        Path(f"{name}.en").write_text(text if name == "t" else "x\ny\n\n" if name == "v" else "x\ny\nz\n")
    done = elman("train", "translation", *flags, "--run", "r", "--quiet")
    assert done.code == 2, done.err
    assert said in done.err
    assert not Path("r").exists()


def test_the_tokenizer_of_bleu_follows_the_data(trained: Any) -> None:
    assert scores.tokenizer_of("auto", trained.codec) == "none"
    assert scores.tokenizer_of("auto", trained.codec._replace(tokenized=False)) == "13a"
    assert scores.tokenizer_of("char", trained.codec) == "char"
    assert translated("ein hund .") == "dog a ."


def test_a_training_may_be_fed_its_own_tokens(here: Path) -> None:
    write(here, 80, 1)
    flags = [
        "--data",
        "train",
        "--from",
        "de",
        "--to",
        "en",
        "--run",
        "r",
        "--hidden",
        "8",
        "--batch",
        "8",
        "--quiet",
    ]
    flags += ["--max-steps", "3", "--sampling-steps", "10", "--sampling-from", "drawn", "--threads", "1"]
    assert "without --sampling" in elman("train", "translation", *flags).err
    done = elman("train", "translation", *flags, "--sampling", "0.5")
    assert done.code == 0, done.err
    assert int(package.load("r").model.steps) == 3
