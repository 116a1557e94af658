"""Sentences with tags from files of every form: the same sentences come out, and what does not is in the account."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from elman.config import UserError
from elman.data.account import Account
from elman.data.schemes import spans_of
from elman.data.sentences import Sentence, WordReading
from elman.data.tagged import read_sentences, recognize_form

SENTENCES = [
    [("In", "O"), ("New", "B-LOC"), ("York", "I-LOC"), (",", "O")],
    [("\u201cAda\u201d", "B-PER"), ("1/2", "O")],
    [("so", "O"), ("it", "O"), ("is", "O"), ("#", "O")],
]


def read(text: str, how: WordReading | None = None, name: str = "data.txt") -> tuple[list[Sentence], Account]:
    Path(name).write_text(text, encoding="utf-8")
    account = Account()
    return read_sentences([name], account, how or WordReading()), account


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def columns(separator: str, *, more: bool = False) -> str:
    rows = [[separator.join((w, "_", t) if more else (w, t)) for w, t in own] for own in SENTENCES]
    return "\n\n".join("\n".join(own) for own in rows) + "\n"


def conllu() -> str:
    blocks = []
    for number, own in enumerate(SENTENCES):
        lines = [f"# newdoc id = {number}", "# text = so"]
        for at, (word, tag) in enumerate(own, 1):
            if at == 2:
                lines.append("\t".join(["2-3", "NewYork", *"_" * 8]))
            lines.append("\t".join([str(at), word, word.lower(), tag, "X", "_", "0", "root", "_", "_"]))
        lines.append("\t".join([f"{len(own)}.1", "ghost", "ghost", "VERB", *"_" * 6]))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n\n"


def numbered_table() -> str:
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["Sentence #", "Word", "POS", "Tag"])
    for number, own in enumerate(SENTENCES, 1):
        for at, (word, tag) in enumerate(own):
            rows.writerow([f"Sentence: {number}" if at == 0 else "", word, "NN", tag])
    return out.getvalue()


def lists() -> str:
    rows = [{"tokens": [w for w, _ in own], "ner_tags": [t for _, t in own]} for own in SENTENCES]
    return "\n".join(json.dumps(row) for row in rows)


def list_cells() -> str:
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["sentence", "word_labels"])
    for own in SENTENCES:
        rows.writerow([" ".join(w for w, _ in own), str([t for _, t in own])])
    return out.getvalue()


def slashes() -> str:
    return "\n".join(
        " ".join(f"{w.replace('/', chr(92) + '/')}/{t}" for w, t in own) for own in SENTENCES * 4
    )


FORMS: dict[str, Callable[[], str]] = {
    "tabs": lambda: columns("\t"),
    "spaces": lambda: columns(" "),
    "three columns": lambda: columns(" ", more=True),
    "CoNLL-U": conllu,
    "a word a row": numbered_table,
    "lists": lists,
    "cells with lists": list_cells,
    "slashes": slashes,
}


@pytest.mark.parametrize("form", list(FORMS))
def test_the_same_sentences_come_from_every_form(form: str) -> None:
    found, account = read(FORMS[form]())
    times = 4 if form == "slashes" else 1
    assert [list(zip(s.words, s.tags, strict=True)) for s in found] == SENTENCES * times
    assert (account.read, account.used) == (3 * times, 3 * times)
    assert account.found


@pytest.mark.parametrize("form", list(FORMS))
def test_words_alone_are_read_where_no_tags_are_asked(form: str) -> None:
    found, _ = read(FORMS[form](), WordReading(tagged=False))
    assert [list(s.words) for s in found[:3]] == [[w for w, _ in own] for own in SENTENCES]
    assert not any(s.tags for s in found)


def test_places_are_lines_of_the_file() -> None:
    found, _ = read(columns("\t"))
    assert [str(s.place) for s in found] == ["data.txt:1", "data.txt:6", "data.txt:9"]


def test_ranges_and_empty_nodes_are_remarked_on() -> None:
    found, account = read(conllu())
    remarks = " ".join(account.remarks)
    assert "multiword ranges passed over" in remarks and "empty nodes passed over" in remarks
    assert [s.group for s in found] == ["data.txt#1", "data.txt#2", "data.txt#3"]
    xpos, _ = read(conllu(), WordReading(tags="xpos"))
    assert set(xpos[0].tags) == {"X"}
    with pytest.raises(UserError, match="did you mean xpos"):
        read(conllu(), WordReading(tags="opos"))


def test_documents_comments_and_headers_are_no_words() -> None:
    text = "word tag\n-DOCSTART- -X-\n\n# a comment of many words\nso O\n\nit O\nis O\n"
    found, account = read(text)
    assert [s.words for s in found] == [("so",), ("it", "is")]
    assert "1 marks of documents" in " ".join(account.found) and "1 comments" in " ".join(account.found)
    assert "a header" in " ".join(account.found)


def test_a_broken_row_costs_its_sentence_and_no_other() -> None:
    found, account = read("a O\nb\n\nc O\n\nd O\ne O\n" + "f O\n\n" * 5)
    assert len(found) == 7 - 1
    assert str(account.faults["row that has not 2 columns"][0]) == "data.txt:2"
    assert account.read == 7


def test_numbers_in_front_are_no_words() -> None:
    found, _ = read("1 so X\n2 it Y\n\n1 is X\n")
    assert [s.words for s in found] == [("so", "it"), ("is",)]


def test_columns_may_be_named() -> None:
    found, _ = read("word\tpos\tner\nso\tRB\tO\nit\tPRP\tO\n", WordReading(tags="pos"))
    assert found[0].tags == ("RB", "PRP")
    with pytest.raises(UserError, match="its columns are word, pos, ner"):
        read("word\tpos\tner\nso\tRB\tO\n", WordReading(tags="chunk"))
    with pytest.raises(UserError, match="columns 1 to 2"):
        read("so O\n", WordReading(words="3"))


def test_a_file_without_blank_lines_is_cut_at_stops_and_that_is_said() -> None:
    text = ("so O\nit O\n. O\n\u201d O\n" * 60).strip()
    found, account = read(text)
    assert len(found) == account.read == 60
    assert found[1].words == ("so", "it", ".", "\u201d")
    assert str(found[1].place) == "data.txt:5"
    assert "no blank line in it, so it is cut" in " ".join(account.found)
    with pytest.raises(UserError, match="one sentence of 120 words"):
        read("so O\nit O\n" * 60)
    whole, _ = read("so O\nit O\n" * 60, WordReading(ends="blank"))
    assert len(whole) == 1


DOCCANO = [
    ({"text": "In New York, so", "label": [[3, 11, "LOC"]]}, [(1, 3, "LOC")], ""),
    (
        {"text": "In New York", "entities": [{"start_offset": 3, "end_offset": 9, "label": "X"}]},
        [(1, 3, "X")],
        "widened",
    ),
    ({"text": "In New York", "spans": [[0, 2, "A"], [0, 6, "B"]]}, [(0, 2, "B")], "overlap"),
    ({"text": "In New", "labels": []}, [], ""),
]


@pytest.mark.parametrize("number", range(len(DOCCANO)))
def test_spans_by_characters(number: int) -> None:
    row, expected, remark = DOCCANO[number]
    marked = {"text": "a b", next(key for key in row if key != "text"): [[0, 1, "Q"]]}
    found, account = read("\n".join(json.dumps(one) for one in (marked, row)))
    assert [tuple(span) for span in spans_of(found[1].tags)] == expected
    assert remark in " ".join(account.remarks)


def test_faults_of_spans() -> None:
    rows = [
        {"text": "so it", "label": [[0, 2, "A"]]},
        {"text": "so", "label": [[1, 9, "A"]]},
        {"text": " ", "label": []},
    ]
    found, account = read("\n".join(json.dumps(row) for row in [*rows, {"text": "so", "label": [["a"]]}]))
    assert len(found) == 1
    assert set(account.faults) == {
        "span that lies outside of its text",
        "empty text",
        "span that is not [start, end, label]",
    }


def test_a_broken_row_of_a_table_costs_its_sentence() -> None:
    text = "Sentence #,Word,Tag\n1,so,O\n,it\n2,is,O\n,,O\n3,a,O\n"
    found, account = read(text)
    assert [s.words for s in found] == [("a",)]
    assert {reason: str(at[0]) for reason, at in account.faults.items()} == {
        "not 3 cells": "data.txt:3",
        "row without a word": "data.txt:5",
    }


def test_unequal_lists_are_faults() -> None:
    rows = [
        {"tokens": ["a", "b"], "tags": ["O"]},
        {"tokens": ["a"], "tags": ["O"]},
        {"tokens": [], "tags": []},
    ]
    found, account = read("\n".join(json.dumps(row) for row in rows))
    assert len(found) == 1
    assert set(account.faults) == {"not as many tags as words", "sentence without words"}


def test_a_tag_that_is_missing_is_a_fault() -> None:
    found, account = read("so/O it\n" + "a/O b/O c/O\n" * 40)
    assert len(found) == 40
    assert list(account.faults) == ["word without a tag"]


def test_rows_that_are_empty_but_outside_are_passed_over() -> None:
    found, account = read("so\tO\n\tO\nit\tO\n\n\tO\n\n\tB-X\n")
    assert [s.words for s in found] == [("so", "it")]
    assert "rows without a word" in " ".join(account.remarks)
    assert set(account.faults) == {"sentence without words", "row without a word"}


@pytest.mark.parametrize(
    ("text", "form"),
    [("He said/did and/or so", "columns"), ('{"a": 1}', "json"), ("a_X b_Y c_X\n" * 9, "slashes")],
)
def test_what_a_file_is_taken_for(text: str, form: str) -> None:
    assert recognize_form(text) == form


def test_what_cannot_be_read_is_said() -> None:
    for text, words in (
        ("", "is empty"),
        ("so\nit\n", "neither rows of words with tags"),
        ('{"x": 1}', "no column of words"),
    ):
        with pytest.raises(UserError, match=words):
            read(text)
    with pytest.raises(UserError, match=r"did you mean data\.txt"):
        read_sentences(["dat.txt"], Account())
