"""Trees with a label on every phrase, as the Stanford Sentiment Treebank writes them: `(3 (2 It) (4 (2 's) ...))`.

Socher et al. 2013, Recursive deep models for semantic compositionality over a sentiment treebank.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["SENTIMENTS", "Phrase", "is_tree", "parse_tree"]

# What the labels 0 to 4 of the treebank mean.
SENTIMENTS = ("very negative", "negative", "neutral", "positive", "very positive")
_TOKEN = re.compile(r"\(|\)|[^\s()]+")
_ESCAPES = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}"}


class Phrase(NamedTuple):
    """A phrase of a tree: its label and its words, with a space between them."""

    label: str
    text: str


def is_tree(line: str) -> bool:
    """Whether a line looks like a tree: it begins with a bracket and a label, and its brackets close."""
    return bool(re.match(r"\s*\(\s*[^\s()]+[\s(]", line)) and parse_tree(line) is not None


def parse_tree(line: str) -> list[Phrase] | None:
    """All phrases of a tree, the whole sentence first; None where the line is no tree.

    Each bracket holds a label, then either one or more words or brackets. Escaped brackets become brackets again.
    """
    open_labels: list[tuple[str, int]] = []
    words: list[str] = []
    phrases: list[Phrase] = []
    tokens = _TOKEN.findall(line)
    expect_label = False
    for at, token in enumerate(tokens):
        if expect_label and token in "()":
            return None
        if expect_label:
            open_labels.append((token, len(words)))
            expect_label = False
        elif token == "(":
            if not open_labels and at:
                return None
            expect_label = True
        elif not open_labels:
            return None
        elif token == ")":
            label, first = open_labels.pop()
            if first == len(words):
                return None
            phrases.append(Phrase(label, " ".join(words[first:])))
        else:
            words.append(_ESCAPES.get(token, token.replace("\\/", "/").replace("\\*", "*")))
    return phrases[::-1] if phrases and not open_labels else None
