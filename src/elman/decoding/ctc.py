"""Labellings from the frames of a CTC network (Graves et al. 2006): the best path, and prefix beam search.

A path names a symbol or the blank at each frame; a labelling is what is left of it when repeats are merged and blanks
are taken out. Its probability is the sum over all its paths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from elman.decoding.step import Pick, Step, rows_along

__all__ = ["Labelling", "ctc_beam_search", "ctc_greedy"]

_Prefix = tuple[int, ...]
_NEVER = -math.inf


class Labelling(NamedTuple):
    """Symbols, and how likely they are.

    log_probability: log p in nats, of the best path for `ctc_greedy`, of all paths found for `ctc_beam_search`. score:
    that, and what the language model and the length add. frames: the frame at which each symbol begins on the best
    path; empty for a search.
    """

    symbols: tuple[int, ...]
    log_probability: float
    score: float
    frames: tuple[int, ...] = ()


def ctc_greedy(
    log_probabilities: Tensor, lengths: Sequence[int] | Tensor, *, blank: int = 0
) -> list[Labelling]:
    """The labelling of each row's likeliest path: `log_probabilities` `(T, B, V)`, of which row b has `lengths[b]`.

    Raises ValueError for lengths beyond T.
    """
    lengths = _checked(log_probabilities, lengths)
    values, symbols = log_probabilities.detach().cpu().max(-1)
    found = []
    for b, T in enumerate(lengths):
        path = symbols[:T, b].tolist()
        begins = [t for t in range(T) if path[t] != blank and (t == 0 or path[t] != path[t - 1])]
        total = float(values[:T, b].to(torch.float64).sum())
        found.append(Labelling(tuple(path[t] for t in begins), total, total, tuple(begins)))
    return found


def ctc_beam_search(
    log_probabilities: Tensor,
    lengths: Sequence[int] | Tensor,
    *,
    blank: int = 0,
    beam: int = 16,
    n_best: int = 1,
    language_model: Step | None = None,
    first: int = 0,
    state: Any = None,
    weight: float = 0.0,
    bonus: float = 0.0,
    pick: Pick | None = None,
    cutoff: float = 0.0,
) -> list[list[Labelling]]:
    """The `n_best` best labellings of each row, best first (Hannun et al., arXiv 1408.2873, algorithm 1).

        score(Y) = log p_ctc(Y | x) + weight * log p_lm(Y) + bonus * |Y|

    log_probabilities: `(T, B, V)`, of which row b has `lengths[b]`. beam: prefixes kept after each frame.
    language_model: a step over the same V numbers; `first` is the token that it reads first, `state` its state of one
    row before that; `pick` picks rows of a state. cutoff: symbols less likely than this in a frame are passed over;
    0 leaves none out.
    Raises ValueError for arguments out of range.
    """
    lengths = _checked(log_probabilities, lengths)
    if beam < 1 or not 1 <= n_best <= beam:
        raise ValueError(f"beam {beam}, n_best {n_best}; expected 1 <= n_best <= beam")
    if not 0 <= cutoff < 1:
        raise ValueError(f"cutoff {cutoff} is outside [0, 1)")
    table = log_probabilities.detach().cpu().to(torch.float64)
    least = math.log(cutoff) if cutoff else _NEVER
    found = []
    for b, T in enumerate(lengths):
        fused = (
            None
            if language_model is None or not weight
            else _Fused(language_model, pick or rows_along(0), weight, first, state)
        )
        found.append(_search(table[:T, b], blank, beam, least, fused, bonus)[:n_best])
    return found


def _checked(log_probabilities: Tensor, lengths: Sequence[int] | Tensor) -> list[int]:
    T, B, _ = log_probabilities.shape
    numbers = [int(n) for n in lengths]
    if len(numbers) != B or any(not 0 <= n <= T for n in numbers):
        raise ValueError(f"lengths are {numbers}; expected {B} whole numbers from 0 to {T}")
    return numbers


@dataclass(slots=True)
class _Chance:
    """log p of all paths of a prefix that end in the blank, and of those that end in its last symbol."""

    blank: float = _NEVER
    symbol: float = _NEVER

    @property
    def total(self) -> float:
        return _add(self.blank, self.symbol)


class _Fused:
    """What a language model says behind each prefix of the beam: asked once for a prefix, new ones together."""

    def __init__(self, step: Step, pick: Pick, weight: float, first: int, state: Any) -> None:
        self.step, self.pick, self.weight = step, pick, weight
        self.next: dict[_Prefix, list[float]] = {}
        self.states: dict[_Prefix, tuple[Any, int]] = {}  # a state of several rows, and which of them
        self._ask([()], [first], state)

    def _ask(self, prefixes: list[_Prefix], tokens: list[int], state: Any) -> None:
        with torch.no_grad():
            logits, state = self.step(torch.tensor(tokens), state)
        said = logits.to(torch.float64).log_softmax(-1).tolist()
        for i, prefix in enumerate(prefixes):
            self.next[prefix], self.states[prefix] = said[i], (state, i)

    def look_up(self, prefixes: list[_Prefix]) -> None:
        """Read the last symbol of each new prefix, and forget the prefixes that have left the beam."""
        new: dict[int, list[_Prefix]] = {}
        for prefix in prefixes:
            if prefix not in self.next:
                new.setdefault(id(self.states[prefix[:-1]][0]), []).append(prefix)
        for together in new.values():
            state = self.states[together[0][:-1]][0]
            rows = torch.tensor([self.states[prefix[:-1]][1] for prefix in together])
            self._ask(together, [prefix[-1] for prefix in together], self.pick(state, rows))
        kept = set(prefixes)
        for gone in [prefix for prefix in self.states if prefix not in kept]:
            del self.states[gone], self.next[gone]

    def of(self, prefix: _Prefix, symbol: int) -> float:
        """weight * log p of a symbol behind a prefix."""
        return self.weight * self.next[prefix][symbol]


def _search(
    frames: Tensor, blank: int, beam: int, least: float, fused: _Fused | None, bonus: float
) -> list[Labelling]:
    beams: dict[_Prefix, _Chance] = {(): _Chance(blank=0.0)}
    extra: dict[_Prefix, float] = {(): 0.0}
    for frame in frames.tolist():
        grown: dict[_Prefix, _Chance] = {}
        for prefix, chance in beams.items():
            _extend(grown, prefix, chance, frame, blank, least)
        for prefix in grown:
            if prefix not in extra:
                said = 0.0 if fused is None else fused.of(prefix[:-1], prefix[-1])
                extra[prefix] = extra[prefix[:-1]] + said + bonus
        best = sorted(grown, key=lambda p: -(grown[p].total + extra[p]))[:beam]
        beams = {prefix: grown[prefix] for prefix in best if grown[prefix].total > _NEVER}
        if fused is not None:
            fused.look_up(list(beams))
    found = [Labelling(p, c.total, c.total + extra[p]) for p, c in beams.items()]
    return sorted(found, key=lambda labelling: -labelling.score)


def _extend(
    grown: dict[_Prefix, _Chance],
    prefix: _Prefix,
    chance: _Chance,
    frame: list[float],
    blank: int,
    least: float,
) -> None:
    """One frame more: the prefix stays, by the blank or by its last symbol again, or takes on each other symbol."""
    stays = grown.setdefault(prefix, _Chance())
    stays.blank = _add(stays.blank, chance.total + frame[blank])
    if prefix:
        stays.symbol = _add(stays.symbol, chance.symbol + frame[prefix[-1]])
    for symbol, value in enumerate(frame):
        if symbol == blank or value < least or value == _NEVER:
            continue
        # A symbol repeated is a new one only behind a blank.
        before = chance.blank if prefix and symbol == prefix[-1] else chance.total
        if before > _NEVER:
            longer = grown.setdefault((*prefix, symbol), _Chance())
            longer.symbol = _add(longer.symbol, before + value)


def _add(a: float, b: float) -> float:
    """log(exp a + exp b)."""
    if a < b:
        a, b = b, a
    return a if b == _NEVER else a + math.log1p(math.exp(b - a))
