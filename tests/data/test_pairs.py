"""Pairs of sentences: every form, pairs that leave as pairs, and sides that have not as many lines."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.config import UserError
from elman.data.account import Account
from elman.data.aligned import drift, newline_lines
from elman.data.pairs import Reading, check_pairs, parts_of, read_pairs

DE_EN = Reading(languages=("de", "en"))
PAIRS = [("Ein Hund.", "A dog."), ("Das Haus, rot", "The house, red"), ("Wer?", "Who?")]

TMX = """<?xml version="1.0"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="de" segtype="sentence"/><body>
<tu><tuv xml:lang="EN-GB"><seg>A <bpt i="1">&lt;b&gt;</bpt>dog<ept i="1">&lt;/b&gt;</ept>.</seg></tuv>
<tuv xml:lang="de"><seg>Ein <hi>Hund</hi>.</seg></tuv></tu>
<tu><tuv xml:lang="de"><seg>Das Haus,
  rot</seg></tuv><tuv xml:lang="en-GB"><seg>The house, red</seg></tuv></tu>
<tu><tuv xml:lang="de"><seg>allein</seg></tuv></tu>
<tu><tuv xml:lang="de"><seg>Wer?</seg></tuv><tuv xml:lang="en-GB"><seg>Who?</seg></tuv></tu>
</body></tmx>
"""
PO = """msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\\n"

msgid "A dog."
msgstr "Ein Hund."

#, fuzzy
msgid "Cat"
msgstr "Hund"

msgid "not yet"
msgstr ""

msgid "one file"
msgid_plural "many files"
msgstr[0] "eine Datei"
msgstr[1] "viele Dateien"

#~ msgid "old"
#~ msgstr "alt"
"""
TABLES = {
    "a.tsv": "".join(f"{a}\t{b}\tCC-BY 2.0 (France) #1\n" for a, b in PAIRS),
    "b.csv": "id,en,de\n" + "".join(f'{i},"{b}","{a}"\n' for i, (a, b) in enumerate(PAIRS)),
    "c.jsonl": "".join(f'{{"translation": {{"en": "{b}", "de": "{a}"}}}}\n' for a, b in PAIRS),
    "d.json": "[" + ",".join(f'{{"target": "{b}", "source": "{a}"}}' for a, b in PAIRS) + "]",
    "e.tmx": TMX,
}


def found(
    path: str, how: Reading = DE_EN, targets: tuple[str, ...] = ()
) -> tuple[list[tuple[str, str]], Account]:
    account = Account()
    pairs = read_pairs([path], account, how, targets)
    assert account.used == len(pairs)
    return [(pair.source, pair.target) for pair in pairs], account


@pytest.mark.parametrize("name", TABLES)
def test_each_form_gives_the_same_pairs(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(TABLES[name])
    pairs, account = found(str(tmp_path / name))
    assert pairs == PAIRS
    assert account.found


def test_aligned_files_are_split_at_newlines_only(tmp_path: Path) -> None:
    (tmp_path / "t.de").write_bytes("\ufeffa\u2028b\nc\x0cd\r\n\ne\rf".encode())
    (tmp_path / "t.en").write_bytes(b"1\n2\n3\n4\n")
    for path, targets in (("t", ()), ("t.de", ()), ("t.de", (str(tmp_path / "t.en"),))):
        pairs, account = found(str(tmp_path / path), DE_EN, targets)
        assert pairs == [("a\u2028b", "1"), ("c\x0cd", "2"), ("e\rf", "4")]
        assert account.faults["empty source"][0].line == 3
    assert newline_lines("") == [] and newline_lines("a") == ["a"] and newline_lines("\n") == [""]


def test_the_other_direction_is_the_other_way_round(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text(TABLES["b.csv"])
    (tmp_path / "e.tmx").write_text(TMX)
    for name in ("b.csv", "e.tmx"):
        assert found(str(tmp_path / name), Reading(languages=("en", "de")))[0] == [(b, a) for a, b in PAIRS]
    assert found(str(tmp_path / "e.tmx"), Reading())[0] == PAIRS  # the header says which is the source
    picked = Reading(columns=("2", "de"))
    assert found(str(tmp_path / "b.csv"), picked)[0] == [(b, a) for a, b in PAIRS]


def test_messages_of_gettext(tmp_path: Path) -> None:
    (tmp_path / "m.po").write_text(PO)
    pairs, account = found(str(tmp_path / "m.po"), Reading())
    assert pairs == [("A dog.", "Ein Hund."), ("one file", "eine Datei"), ("many files", "viele Dateien")]
    assert {reason: len(at) for reason, at in account.aside.items()} == {
        "fuzzy message": 1,
        "message without a translation": 1,
        "obsolete message": 1,
    }


def test_what_looks_wrong_is_said_and_used_all_the_same(tmp_path: Path) -> None:
    rows = [(f"ein Satz von {i}", f"a sentence of {i}") for i in range(20)]
    rows += [("das ist nicht übersetzt", "das ist nicht übersetzt"), ("kurz", "a very " * 30)]
    (tmp_path / "t.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in rows))
    account = Account()
    pairs = read_pairs([str(tmp_path / "t.tsv")], account, Reading())
    check_pairs(pairs, account)
    assert account.used == 22
    assert {text: [p.line for p in at] for text, at in account.remarks.items()} == {
        "target the same as the source": [21],
        "one side 3 times longer than usual beside the other": [22],
    }


def sides(seed: int, count: int) -> tuple[list[str], list[str]]:
    draw = random.Random(seed)
    lengths = [draw.randint(1, 30) for _ in range(count)]
    return (
        ["wort " * n for n in lengths],
        ["word " * max(1, n + draw.randint(-1, 1)) for n in lengths],
    )


@given(seed=st.integers(0, 50), at=st.integers(0, 119), lost=st.integers(1, 3), left=st.booleans())
def test_a_missing_line_is_found_where_it_is_missing(seed: int, at: int, lost: int, left: bool) -> None:
    a, b = sides(seed, 120)
    at = min(at, 120 - lost)
    side = a if left else b
    del side[at : at + lost]
    place = drift([len(text) for text in a], [len(text) for text in b])
    assert abs(place - at) <= 6 or place >= 110 <= at + 6


def test_unequal_counts_are_refused_with_both_and_the_place(tmp_path: Path) -> None:
    a, b = sides(3, 200)
    (tmp_path / "t.de").write_text("\n".join(a) + "\n")
    del b[90]
    (tmp_path / "t.en").write_text("\n".join(b) + "\n")
    with pytest.raises(
        UserError, match=r"t\.de has 200 lines, .*t\.en has 199: .*from about line (8[89]|9[0-4]) on"
    ):
        found(str(tmp_path / "t"))
    (tmp_path / "t.en").write_text("\n".join(b[:80]) + "\n")
    with pytest.raises(UserError, match=r"has 200 lines, .*has 80: .*t\.de goes on where t\.en ends"):
        found(str(tmp_path / "t"))
    (tmp_path / "t.en").write_text("")
    with pytest.raises(UserError, match=r"has 200 lines, .*has 0"):
        found(str(tmp_path / "t"))


def test_a_folder_has_its_parts(tmp_path: Path) -> None:
    for name in ("train.tok.de", "train.tok.en", "val.de", "val.en", "test_a.de", "test_a.en", "notes.txt"):
        (tmp_path / name).write_text("x\n")
    parts = parts_of(tmp_path, DE_EN)
    assert {part: [Path(p).name for p in paths] for part, paths in parts.items()} == {
        "train": ["train.tok"],
        "valid": ["val"],
        "test": ["test_a"],
    }
    for name in ("test_b.de", "test_b.en"):
        (tmp_path / name).write_text("x\n")
    with pytest.raises(UserError, match=r"several files to test on \(test_a, test_b\); name one by --test"):
        parts_of(tmp_path, DE_EN)
    assert "train" in parts_of(tmp_path, DE_EN, given=["test"])
    with pytest.raises(UserError, match="no pairs to train on"):
        parts_of(tmp_path, Reading())


VARIANT = '<tuv xml:lang="{}"><seg>x</seg></tuv>'
BAD = {
    "one.txt": ("a line\nanother\n", "no table of pairs"),
    "broken.tmx": ("<tmx><body><tu>", r"broken\.tmx:1 is no sound XML"),
    "three.tmx": (
        f"<tmx><body><tu>{''.join(VARIANT.format(x) for x in 'abc')}</tu></body></tmx>",
        r"its languages are a, b, c; name the two",
    ),
    "numbers.tsv": ("1\t2\n3\t4\n", "cannot tell the two columns"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_pairs_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    text, said = BAD[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        found(str(tmp_path / name), Reading())
    with pytest.raises(UserError, match="no such file"):
        found(str(tmp_path / "nowhere"), DE_EN)
    (tmp_path / "e.tmx").write_text(TMX)
    with pytest.raises(UserError, match="has no fr"):
        found(str(tmp_path / "e.tmx"), Reading(languages=("fr", "de")))
