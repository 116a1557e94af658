"""Sentences with their translations: two aligned files, tables, lines of JSON, TMX, PO; a pair leaves as a pair."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from elman.config import UserError, nearest
from elman.data.account import Account, Place
from elman.data.aligned import check_counts, read_lines
from elman.data.encoding import decode, read_bytes
from elman.data.table import Given, read_table
from elman.data.translation_memory import read_po, read_tmx

__all__ = ["ODD_RATIO", "SHORT", "Form", "Pair", "Reading", "check_pairs", "parts_of", "read_pairs"]

Form = Literal["auto", "aligned", "table", "tmx", "po"]
SUFFIXES = {".tmx": "tmx", ".po": "po", ".pot": "po"}
# Parts of a folder by the beginning of their files' names.
PARTS = {"train": ("train",), "valid": ("val", "dev"), "test": ("test",)}
_SOURCES = ("source", "src", "input", "original", "from", "sourcetext", "sentence1")
_TARGETS = ("target", "tgt", "trg", "output", "translation", "to", "targettext", "sentence2", "reference")
# Lengths in letters may differ by this factor, beyond what is usual in the data; short ones may by more.
ODD_RATIO = 3.0
SHORT = 20


class Pair(NamedTuple):
    """A sentence with its translation, and where the sentence comes from."""

    source: str
    target: str
    place: Place


@dataclass(frozen=True)
class Reading:
    """How files are read. languages: the two names (`de`, `en`) as files' endings, columns or tags; empty: found."""

    form: Form = "auto"
    encoding: str = "auto"
    languages: tuple[str, str] = ("", "")
    columns: tuple[str, str] = ("", "")
    given: Given = field(default_factory=Given)


def read_pairs(
    paths: Sequence[str], account: Account, how: Reading, targets: Sequence[str] = ()
) -> list[Pair]:
    """All pairs of the files, those with faults left out and accounted for.

    paths: files of pairs, or of sources with the files of `targets` beside them, or `P` where P.FROM and P.TO are two
    aligned files. Raises UserError where the two sides have different numbers of lines, or what is read is no pairs.
    """
    account.unit = "pairs"
    if targets:
        if len(targets) != len(paths):
            raise UserError(
                f"{len(paths)} files of sources and {len(targets)} of their translations; give as many of both"
            )
        found = [
            p for a, b in zip(paths, targets, strict=True) for p in _aligned(Path(a), Path(b), account, how)
        ]
    else:
        found = [pair for path in paths for pair in _read(path, account, how)]
    return _whole(found, account)


def _whole(found: list[Pair], account: Account) -> list[Pair]:
    kept = []
    for pair in found:
        empty = [
            side for side, text in (("source", pair.source), ("target", pair.target)) if not text.strip()
        ]
        if empty:
            account.fault(f"empty {' and '.join(empty)}", pair.place)
        else:
            kept.append(pair)
    return kept


def _read(path: str, account: Account, how: Reading) -> list[Pair]:
    sides = _sides(path, how)
    if sides is not None:
        return _aligned(*sides, account, how)
    file = Path(path)
    if not file.exists():
        raise UserError(f"no such file: {path}{_endings(file, how)}")
    form = SUFFIXES.get(file.suffix.lower(), "table") if how.form == "auto" else how.form
    if form == "aligned":
        raise UserError(
            f"{path}: give its translations by --target-from, or the two endings by --from and --to"
        )
    raw = read_bytes(file)
    if form == "tmx":
        return _noted(read_tmx(raw, path, how.languages, account), account)
    text = decode(raw, path, how.encoding).text
    if form == "po":
        return _noted(read_po(text, path, account), account)
    return _table(path, text, account, how)


def _noted(found: list[tuple[str, str, Place]], account: Account) -> list[Pair]:
    account.read += len(found)
    return [Pair(*one) for one in found]


def _sides(path: str, how: Reading) -> tuple[Path, Path] | None:
    """The two files that a beginning of their names stands for."""
    left, right = how.languages
    if not (left and right) or how.form not in {"auto", "aligned"}:
        return None
    sides = Path(f"{path}.{left}"), Path(f"{path}.{right}")
    if all(side.is_file() for side in sides):
        return sides
    if path.endswith(f".{left}") and Path(path).is_file():
        other = Path(f"{path.removesuffix(left)}{right}")
        if other.is_file():
            return Path(path), other
    return None


def _endings(file: Path, how: Reading) -> str:
    beside = sorted(entry.name for entry in file.absolute().parent.glob(f"{file.name}.*"))
    if len(beside) > 1 and not all(how.languages):
        return f"; there are {', '.join(beside[:4])}: name the two sides by --from and --to (their endings)"
    if all(how.languages):
        return f", nor {file.name}.{how.languages[0]} with {file.name}.{how.languages[1]}"
    return nearest(file.name, [entry.name for entry in file.absolute().parent.glob("*")])


def _aligned(left: Path, right: Path, account: Account, how: Reading) -> list[Pair]:
    for path in (left, right):
        if not path.is_file():
            raise UserError(f"no such file: {path}")
    a, b = (read_lines(path, account, how.encoding) for path in (left, right))
    check_counts(left, right, a, b)
    account.read += len(a)
    account.found.append(f"{left} and {right}: {len(a):,} lines each")
    return [Pair(x, y, Place(str(left), line)) for line, (x, y) in enumerate(zip(a, b, strict=True), 1)]


def _table(path: str, text: str, account: Account, how: Reading) -> list[Pair]:
    table = read_table(path, text, account, how.given)
    if table is None:
        raise UserError(
            f"{path} is no table of pairs (two columns set apart by tabs or commas, or lines of JSON); give the "
            f"translations of its lines by --target-from"
        )
    rows = [(row.place, _flat(row.values)) for row in table.rows]
    names = tuple(dict.fromkeys(name for _, values in rows for name in values)) or table.columns
    source, target = _columns(names, rows, path, how)
    account.found.append(f"{path}: {table.found}; source in column {source!r}, target in {target!r}")
    found = []
    for place, values in rows:
        left, right = values.get(source), values.get(target)
        if isinstance(left, str) and isinstance(right, str):
            found.append(Pair(left, right, place))
        else:
            account.fault("no text in both columns", place)
    return found


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"translation": {"de": ..., "en": ...}}` as its inner columns."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(value if isinstance(value, dict) else {name: value})
    return flat


def _columns(
    names: Sequence[str], rows: Sequence[tuple[Place, Mapping[str, Any]]], path: str, how: Reading
) -> tuple[str, str]:
    source, target = (
        _column(word, names, path, flag)
        for word, flag in zip(how.columns, ("--source-column", "--target-column"), strict=True)
    )
    plain = {re.sub(r"[\W_]+", "", name).lower(): name for name in names}
    for known, language in ((_SOURCES, how.languages[0]), (_TARGETS, how.languages[1])):
        words = (language.lower(), *known) if language else known
        found = next((plain[word] for word in words if word in plain), "")
        if known is _SOURCES:
            source = source or found
        else:
            target = target or found
    texts = [name for name in names if _is_text(name, rows) and name not in {source, target}]
    if not source and texts:
        source = texts.pop(0)
    if not target and texts:
        target = texts.pop(0)
    if not source or not target or source == target:
        raise UserError(
            f"{path}: cannot tell the two columns of a pair among {', '.join(names[:20])}; name them by "
            f"--source-column and --target-column"
        )
    return source, target


def _is_text(name: str, rows: Sequence[tuple[Place, Mapping[str, Any]]]) -> bool:
    cells = [values.get(name) for _, values in rows[:1000]]
    letters = [cell for cell in cells if isinstance(cell, str) and re.search(r"[^\W\d_]", cell)]
    return len(letters) > len(cells) / 2


def _column(word: str, names: Sequence[str], path: str, flag: str) -> str:
    if not word or word in names:
        return word
    if word.isdecimal() and 0 < int(word) <= len(names):
        return names[int(word) - 1]
    raise UserError(f"{flag} {word}: {path} has no such column; its columns are {', '.join(names[:20])}")


def check_pairs(pairs: Sequence[Pair], account: Account) -> None:
    """Remark upon pairs that look wrong, and are used all the same: copies that were not translated, odd lengths."""
    same = [p.place for p in pairs if p.source.strip() == p.target.strip() and len(p.source.split()) > 2]
    if same:
        account.remark("target the same as the source", same)
    quotients = sorted((len(p.target) + 1) / (len(p.source) + 1) for p in pairs)
    usual = quotients[len(quotients) // 2] if quotients else 1.0
    odd = [p.place for p in pairs if _is_odd(p, usual)]
    if odd:
        account.remark(f"one side {ODD_RATIO:g} times longer than usual beside the other", odd)


def _is_odd(pair: Pair, usual: float) -> bool:
    a, b = len(pair.source) * usual + SHORT, len(pair.target) + SHORT
    return max(a / b, b / a) > ODD_RATIO


def parts_of(folder: Path, how: Reading, given: Sequence[str] = ()) -> dict[str, list[str]]:
    """The parts of a folder: beginnings of aligned files, or files of pairs, by names such as `train.de`, `dev.tsv`.

    given: parts that come from elsewhere. Raises UserError where a part has several candidates, or there is nothing to
    train on.
    """
    files = sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    left, right = how.languages
    if left and right:
        names = {file.name for file in files}
        stems = [file.name.removesuffix(f".{left}") for file in files if file.name.endswith(f".{left}")]
        units = [stem for stem in stems if f"{stem}.{right}" in names]
    else:
        known = {".tsv", ".csv", ".jsonl", ".json", ".ndjson", *SUFFIXES}
        units = [file.name for file in files if file.suffix.lower() in known]
    parts = {
        part: [str(folder / unit) for unit in units if unit.lower().startswith(starts)]
        for part, starts in PARTS.items()
    }
    if not parts["train"]:
        raise UserError(
            f"{folder} has no pairs to train on: expected train.FROM and train.TO with --from FROM --to TO (their "
            f"endings), or a table such as train.tsv"
        )
    for part in ("valid", "test"):
        if len(parts[part]) > 1 and part not in given:
            which = ", ".join(Path(unit).name for unit in parts[part])
            raise UserError(f"{folder} has several files to {part} on ({which}); name one by --{part}")
    return {part: units for part, units in parts.items() if units}
