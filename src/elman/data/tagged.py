"""Sentences whose words have tags, with their places: columns, CoNLL-U, `word/TAG`, tables, JSON with spans.

A file is recognized by what it holds, not by its name; what was recognized stands in the account, which counts
sentences. Tags are read as they are written: the schemes of spans are those of `elman.data.schemes`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from elman.config import UserError, nearest
from elman.data.account import Account, Place
from elman.data.encoding import decode, lines_of, read_bytes
from elman.data.labelled import NOT_DATA
from elman.data.schemes import OUTSIDE
from elman.data.sentences import Form, Sentence, WordReading, cut_endless
from elman.data.tagged_tables import is_word_table, read_word_table
from elman.data.tokens import Tokenizer

__all__ = ["read_sentences", "recognize_form"]

DOCUMENT = "-DOCSTART-"
CONLLU = {
    "id": 1,
    "form": 2,
    "lemma": 3,
    "upos": 4,
    "xpos": 5,
    "feats": 6,
    "head": 7,
    "deprel": 8,
    "misc": 10,
}
SEPARATORS = {"": None, "tab": "\t", "space": None, "comma": ",", "semicolon": ";", "pipe": "|"}
_NUMBERED = re.compile(r"\d+([-.]\d+)?")
_HEADINGS = {
    "word",
    "words",
    "token",
    "tokens",
    "form",
    "text",
    "tag",
    "tags",
    "pos",
    "upos",
    "ner",
    "chunk",
    "label",
}
SAMPLE = 2000
DEFAULT, TOKENIZER = WordReading(), Tokenizer()


def read_sentences(
    paths: Sequence[str],
    account: Account,
    how: WordReading = DEFAULT,
    tokenizer: Tokenizer = TOKENIZER,
) -> list[Sentence]:
    """The sentences of files and of folders, in order. tokenizer: what cuts a text whose spans are given by characters.

    Faults go into the account. Raises UserError where a file cannot be read.
    """
    account.unit = "sentences"
    found: list[Sentence] = []
    for path in map(Path, paths):
        if not path.exists():
            beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            raise UserError(
                f"no such file or folder: {path}{nearest(path.name, beside, form=str(path.parent / '{}'))}"
            )
        for file in _files(path):
            found += _read(file, account, how, tokenizer)
    return found


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    inside = [file for file in sorted(path.rglob("*")) if file.is_file() and not NOT_DATA.match(file.name)]
    kept = [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not kept:
        raise UserError(f"{path} holds no files to read")
    return kept


def _read(path: Path, account: Account, how: WordReading, tokenizer: Tokenizer) -> list[Sentence]:
    name = str(path)
    decoded = decode(read_bytes(path), name, how.encoding)
    if decoded.odd:
        account.remark("lines in cp1252, not UTF-8", [Place(name, line) for line in decoded.odd])
    if decoded.encoding not in {"utf-8", "utf-8 and cp1252"}:
        account.found.append(f"{name}: {decoded.encoding}")
    if not decoded.text.strip():
        raise UserError(f"{path} is empty")
    form = recognize_form(decoded.text) if how.form == "auto" else how.form
    if form in {"table", "json"}:
        return read_word_table(name, decoded.text, account, how, tokenizer)
    readers: dict[str, Callable[..., list[Sentence]]] = {
        "conllu": read_conllu,
        "slashes": read_slashes,
        "columns": read_columns,
    }
    return readers[form](name, decoded.text, account, how)


def recognize_form(text: str) -> Form:
    """The form of a file, by its first lines."""
    lines = [line for line in lines_of(text[: 1 << 18]) if line.strip()][:SAMPLE]
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    if rows and sum(len(row) == 10 and bool(_NUMBERED.fullmatch(row[0])) for row in rows) > 0.9 * len(rows):
        return "conllu"
    table = is_word_table(text)
    if table:
        return table
    return "slashes" if _separator(lines) else "columns"


# word/TAG


def _separator(lines: Sequence[str]) -> str:
    """What stands between word and tag in nearly all pieces of these lines; nothing where there is no such sign."""
    pieces = [piece for line in lines for piece in line.split()]
    for sign in ("/", "_", "|"):
        cut = [piece.rpartition(sign) for piece in pieces]
        whole = sum(bool(word and tag) for word, _, tag in cut)
        tags = {tag for _, _, tag in cut}
        if whole > 0.98 * len(pieces) and len(tags) <= max(10, len(pieces) / 3):
            return sign
    return ""


def read_slashes(name: str, text: str, account: Account, how: WordReading) -> list[Sentence]:
    """A sentence a line: `The/DT dog/NN`. A slash in a word may stand behind a backslash."""
    lines = lines_of(text)
    sign = _separator([line for line in lines if line.strip()][:SAMPLE]) or "/"
    account.found.append(f"{name}: a sentence a line, word{sign}TAG")
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        account.read += 1
        cut = [piece.rpartition(sign) for piece in line.split()]
        if all(word and tag for word, _, tag in cut):
            words = tuple(word.replace(f"\\{sign}", sign) for word, _, _ in cut)
            tags = tuple(tag for _, _, tag in cut) if how.tagged else ()
            found.append(Sentence(words, tags, Place(name, number)))
        else:
            account.fault("word without a tag", Place(name, number))
    return found


# CoNLL-U


def read_conllu(name: str, text: str, account: Account, how: WordReading) -> list[Sentence]:
    """Sentences of CoNLL-U: words with whole numbers; ranges and empty nodes are passed over, and remarked upon."""
    word_at, tag_at = _conllu_column(how.words or "form"), _conllu_column(how.tags or "upos")
    names = {number: known for known, number in CONLLU.items()}
    tag = f", tags in {names.get(tag_at, tag_at)}" if how.tagged else ""
    account.found.append(f"{name}: CoNLL-U, words in {names.get(word_at, word_at)}{tag}")
    found: list[Sentence] = []
    group, documents = "", 0
    for block in _blocks(text):
        comments = [line for _, line in block if line.startswith("#")]
        if any(line.startswith("# newdoc") for line in comments):
            documents += 1
            group = f"{name}#{documents}"
        rows = [(at, line.split("\t")) for at, line in block if not line.startswith("#")]
        if not rows:
            continue
        account.read += 1
        bad = next((at for at, row in rows if len(row) != 10 or not _NUMBERED.fullmatch(row[0])), 0)
        if bad:
            account.fault("row that is not ten columns with a number in front", Place(name, bad))
            continue
        for sign, what in (("-", "multiword ranges passed over"), (".", "empty nodes passed over")):
            account_for = [Place(name, at) for at, row in rows if sign in row[0]]
            if account_for:
                account.remark(f"{what}; the words in them are read", account_for)
        own = [(at, row[word_at - 1], row[tag_at - 1]) for at, row in rows if row[0].isdecimal()]
        sentence = _checked(name, own, account, how, missing="_")
        if sentence is not None:
            found.append(sentence._replace(group=group))
    return found


def _conllu_column(word: str) -> int:
    if word.isdecimal() and 1 <= int(word) <= 10:
        return int(word)
    if word.lower() in CONLLU:
        return CONLLU[word.lower()]
    raise UserError(
        f"no column {word!r} in CoNLL-U{nearest(word, CONLLU)}; they are {', '.join(CONLLU)}, or 1 to 10"
    )


def _blocks(text: str) -> list[list[tuple[int, str]]]:
    """The lines between blank ones, each with its number."""
    blocks: list[list[tuple[int, str]]] = [[]]
    for number, line in enumerate(lines_of(text), 1):
        if line.strip():
            blocks[-1].append((number, line))
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _checked(
    name: str, rows: Sequence[tuple[int, str, str]], account: Account, how: WordReading, *, missing: str = ""
) -> Sentence | None:
    """A sentence of rows (line, word, tag); None, with its fault, where one of them lacks something."""
    blank = [row for row in rows if not row[1].strip() and row[2] == OUTSIDE]
    if blank:
        account.remark(
            "rows without a word, outside of spans, passed over", [Place(name, at) for at, _, _ in blank]
        )
    rows = [row for row in rows if row not in blank]
    if blank and not rows:
        account.fault("sentence without words", Place(name, blank[0][0]))
    for at, word, tag in rows:
        if not word.strip():
            account.fault("row without a word", Place(name, at))
            return None
        if how.tagged and (not tag.strip() or tag == missing):
            account.fault("word without a tag", Place(name, at))
            return None
    if not rows:
        return None
    tags = tuple(tag for _, _, tag in rows) if how.tagged else ()
    return Sentence(tuple(word for _, word, _ in rows), tags, Place(name, rows[0][0]))


# Columns


class _Layout(NamedTuple):
    """separator: None is white space. width: cells of a row. words, tags: which of them, from 0. head: its line."""

    separator: str | None
    width: int
    words: int
    tags: int
    head: int

    def cells(self, line: str) -> list[str]:
        return line.split(self.separator) if self.separator else line.split()


def read_columns(name: str, text: str, account: Account, how: WordReading) -> list[Sentence]:
    """A word a row, a blank line behind each sentence; lines that begin with `#` and are no rows are comments."""
    blocks = _blocks(text)
    layout = _layout(name, blocks, how)
    sign = {"\t": "tab", None: "space"}.get(layout.separator, repr(layout.separator))
    tag = f", tags in column {layout.tags + 1}" if how.tagged else ""
    head = ", a header" if layout.head else ""
    account.found.append(
        f"{name}: {layout.width} columns set apart by {sign}{head}, words in column {layout.words + 1}{tag}"
    )
    found: list[Sentence] = []
    lines: list[list[int]] = []
    documents = comments = 0
    for block in blocks:
        rows = [(at, layout.cells(line), line) for at, line in block if at != layout.head]
        marked = [row for row in rows if row[1] and row[1][0] == DOCUMENT]
        noted = [row for row in rows if row[2].startswith("#") and len(row[1]) != layout.width]
        documents, comments = documents + len(marked), comments + len(noted)
        rows = [row for row in rows if row not in marked and row not in noted]
        if not rows:
            continue
        account.read += 1
        bad = next((at for at, cells, _ in rows if len(cells) != layout.width), 0)
        if bad:
            account.fault(f"row that has not {layout.width} columns", Place(name, bad))
            continue
        own = [(at, cells[layout.words], cells[layout.tags]) for at, cells, _ in rows]
        sentence = _checked(name, own, account, how)
        if sentence is not None:
            found.append(sentence._replace(group=f"{name}#{documents}" if documents else ""))
            lines.append([at for at, word, _ in own if word.strip()])
    for count, what in ((documents, f"marks of documents ({DOCUMENT})"), (comments, "comments")):
        if count:
            account.found.append(f"{name}: {count:,} {what} passed over")
    return cut_endless(name, found, lines, account, how.ends)


def _layout(name: str, blocks: Sequence[Sequence[tuple[int, str]]], how: WordReading) -> _Layout:
    lines = [line for block in blocks for _, line in block][:SAMPLE]
    separator = _delimiter(lines, how.delimiter)
    cells = [line.split(separator) if separator else line.split() for line in lines]
    width = Counter(map(len, cells)).most_common(1)[0][0]
    if width < 2 and how.tagged:
        raise UserError(
            f"{name} is neither rows of words with tags, CoNLL-U, a table, JSON nor word/TAG: most of its lines have "
            f"one cell; name the delimiter by --delimiter, or mend the file"
        )
    named = all(cell.strip().lower() in _HEADINGS for cell in cells[0]) and len(cells[0]) == width
    head = [cell.strip() for cell in cells[0]] if named else []
    counted = _are_numbered(blocks, separator)
    words = _column(how.words, width, head, name, "--word-column", int(counted and width > 1))
    tags = _column(how.tags, width, head, name, "--tag-column", width - 1) if how.tagged else words
    return _Layout(separator, width, words, tags, blocks[0][0][0] if named else 0)


def _delimiter(lines: Sequence[str], given: str) -> str | None:
    if given != "auto":
        found = SEPARATORS.get(given, given)
        if found is not None and len(found) != 1:
            raise UserError(
                f"--delimiter {given}: give one character, or {', '.join(filter(None, SEPARATORS))}"
            )
        return found
    rows = [line for line in lines if not line.startswith("# ")] or lines
    if sum("\t" in line for line in rows) > 0.9 * len(rows):
        return "\t"
    if sum(len(line.split()) > 1 for line in rows) > 0.5 * len(rows):
        return None
    return next(
        (sign for sign in (",", ";", "|") if sum(sign in line for line in rows) > 0.9 * len(rows)), None
    )


def _are_numbered(blocks: Sequence[Sequence[tuple[int, str]]], separator: str | None) -> bool:
    """Whether the first cells of most sentences count from 1."""
    whole = 0
    for block in blocks[:200]:
        first = [line.split(separator)[0] for _, line in block if not line.startswith("#")]
        whole += first == [str(number) for number in range(1, len(first) + 1)] and len(first) > 0
    return whole > 0.5 * len(blocks[:200])


def _column(word: str, width: int, head: Sequence[str], name: str, flag: str, default: int) -> int:
    """The place of a column, from 0."""
    if not word:
        return default
    if word in head:
        return list(head).index(word)
    if word.isdecimal() and 1 <= int(word) <= width:
        return int(word) - 1
    columns: Any = f"its columns are {', '.join(head)}" if head else f"it has the columns 1 to {width}"
    raise UserError(f"{flag} {word}: {name} has no such column; {columns}")
