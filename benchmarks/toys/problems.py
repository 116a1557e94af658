"""Strings and sequences drawn by a rule, with what a network is to answer at each step."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor


class Strings(NamedTuple):
    """tokens `(T, B)`, lengths `(B,)`, and legal `(T, B, V)`: which symbols may come after each step."""

    tokens: Tensor
    lengths: Tensor
    legal: Tensor


def adding(random: Generator, rows: int, steps: int = 200) -> tuple[Tensor, Tensor]:
    """The adding problem (Hochreiter & Schmidhuber 1997): x `(T, B, 2)` and the sum `(B,)` of the two marked numbers.

    The first feature is drawn from U(0, 1); the second is 1 at two steps, one in each half, else 0. A network that
    always says 1 has an error of 1/6.
    """
    x = np.zeros((steps, rows, 2), dtype=np.float32)
    x[..., 0] = random.random((steps, rows))
    marks = random.integers(steps // 2, size=(2, rows)) + np.array([[0], [steps // 2]])
    each = np.arange(rows)
    x[marks, each, 1] = 1.0
    return torch.from_numpy(x), torch.from_numpy(x[marks, each, 0].sum(0))


# Reber's grammar (Reber 1967): at each node the symbols that may come, and where they lead; node 5 is the end.
_REBER = {0: "T1P2", 1: "S1X3", 2: "T2V4", 3: "X2S5", 4: "P3V5"}
REBER_SYMBOLS = "BTPSXVE"


def reber(random: Generator, rows: int) -> Strings:
    """Embedded Reber strings (Cleeremans et al. 1989; Hochreiter & Schmidhuber 1997).

    B T, a Reber string, T E; or with P in the place of T. The symbol before the last is the second one: it has to be
    remembered over the whole string between.
    """
    return _pack([_reber_string(random) for _ in range(rows)], len(REBER_SYMBOLS))


def _reber_string(random: Generator) -> tuple[list[int], list[set[int]]]:
    known = {symbol: place for place, symbol in enumerate(REBER_SYMBOLS)}
    frame = "TP"[random.integers(2)]
    text, legal = ["B", frame, "B"], [set("TP"), set("B")]
    node = 0
    while node != 5:
        ways = _REBER[node]
        legal.append(set(ways[::2]))
        pick = 2 * int(random.integers(2))
        text.append(ways[pick])
        node = int(ways[pick + 1])
    text += ["E", frame, "E"]
    legal += [{"E"}, {frame}, {"E"}]
    return [known[symbol] for symbol in text[:-1]], [{known[symbol] for symbol in ways} for ways in legal]


# a^n b^n: a, b, the end. Dyck-2: two kinds of brackets, open and close, and the end.
COUNT_SYMBOLS, DYCK_SYMBOLS = 3, 5


def counting(random: Generator, rows: int, shortest: int, longest: int) -> Strings:
    """a^n b^n of `shortest` to `longest` symbols, each n as likely as another."""
    return _pack(
        [_count_string(int(n)) for n in random.integers((shortest + 1) // 2, longest // 2 + 1, rows)], 3
    )


def _count_string(n: int) -> tuple[list[int], list[set[int]]]:
    legal = [{0, 1}] * n + [{1}] * (n - 1) + [{2}]
    return [0] * n + [1] * n, legal


def dyck(random: Generator, rows: int, shortest: int, longest: int) -> Strings:
    """Balanced brackets of two kinds, of `shortest` to `longest` symbols, each even length as likely as another.

    A string of a length is drawn evenly from all of that length: at each place the bracket that opens or closes comes
    with the share of the strings that go on so.
    """
    halves = random.integers((shortest + 1) // 2, longest // 2 + 1, rows)
    return _pack([_dyck_string(random, 2 * int(half)) for half in halves], DYCK_SYMBOLS)


def _dyck_string(random: Generator, length: int) -> tuple[list[int], list[set[int]]]:
    text: list[int] = []
    legal: list[set[int]] = []
    stack: list[int] = []
    for left in range(length, 0, -1):
        depth = len(stack)
        # Of the ways from depth d back to 0 in r steps, (d + 2)(r − d) / (2 r (d + 1)) open at first (ballot numbers).
        opens = (depth + 2) * (left - depth) / (2 * left * (depth + 1))
        if random.random() < opens:
            stack.append(int(random.integers(2)))
            text.append(stack[-1])
        else:
            text.append(2 + stack.pop())
        legal.append({0, 1} | ({2 + stack[-1]} if stack else {4}))
    return text, legal


def _pack(strings: list[tuple[list[int], list[set[int]]]], symbols: int) -> Strings:
    """Padded, time first; nothing is legal in the padding."""
    lengths = [len(text) for text, _ in strings]
    tokens = torch.zeros(max(lengths), len(strings), dtype=torch.long)
    legal = torch.zeros(*tokens.shape, symbols)
    for b, (text, ways) in enumerate(strings):
        tokens[: len(text), b] = torch.tensor(text)
        for t, allowed in enumerate(ways):
            legal[t, b, list(allowed)] = 1.0
    return Strings(tokens, torch.tensor(lengths), legal)
