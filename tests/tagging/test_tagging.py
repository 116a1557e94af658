"""The tagger as a user has it: trained, measured, asked, shown."""

import json
from pathlib import Path

import numpy as np
import pytest

import elman as package
from command import elman
from elman.tasks.tagging import learning
from tests.tagging import names


def test_it_learns_and_stands_beside_simple_rules(folder: Path) -> None:
    found = json.loads(elman("evaluate", folder / "run", "--json").out)
    assert found["metric"] == "span F1"
    assert found["value"] > 0.9
    assert {one["baseline"] for one in found["baselines"]} == {
        "most frequent tag",
        "linear model of words and affixes",
    }
    assert set(found["by_kind"]) == {"LOC", "PER"}
    line = elman("evaluate", folder / "run").out
    assert "span F1" in line and "precision" in line and "words in" in line


def test_spans_have_their_places_in_the_text(folder: Path, here: Path) -> None:
    place = next(word for own in names.sentences(240, 0) for word, tag in own if tag == "B-LOC")
    text = f"so  Mr. Ada Bo is in {place}."
    answer = package.load(folder / "run").predict(text)
    assert [(span["text"], span["label"]) for span in answer["spans"]] == [
        ("Ada Bo", "PER"),
        (place, "LOC"),
    ]
    for span in (*answer["spans"], *answer["words"]):
        assert text[span["start"] : span["end"]] == span.get("word", span.get("text"))
        assert 0 < span["probability"] <= 1
    Path("new.txt").write_text(f"{text}\n\n")
    shown = elman("predict", folder / "run", "new.txt", "--colour", "never").out.splitlines()
    assert len(shown) == 2
    assert shown[0].startswith("so  Mr. [PER ") and shown[0].endswith(f" {place}].")


def test_words_may_be_given(folder: Path) -> None:
    trained = package.load(folder / "run")
    (answer,) = trained.predict([("in", "Xa", "ton")])
    assert [word["word"] for word in answer["words"]] == ["in", "Xa", "ton"]
    assert answer["text"] == "in Xa ton"
    assert trained.predict("in  Maton's", read="words")["text"] == "in Maton's"


def test_files_of_sentences_are_read_as_such(folder: Path, here: Path) -> None:
    Path("new.conll").write_text("in\nBaton\n\n.\n")
    out = elman("predict", folder / "run", "new.conll", "--json").out.splitlines()
    assert [json.loads(line)["place"] for line in out] == ["new.conll:1", "new.conll:4"]


def test_the_answer_is_always_sound(folder: Path) -> None:
    trained = package.load(folder / "run")
    rows = [np.random.default_rng(seed).normal(0, 3, (6, len(trained.codec.tags))) for seed in range(50)]
    rule = trained.codec.allowed
    for tags in learning.best_tags(rows, learning.chain_of(trained.model, trained.codec)):
        assert rule.first[tags[0]] and rule.last[tags[-1]] and rule.pairs[tags[:-1], tags[1:]].all()


def test_a_sure_span_is_the_sum_over_all_taggings(folder: Path) -> None:
    """p of a span equals the share of drawn taggings that have it just so."""
    trained = package.load(folder / "run")
    answer = trained.predict("in Baton")
    whole = {word["word"]: word for word in answer["words"]}
    (span,) = answer["spans"]
    assert span["probability"] <= whole["Baton"]["probability"] + 1e-6


def test_plain_tags(plain: Path, here: Path) -> None:
    found = json.loads(elman("evaluate", plain / "run", "--json").out)
    assert found["metric"] == "accuracy"
    assert found["value"] > 0.9
    Path("new.txt").write_text("so Ada.\n")
    assert elman("predict", plain / "run", "new.txt").out.split() == ["so/WORD", "Ada/NAME", "./STOP"]


def test_reports(folder: Path, plain: Path) -> None:
    spans = (folder / "run" / "report.html").read_text()
    tags = (plain / "run" / "report.html").read_text()
    assert all(
        word in spans for word in ("Kinds of spans", "What follows what", "Calibration", "Worst errors")
    )
    assert "Confusion" in tags and "What follows what" not in tags


def test_other_files_in_another_scheme_give_the_same(folder: Path, here: Path) -> None:
    names.write(here / "bio.conll", 40, 9)
    from elman.data.schemes import spans_of, tags_of

    rows = [
        [
            (word, tag)
            for (word, _), tag in zip(
                own, tags_of(spans_of([t for _, t in own]), len(own), "bilou"), strict=True
            )
        ]
        for own in names.sentences(40, 9)
    ]
    text = "\n\n".join("\n".join(f"{word} {tag}" for word, tag in own) for own in rows)
    (here / "bilou.txt").write_text(text + "\n")
    trained = package.load(folder / "run")
    first, second = (trained.evaluate(name) for name in ("bio.conll", "bilou.txt"))
    assert first == second


def test_apart_is_left_out_of_the_measure_and_the_total_beside_it(folder: Path) -> None:
    from elman.tasks.tagging.sentences import marked

    assert marked(["a", "@", "me", "@x"], r"@ \S+").tolist() == [False, True, True, False]
    assert marked(["ab", "c"], "b").tolist() == [True, False]
    assert marked(["ab", "c"], "").tolist() == [False, False]


def test_unknown_kinds_count_as_missed(folder: Path, here: Path) -> None:
    Path("odd.conll").write_text("in O\nBaton B-LOC\n\nZed B-ANIMAL\n")
    found = json.loads(elman("evaluate", folder / "run", "--data", "odd.conll", "--json").out)
    assert found["by_kind"]["ANIMAL"]["recall"] == 0
    assert found["spans"] == 2
    assert (
        "which the training data do not have" in elman("evaluate", folder / "run", "--data", "odd.conll").err
    )


BAD = {
    "one cell a line": ("so\nit\nis\n", "neither rows of words with tags"),
    "no tags but one": ("a X\n\nb X\n\nc X\n" * 8, "too few tags (X)"),
    "spans and others": ("a B-X\nb O\n\n" * 9 + "c NN\n", "too few|cannot be used|tag"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_data_end_in_a_sentence(name: str, here: Path) -> None:
    text, words = BAD[name]
    Path("bad.txt").write_text(text)
    done = elman(
        "train",
        "tagging",
        "--data",
        "bad.txt",
        "--run",
        "r",
        "--quiet",
        "--max-steps",
        "1",
        "--tags",
        "spans" if "others" in name else "auto",
    )
    assert done.code == 2
    assert any(part in done.err for part in words.split("|")), done.err
    assert not Path("r").exists()


def test_flags_that_do_not_fit_are_said() -> None:
    for flags, words in (
        (["--output", "crf", "--smoothing", "0.1"], "--smoothing"),
        (["--apart", "("], "no regular expression"),
        (["--spelling", "first"], "--spelling"),
        (["--valid-share", "0.6", "--test-share", "0.5"], "leave nothing"),
    ):
        done = elman("train", "tagging", "--data", "x", "--run", "r", *flags)
        assert (done.code, words in done.err) == (2, True), done.err
