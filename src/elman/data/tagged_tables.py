"""Sentences with tags from tables and JSON: a word a row, lists of words and tags, texts whose spans are given.

| form | for example |
|---|---|
| a word a row, with a column that says which sentence | `Sentence #,Word,POS,Tag` |
| a sentence a row, words and tags as lists | `{"tokens": ["So", "it"], "ner_tags": ["O", "O"]}` |
| a text with spans by characters, as doccano and spaCy write them | `{"text": "In Rome", "label": [[3, 7, "LOC"]]}` |
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from elman.config import UserError, nearest
from elman.data.account import Account, Place
from elman.data.columns import cell_labels
from elman.data.objects import json_kind
from elman.data.schemes import TagSpan, tags_of
from elman.data.sentences import Form, Sentence, WordReading
from elman.data.table import Given, Table, TableRow, read_table
from elman.data.tokens import Tokenizer

__all__ = ["is_word_table", "read_word_table"]

WORDS = ("word", "words", "token", "tokens", "form")
# In the order of preference where a table has several.
TAGS = (
    "tag",
    "tags",
    "nertags",
    "ner",
    "nertag",
    "wordlabels",
    "labels",
    "label",
    "upos",
    "postags",
    "postag",
    "pos",
)
SPANS = ("label", "labels", "entities", "spans", "annotations", "ents")
SENTENCES = (
    "sentence",
    "sentenceid",
    "sentenceidx",
    "sentencenumber",
    "sentid",
    "sentencenr",
    "sentno",
    "sentnum",
)
SAMPLE = 1 << 16


class _Roles(NamedTuple):
    """The columns of a table; kind: "rows", "lists" or "spans"."""

    kind: str
    words: str
    tags: str
    sentences: str = ""


def is_word_table(text: str) -> Form | None:
    """Whether a text is JSON, or a table with a header that names words and tags."""
    if json_kind(text):
        return "json"
    head = text[:SAMPLE].split("\n", 1)[0]
    names = [_plain(cell) for cell in re.split(r"[,;\t|]", head)]
    has_words = any(name in {*WORDS, "text", "sentence"} for name in names)
    lists = "sentence" in names and any(name in {"wordlabels", "tags", "nertags", "labels"} for name in names)
    known = any(name in SENTENCES for name in names) and any(name in WORDS for name in names)
    return "table" if has_words and len(names) > 1 and (known or lists) else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", str(name)).lower()


def read_word_table(
    name: str, text: str, account: Account, how: WordReading, tokenizer: Tokenizer
) -> list[Sentence]:
    """The sentences of a table or of JSON; faults go into the account, which counts sentences."""
    own = Account()
    header: Any = "auto" if json_kind(text) else "yes"
    table = read_table(name, text, own, Given(how.delimiter, header=header))
    if table is None or not table.rows:
        raise UserError(
            f"{name} is no table with rows; say what it is by --form, or name its delimiter by --delimiter"
        )
    roles = _roles(table, name, how)
    broken = {place.line: reason for reason, places in own.faults.items() for place in places}
    said = {
        "rows": f"a word a row, sentences by {roles.sentences!r}",
        "lists": "a sentence a row",
        "spans": "a text a row",
    }
    tags = f", {'spans' if roles.kind == 'spans' else 'tags'} in {roles.tags!r}" if how.tagged else ""
    account.found.append(f"{name}: {table.found}; {said[roles.kind]}, words in {roles.words!r}{tags}")
    if roles.kind == "rows":
        return list(_by_rows(name, table, roles, account, how, broken))
    for line, reason in broken.items():
        account.read += 1
        account.fault(reason, Place(name, line))
    account.read += len(table.rows)
    one = _from_spans if roles.kind == "spans" else _from_lists
    found = [one(row, roles, account, how, tokenizer) for row in table.rows]
    return [sentence for sentence in found if sentence is not None]


def _roles(table: Table, name: str, how: WordReading) -> _Roles:
    columns = {_plain(column): column for column in reversed(table.columns)}
    first = table.rows[0].values
    words = _chosen(how.words, table, name, "--word-column") or _first(columns, WORDS)
    sentences = _chosen(how.sentences, table, name, "--sentence-column")
    tags = _chosen(how.tags, table, name, "--tag-column")
    if words and not _is_list(first.get(words)) and (sentences or _first(columns, SENTENCES)):
        sentences = sentences or _first(columns, SENTENCES)
        return _Roles("rows", words, tags or _needed(columns, TAGS, words, table, name, how), sentences)
    text = words or _first(columns, ("text", "sentence", "content", "data"))
    if not text:
        raise UserError(
            f"{name} has no column of words; its columns are {', '.join(table.columns)}: name it by --word-column"
        )
    marked = tags or next((columns[word] for word in SPANS if word in columns), "")
    if (
        marked
        and any(_are_spans(row.values.get(marked)) for row in table.rows)
        and not _is_list(first.get(text))
    ):
        return _Roles("spans", text, marked)
    return _Roles("lists", text, tags or _needed(columns, TAGS, text, table, name, how))


def _first(columns: Mapping[str, str], words: Sequence[str]) -> str:
    return next((columns[word] for word in words if word in columns), "")


def _needed(
    columns: Mapping[str, str], words: Sequence[str], taken: str, table: Table, name: str, how: WordReading
) -> str:
    if not how.tagged:
        return taken
    found = next((columns[word] for word in words if word in columns and columns[word] != taken), "")
    if not found:
        raise UserError(
            f"{name} has no column of tags; its columns are {', '.join(table.columns)}: name it by --tag-column"
        )
    return found


def _chosen(word: str, table: Table, name: str, flag: str) -> str:
    if not word or word in table.columns:
        return word
    if word.isdecimal() and 0 < int(word) <= len(table.columns):
        return table.columns[int(word) - 1]
    hint = nearest(word, table.columns) or f"; its columns are {', '.join(table.columns[:20])}"
    raise UserError(f"{flag} {word}: {name} has no such column{hint}")


def _is_list(cell: Any) -> bool:
    return isinstance(cell, list) or (isinstance(cell, str) and cell.strip().startswith("["))


def _are_spans(cell: Any) -> bool:
    return isinstance(cell, list) and bool(cell) and all(_span(one) is not None for one in cell)


def _span(one: Any) -> tuple[int, int, str] | None:
    """A span as doccano, spaCy and others write it: [start, end, label], or an object of these."""
    if isinstance(one, dict):
        found: list[Any] = [
            next((one[key] for key in keys if key in one), None)
            for keys in (("start_offset", "start"), ("end_offset", "end"), ("label", "type", "tag"))
        ]
    else:
        found = list(one) if isinstance(one, list) else []
    whole = len(found) == 3 and all(
        isinstance(part, int) and not isinstance(part, bool) for part in found[:2]
    )
    return (found[0], found[1], str(found[2])) if whole and isinstance(found[2], str) else None


# A word a row


def _by_rows(
    name: str, table: Table, roles: _Roles, account: Account, how: WordReading, broken: Mapping[int, str]
) -> Iterator[Sentence]:
    """A cell that says nothing goes on with the sentence; a broken row costs the sentence in which it stands."""
    groups: list[list[TableRow]] = []
    last = ""
    for row in table.rows:
        key = "" if row.values.get(roles.sentences) is None else str(row.values[roles.sentences]).strip()
        if not groups or (key and key != last):
            groups.append([])
        last = key or last
        groups[-1].append(row)
    starts = [group[0].place.line for group in groups]
    for group, until in zip(groups, [*starts[1:], 1 << 62], strict=True):
        account.read += 1
        lost = next((line for line in broken if group[0].place.line < line < until), 0)
        words = [_said(row.values.get(roles.words)) for row in group]
        tags = [_said(row.values.get(roles.tags)) for row in group]
        if lost:
            account.fault(broken[lost], Place(name, lost))
        elif "" in words:
            account.fault("row without a word", group[words.index("")].place)
        elif how.tagged and "" in tags:
            account.fault("word without a tag", group[tags.index("")].place)
        else:
            yield Sentence(tuple(words), tuple(tags) if how.tagged else (), group[0].place)


def _said(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()


# A sentence a row


def _from_lists(
    row: TableRow, roles: _Roles, account: Account, how: WordReading, tokenizer: Tokenizer
) -> Sentence | None:
    words = _listed(row.values.get(roles.words))
    tags = _listed(row.values.get(roles.tags)) if how.tagged else []
    if not words or "" in words:
        account.fault("sentence without words" if not words else "empty word", row.place)
    elif how.tagged and len(tags) != len(words):
        account.fault("not as many tags as words", row.place)
    else:
        return Sentence(tuple(words), tuple(tags), row.place)
    return None


def _listed(cell: Any) -> list[str]:
    if isinstance(cell, list):
        return ["" if one is None else str(one) for one in cell]
    if isinstance(cell, str) and _is_list(cell):
        return cell_labels(cell, "") or []
    return str(cell).split() if cell is not None else []


# A text with spans


def _from_spans(
    row: TableRow, roles: _Roles, account: Account, how: WordReading, tokenizer: Tokenizer
) -> Sentence | None:
    text, cell = row.values.get(roles.words), row.values.get(roles.tags)
    if not isinstance(text, str) or not text.strip():
        account.fault("empty text", row.place)
        return None
    words = tokenizer.spans(text)
    spans = [_span(one) for one in cell or []] if how.tagged else []
    kept: list[TagSpan] = []
    for span in sorted((span for span in spans if span is not None), key=lambda span: span[0] - span[1]):
        start, end, kind = span
        inside = [at for at, word in enumerate(words) if word.start < end and word.end > start]
        if not 0 <= start < end <= len(text) or not inside:
            account.fault("span that lies outside of its text", row.place)
            return None
        found = TagSpan(inside[0], inside[-1] + 1, kind)
        if any(found.start < other.end and other.start < found.end for other in kept):
            account.remark("spans that overlap: the longest is kept", row.place)
            continue
        if (words[inside[0]].start, words[inside[-1]].end) != (start, end) and text[
            start:end
        ].strip() == text[start:end]:
            account.remark("spans that begin or end within a word: widened to whole words", row.place)
        kept.append(found)
    if None in spans:
        account.fault("span that is not [start, end, label]", row.place)
        return None
    tags = tags_of(kept, len(words), "bio") if how.tagged else []
    return Sentence(tuple(word.word for word in words), tuple(tags), row.place)
