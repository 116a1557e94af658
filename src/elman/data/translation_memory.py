"""Pairs from the files of translators: TMX, the exchange format of translation memories, and PO of gettext."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from typing import Any

from elman.config import UserError, require
from elman.data.account import Account, Place

__all__ = ["read_po", "read_tmx"]

Found = list[tuple[str, str, Place]]
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
# Elements of a segment whose text is code of the original format, not of the sentence (TMX 1.4b, section 2.3).
CODES = {"bpt", "ept", "ph", "it", "ut"}


def read_tmx(raw: bytes, name: str, languages: tuple[str, str], account: Account) -> Found:
    """The pairs of a TMX file: of each unit the variants in the two languages; a unit without one is set aside.

    languages: tags (`de`, `pt-BR`), a shorter one is enough; empty: the two that the file has, the header's first.
    Each unit's place is its number. Raises UserError for broken XML, and where there are more than two languages.
    """
    try:
        root = ET.fromstring(raw)
    except ET.ParseError as error:
        line, column = error.position
        raise UserError(f"{name}:{line} is no sound XML ({error.msg}, column {column + 1})") from None
    units = [_variants(unit) for unit in root.iter("tu")]
    counts = Counter(tag for unit in units for tag in unit)
    source, target = _languages(root, counts, languages, name)
    account.found.append(f"{name}: TMX, {source} to {target}, {len(units):,} units")
    found: Found = []
    for number, unit in enumerate(units, 1):
        sides = _of(unit, source), _of(unit, target)
        if None in sides:
            account.read += 1
            account.set_aside("unit without both languages", Place(name, number))
        else:
            found.append((sides[0] or "", sides[1] or "", Place(name, number)))
    return found


def _variants(unit: ET.Element) -> dict[str, str]:
    found: dict[str, str] = {}
    for variant in unit.iter("tuv"):
        tag = (variant.get(LANGUAGE) or variant.get("lang") or "").lower()
        segment = variant.find("seg")
        if tag not in found and segment is not None:
            found[tag] = " ".join(_text(segment).split())
    return found


def _text(element: ET.Element) -> str:
    pieces = [element.text or ""]
    for child in element:
        pieces += ["" if child.tag in CODES else _text(child), child.tail or ""]
    return "".join(pieces)


def _languages(
    root: ET.Element, counts: Counter[str], languages: tuple[str, str], name: str
) -> tuple[str, str]:
    source, target = (language.lower() for language in languages)
    known = ", ".join(sorted(counts)) or "none"
    for language in (source, target):
        if language and not any(_fits(tag, language) for tag in counts):
            raise UserError(f"{name} has no {language}; its languages are {known}")
    if source and target:
        return source, target
    if len(counts) != 2:
        raise UserError(f"{name}: its languages are {known}; name the two of a pair by --from and --to")
    header = root.find("header")
    first = (header.get("srclang", "") if header is not None else "").lower()
    tags = sorted(counts, key=lambda tag: (not _fits(tag, source or first), tag))
    if target and _fits(tags[0], target):
        tags.reverse()
    return tags[0], tags[1]


def _fits(tag: str, language: str) -> bool:
    """`en` is what `en-GB` begins with."""
    return bool(language) and (tag == language or tag.startswith((f"{language}-", f"{language}_")))


def _of(unit: dict[str, str], language: str) -> str | None:
    return next((text for tag, text in unit.items() if _fits(tag, language)), None)


def read_po(text: str, name: str, account: Account) -> Found:
    """The messages of a PO file with their translations; of plurals the first and the second form.

    Fuzzy, obsolete and untranslated messages are set aside. Raises UserError where the file is broken.
    """
    require("polib", extra="translation", what="a PO file")
    import polib

    try:
        entries = polib.pofile(text, wrapwidth=0)
    except (OSError, ValueError) as error:
        raise UserError(f"{name} is no sound PO file: {error}") from None
    account.found.append(f"{name}: PO, {len(entries):,} messages")
    found: Found = []
    for entry in entries:
        place = Place(name, entry.linenum or 0)
        why = "obsolete message" if entry.obsolete else "fuzzy message" if entry.fuzzy else ""
        pairs = _messages(entry)
        if not why and not any(target for _, target in pairs):
            why = "message without a translation"
        if why:
            account.read += 1
            account.set_aside(why, place)
        else:
            found += [(source, target, place) for source, target in pairs]
    return found


def _messages(entry: Any) -> list[tuple[str, str]]:
    if not entry.msgid_plural:
        return [(_line(entry.msgid), _line(entry.msgstr))]
    forms = [_line(entry.msgstr_plural[key]) for key in sorted(entry.msgstr_plural, key=int)]
    sources = [_line(entry.msgid), _line(entry.msgid_plural)]
    return list(zip(sources, forms[:2] if len(forms) > 1 else [*forms, *forms], strict=False))


def _line(text: str) -> str:
    return " ".join(text.split())
