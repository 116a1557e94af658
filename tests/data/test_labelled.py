"""Labelled texts: what was written in any form comes back, or has its line in the account."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elman.config import UserError
from elman.data.account import Account, Place
from elman.data.columns import Chosen
from elman.data.labelled import Example, Reading, parts_of, read_labelled, read_names
from elman.data.table import Given
from tests.data import tables

Rows = list[tuple[str, str]]
reuses_a_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


HOW = Reading()


def read(path: Path, how: Reading = HOW, **more: object) -> tuple[list[Example], Account]:
    account = Account()
    return read_labelled([str(path)], account, how, **more), account


def pairs(examples: list[Example]) -> Rows:
    return [(example.text, " & ".join(example.labels)) for example in examples]


def write(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


# Round trips

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32")


@reuses_a_folder
@given(
    tables.rows(),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from([(), ("text", "label"), ("tweet_id", "what")]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(ENCODINGS),
    st.booleans(),
)
def test_delimited_tables_come_back(
    tmp_path: Path,
    rows: Rows,
    delimiter: str,
    header: tuple[str, ...],
    ends: str,
    encoding: str,
    escape: bool,
) -> None:
    if escape:
        # csv writes a backslash within quotes as it is; a reader that takes it for an escape cannot know.
        rows = [(text.replace("\\", "/"), label) for text, label in rows]
    else:
        rows = [(text.replace('\\"', '"'), label) for text, label in rows]
    content = tables.delimited(rows, delimiter, header=header, ends=ends, escape=escape)
    found, account = read(write(tmp_path / "a.csv", content, encoding))
    assert pairs(found) == rows
    assert account.used == account.read == len(rows)


@reuses_a_folder
@given(tables.rows(), st.sampled_from(ENCODINGS), st.booleans())
def test_lines_of_json_come_back(tmp_path: Path, rows: Rows, encoding: str, ascii_only: bool) -> None:
    found, account = read(write(tmp_path / "a", tables.json_lines(rows, ascii_only=ascii_only), encoding))
    assert pairs(found) == rows
    assert [example.place.line for example in found] == list(range(1, len(rows) + 1))
    assert account.used == account.read


@reuses_a_folder
@given(tables.rows(), st.sampled_from([None, 2]))
def test_arrays_of_json_come_back_with_their_lines(tmp_path: Path, rows: Rows, indent: int | None) -> None:
    records = [{"text": text, "label": label} for text, label in rows]
    path = write(tmp_path / "a.json", json.dumps(records, indent=indent))
    found, _ = read(path)
    assert pairs(found) == rows
    for place, (_, label) in zip((example.place for example in found), rows, strict=True):
        lines = path.read_text().split("\n")[place.line - 1 : place.line + 3]
        assert any(json.dumps(label) in line for line in lines)


def test_a_table_of_columns_in_json(tmp_path: Path) -> None:
    rows = [("so it is", "a"), ("and so on", "b")]
    for columns in (
        {"text": [text for text, _ in rows], "label": [label for _, label in rows]},
        {
            "text": {str(i): row[0] for i, row in enumerate(rows)},
            "label": {str(i): row[1] for i, row in enumerate(rows)},
        },
    ):
        assert pairs(read(write(tmp_path / "a.json", json.dumps(columns)))[0]) == rows


def test_an_array_inside_of_an_object(tmp_path: Path) -> None:
    content = (
        '{"version": 1,\n "data": [{"text": "so it is", "label": "a"},\n {"text": "and so", "label": "b"}]}'
    )
    found, _ = read(write(tmp_path / "a.json", content))
    assert pairs(found) == [("so it is", "a"), ("and so", "b")]
    assert [example.place.line for example in found] == [2, 3]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (
            '"3","A title","so it is, and so on"\n"4","Another","and then it was"\n' * 3,
            ("so it is, and so on", "3"),
        ),
        ('ham\tso it is\nspam\twin "now\n' * 4, ("so it is", "ham")),
        (
            '"0","1467","Mon Apr 06","NO_QUERY","joe","so it is and on"\n'
            '"4","1468","Tue Apr 07","NO_QUERY","ann","well it is"\n' * 4,
            ("so it is and on", "0"),
        ),
        ("so it is;joy\nand so on;anger\n" * 3, ("so it is", "joy")),
        ("id,review,sentiment\n1,so it is,pos\n2,and so,neg\n", ("so it is", "pos")),
        (",text,target\n0,so it is,1.0\n1,and so,0.0\n", ("so it is", "1.0")),
    ],
)
def test_tables_as_people_bring_them(tmp_path: Path, content: str, rows: tuple[str, str]) -> None:
    found, account = read(write(tmp_path / "a", content))
    assert pairs(found)[0] == rows
    assert account.used == account.read == len(found)


def test_a_file_that_is_no_text_in_a_folder_of_classes_is_a_fault(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "pos" / f"{number}.txt", "so good")
        write(tmp_path / "neg" / f"{number}.txt", "so bad")
    write(tmp_path / "neg" / "x.png", b"\x89PNG\0\0\1\2\0\0\xff\xfe")
    write(tmp_path / "neg" / "y.txt", " \n")
    found, account = read(tmp_path)
    assert len(found) == 6
    assert sorted(account.faults) == ["empty file", "file that is not text"]


one_line = tables.LETTERS.replace("\n", "").replace("\r", "")


@reuses_a_folder
@given(tables.rows(one_line, ("joy", "anger", "no_news")), st.sampled_from(ENCODINGS))
def test_fasttext_comes_back(tmp_path: Path, rows: Rows, encoding: str) -> None:
    lines = "".join(f"__label__{label} {text}\n" for text, label in rows)
    found, account = read(write(tmp_path / "a", lines, encoding))
    assert pairs(found) == [(text.strip(), label) for text, label in rows]
    assert account.used == account.read


def test_fasttext_with_several_labels(tmp_path: Path) -> None:
    found, account = read(
        write(tmp_path / "a", "__label__a __label__b so it is\n__label__a\nno label\n\nx __label__b\n")
    )
    assert pairs(found) == [("so it is", "a & b"), ("x", "b")]
    assert account.faults == {
        "empty text": [Place(str(tmp_path / "a"), 2)],
        "no label": [Place(str(tmp_path / "a"), 3)],
    }
    assert account.aside == {"blank line": [Place(str(tmp_path / "a"), 4)]}


@reuses_a_folder
@given(tables.rows(one_line), st.sampled_from(["\n", "\r\n"]))
def test_aligned_files_come_back(tmp_path: Path, rows: Rows, ends: str) -> None:
    text = write(tmp_path / "t", "".join(text + ends for text, _ in rows))
    labels = write(tmp_path / "l", "".join(label + ends for _, label in rows))
    found, account = read(text, labels=[str(labels)])
    assert pairs(found) == rows
    assert account.used == account.read


def test_aligned_files_of_other_lengths_are_refused(tmp_path: Path) -> None:
    text, labels = write(tmp_path / "t", "one\ntwo\nthree\n"), write(tmp_path / "l", "a\nb\n")
    with pytest.raises(UserError, match=r"has 3 lines, .* has 2"):
        read(text, labels=[str(labels)])


@reuses_a_folder
@given(tables.rows(labels=("joy", "anger", "très bien")))
def test_folders_of_classes_come_back(tmp_path: Path, rows: Rows) -> None:
    for number, (text, label) in enumerate(rows):
        write(tmp_path / str(len(rows)) / label / f"{number}.txt", text)
    write(tmp_path / str(len(rows)) / "README.md", "no data")
    found, account = read(tmp_path / str(len(rows)))
    assert set(rows) <= set(pairs(found))
    assert account.used == account.read


def test_a_file_a_class_with_a_text_a_line(tmp_path: Path) -> None:
    write(tmp_path / "d" / "rt-polarity.pos", "so good\n\nvery, very good\n")
    write(tmp_path / "d" / "rt-polarity.neg", "so bad\n")
    found, account = read(tmp_path / "d")
    assert pairs(found) == [("so bad", "neg"), ("so good", "pos"), ("very, very good", "pos")]
    assert account.aside == {"blank line": [Place(str(tmp_path / "d" / "rt-polarity.pos"), 2)]}


def test_trees_give_sentences_and_phrases(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "(3 (2 It) (4 (2 is) (3 good)))\n(1 (1 Bad) (2 -LRB-))\n(1 (2 x)\n")
    found, account = read(path)
    whole = [example for example in found if not example.phrase]
    assert pairs(whole) == [("It is good", "positive"), ("Bad (", "negative")]
    assert len(found) == 8
    assert ("is good", "very positive") in pairs(found)
    assert account.faults == {"broken tree": [Place(str(path), 3)]}
    assert account.used == 8
    assert pairs(read(path, Reading(phrases=False))[0]) == pairs(whole)


# Several labels


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ("text,labels\nso it is,a|b\nand so,a\nagain,b\n", ["a & b", "a", "b"]),
        ('text,labels\nso it is,"a, b"\nand so,a\nagain,b\n', ["a & b", "a", "b"]),
        (
            "so it is\t4,27\tx1\nand so on\t27\tx2\nagain it is\t4\tx3\nand\t4\tx4\n",
            ["4 & 27", "27", "4", "4"],
        ),
        ('text,labels\nso it is,"[""a"", ""b""]"\nand so,"[]"\n', ["a & b", ""]),
        ("text,labels\nso it is,\"['a', 'b']\"\nand so,[]\n", ["a & b", ""]),
        ("text,labels\nso it is,[4 27]\nand so,[27]\n", ["4 & 27", "27"]),
        ("text,toxic,insult\nso it is,1,1\nand so,0,0\nx,0,1\n", ["toxic & insult", "", "insult"]),
        ('{"text": "so it is", "label": ["a", "b"]}\n{"text": "and", "label": []}\n', ["a & b", ""]),
        (
            '{"text": "so it is", "cats": {"a": 1, "b": 0}}\n{"text": "and", "cats": {"a": 0, "b": 1}}\n',
            ["a", "b"],
        ),
        ('{"text": "so it is", "label": 1.0}\n{"text": "and", "label": true}\n', ["1", "true"]),
    ],
)
def test_lists_of_labels(tmp_path: Path, content: str, labels: list[str]) -> None:
    found, account = read(write(tmp_path / "a", content))
    assert [" & ".join(example.labels) for example in found] == labels
    assert account.bad == 0


def test_labels_with_commas_are_no_lists(tmp_path: Path) -> None:
    content = 'text,label\nso,"good, very"\nit,"bad, very"\nis,"good, very"\n'
    assert {label for _, label in pairs(read(write(tmp_path / "a", content))[0])} == {
        "good, very",
        "bad, very",
    }


# Faults


@pytest.mark.parametrize(
    ("content", "faults", "used"),
    [
        ('text,label\n"so,a\nit,b\n"is"x,a\nnow,b\n', {"broken quotes": [2, 4]}, 2),
        ("text,label\nso,a\nit\nis,b,c\nnow,b\n", {"not 2 cells": [3, 4]}, 2),
        ("text,label\nso,a\n  ,b\nis,\nnow,b\n", {"empty text": [3], "empty label": [4]}, 2),
        (
            '{"text": "so", "label": "a"}\n{"text": \n{"label": "b"}\n',
            {"broken JSON": [2], "empty text": [3]},
            1,
        ),
        ('{"text": "so", "label": "a"}\n{"text": 7, "label": "b"}\n', {"text that is no text": [2]}, 1),
        ('[{"text": "so", "label": "a"},\n {"text": "it", "label": null}]', {"empty label": [2]}, 1),
        (
            '[{"text": "so", "label": "a"},\n {"text": "it" "label": "b"}]',
            {"broken JSON from here to the end of the file": [2]},
            1,
        ),
    ],
)
def test_faults_have_their_lines(
    tmp_path: Path, content: str, faults: dict[str, list[int]], used: int
) -> None:
    path = write(tmp_path / "a", content)
    how = Reading(given=Given(quote="doubled", header="yes")) if content.startswith("text") else Reading()
    _, account = read(path, how)
    assert {reason: [place.line for place in at] for reason, at in account.faults.items()} == faults
    assert account.used == used


@reuses_a_folder
@given(tables.rows(), st.data())
def test_a_damaged_row_costs_itself_alone(tmp_path: Path, rows: Rows, data: st.DataObject) -> None:
    """One line is broken: the others come back as they were, and the place of the broken one is in the account."""
    rows = [(text.replace("\n", " ").replace("\r", " ").replace('\\"', '"'), label) for text, label in rows]
    lines = tables.delimited(rows, ",", header=("text", "label")).split("\n")
    hit = data.draw(st.integers(1, len(rows)))
    damage: Callable[[str], str] = data.draw(
        st.sampled_from(
            [
                lambda line: line[1:-1] + '"x',
                lambda line: line + ',"x"',
                lambda line: '"",""',
                lambda line: line[:-1],
            ]
        )
    )
    lines[hit] = damage(lines[hit])
    path = write(tmp_path / "a.csv", "\n".join(lines))
    found, account = read(
        path, Reading(given=Given("comma", "doubled", "yes"), chosen=Chosen("text", ("label",)))
    )
    kept = [row for number, row in enumerate(rows, 1) if number != hit]
    named = [place.line for at in account.faults.values() for place in at]
    own = [example for example in found if example.place.line == hit + 1]
    assert pairs([example for example in found if example not in own]) == kept
    assert named == ([] if own else [hit + 1])
    assert account.read == account.used + account.bad


# Encodings


@reuses_a_folder
@given(st.lists(st.sampled_from(["café", "naïve “quote”", "plain", "€ 5"]), min_size=4, max_size=9))
def test_cp1252_is_read_and_its_lines_are_named(tmp_path: Path, words: list[str]) -> None:
    rows = [(f"so it is {word} {i}", "ab"[i % 2]) for i, word in enumerate(words)]
    content = b"text,label\r\n" + b"".join(f"{text},{label}\r\n".encode("cp1252") for text, label in rows)
    path = write(tmp_path / "a.csv", content)
    found, account = read(path)
    assert pairs(found) == rows
    odd = [number for number, (text, _) in enumerate(rows, 2) if not text.isascii()]
    assert [place.line for place in account.remarks.get("lines in cp1252, not UTF-8", [])] == odd


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark(tmp_path: Path, encoding: str) -> None:
    rows = [("so it is 漢字", "a"), ("and so on", "b")]
    path = write(tmp_path / "a", tables.delimited(rows, ",", header=("text", "label")), encoding)
    found, account = read(path)
    assert pairs(found) == rows
    assert f"{path}: {encoding}" in account.found


@pytest.mark.parametrize(
    ("content", "encoding", "says"),
    [
        (b"\x89PNG\0\0\0\0\xff\xfe12", "auto", "not text: it holds zero bytes"),
        (b"text,label\nso,a\n\x81\x8d,b\n", "auto", "a:3 is neither UTF-8 nor cp1252: byte 0x81 in column 1"),
        (b"text,label\nso,a\ncaf\xe9,b\n", "utf-8", "a:3 is not utf-8: byte 0xe9 at offset 19"),
        (b"text,label\n", "klingon", "no such encoding"),
        (b"", "auto", "is empty"),
    ],
)
def test_what_is_no_text(tmp_path: Path, content: bytes, encoding: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read(write(tmp_path / "a", content), Reading(encoding=encoding))


# What the user says


def test_columns_by_name_and_number(tmp_path: Path) -> None:
    content = "title,text,label,topic\nt one,so it is,a,x\nt two,and so,b,y\n"
    path = write(tmp_path / "a.csv", content)
    assert pairs(read(path)[0])[0] == ("so it is", "a")
    chosen = Chosen("title", ("topic",))
    assert pairs(read(path, Reading(chosen=chosen))[0])[0] == ("t one", "x")
    assert pairs(read(path, Reading(chosen=Chosen("1", ("4",))))[0])[0] == ("t one", "x")
    with pytest.raises(UserError, match=r"--text-column titel: .* did you mean title"):
        read(path, Reading(chosen=Chosen("titel")))
    grouped, _ = read(path, Reading(group="topic", time="title"))
    assert (grouped[0].group, grouped[0].time) == ("x", "t one")


def test_a_megabyte_in_a_cell_is_whole(tmp_path: Path) -> None:
    rows = [("word " * 250_000, "a"), ("short one", "b")]
    found, _ = read(write(tmp_path / "a.csv", tables.delimited(rows, ",", header=("text", "label"))))
    assert pairs(found) == rows


def test_parts_of_a_folder(tmp_path: Path) -> None:
    for name in ("train.tsv", "dev.tsv", "test.tsv", "labels.txt", "README.md"):
        write(tmp_path / name, "x")
    parts = parts_of(tmp_path)
    assert {name: [path.name for path in paths] for name, paths in parts.items()} == {
        "train": ["train.tsv"],
        "valid": ["dev.tsv"],
        "test": ["test.tsv"],
    }
    assert not parts_of(write(tmp_path / "x" / "pos.txt", "x").parent)


def test_names_of_labels(tmp_path: Path) -> None:
    assert read_names(write(tmp_path / "l", "joy\r\nanger")) == ["joy", "anger"]
    with pytest.raises(UserError, match="'joy' twice"):
        read_names(write(tmp_path / "l", "joy\njoy\n"))


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "x")
    with pytest.raises(UserError, match=r"no such file or folder.*did you mean .*train.csv"):
        read(tmp_path / "trian.csv")
