"""Predict: events drawn one after the other on a stream of the recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.music import EventWords
from elman.data.music.chords import Chord
from elman.data.music.events import END, FIRST, START

if TYPE_CHECKING:
    import torch

    from elman.tasks.music.network import EventNetwork

__all__ = ["EventWish", "write_events"]

Floats = npt.NDArray[np.float32]
# Events that a piece has at most which is to end by itself; and how many random numbers are drawn at once.
MOST, DRAWN = 8192, 1024


class EventWish(NamedTuple):
    """What is asked for.

    length: events to write; 0: until the piece ends, MOST at most. primer: events that come first, `start` in front.
    chords, chord_steps, strength: notes outside of the chord that stands at their time are unlikelier by so many nats;
    each is so many steps of the clock long. temperature: below 1 surer, 0 the likeliest each time, above 1 freer.
    """

    length: int
    primer: Sequence[int] = (START,)
    chords: Sequence[Chord] = ()
    chord_steps: int = 1
    strength: float = 0.0
    temperature: float = 1.0


def write_events(
    model: EventNetwork, words: EventWords, wish: EventWish, generator: torch.Generator
) -> list[int]:
    """The primer and what is written behind it.

    Only what makes sense is drawn: a key begins when it does not sound and ends when it does, and behind a velocity
    comes no other one before a note.
    """
    logits, board = _reader(model), _Board(words, wish)
    found = list(wish.primer)
    for event in found[:-1]:
        board.take(event)
        logits(event)
    event = found[-1]
    board.take(event)
    numbers, cold, T = _numbers(generator), wish.temperature == 0, np.float32(wish.temperature or 1.0)
    for _ in range(wish.length or MOST):
        z = logits(event) + board.allowed
        if cold:
            event = int(z.argmax())
        else:
            z -= z.max()
            z /= T
            p = np.exp(z, out=z).cumsum()
            event = min(int(p.searchsorted(next(numbers) * p[-1], side="right")), len(p) - 1)
        if event == END:
            break
        found.append(event)
        board.take(event)
    return found


def _numbers(generator: torch.Generator) -> Iterator[float]:
    """Random numbers between 0 and 1."""
    import torch

    while True:
        yield from torch.rand(DRAWN, generator=generator, dtype=torch.float64).tolist()


def _reader(model: EventNetwork) -> Callable[[int], Floats]:
    """A function that takes the next event and gives the logits `(V,)` of the one behind it."""
    import torch

    model.eval()
    head: Any = model.head
    weight, bias = (p.detach().cpu().float().numpy() for p in (head.weight, head.bias))
    with torch.no_grad():
        # Each event as the recurrent layers read it: the table, its norm, nothing dropped.
        rows = list(model.embedding(torch.arange(len(weight), device=head.weight.device).unsqueeze(1))[:, 0])
    recurrent: Any = model.recurrent
    plain = isinstance(model.norm, torch.nn.Identity) and model.dense is None
    if hasattr(recurrent, "stream"):
        stream = recurrent.stream()

        def features(event: int) -> Any:
            y = stream(rows[event])
            return y if plain else model._before_head(y.view(1, 1, -1), None)[0, 0]

    else:
        state: Any = None

        def features(event: int) -> Any:
            nonlocal state
            y, state = recurrent(rows[event].view(1, 1, -1), state)
            return model._before_head(y, None)[0, 0]

    def logits(event: int) -> Floats:
        with torch.no_grad():
            n = features(event)
        found: Floats = weight @ n.cpu().numpy() + bias
        return found

    return logits


class _Board:
    """What can come next: `allowed` `(V,)`, added to the logits."""

    def __init__(self, words: EventWords, wish: EventWish) -> None:
        self.words, self.wish, self.now, self.place = words, wish, 0, -1
        self.piano = 88 * words.keys.piano
        self.allowed = np.zeros(words.size, dtype=np.float32)
        self.allowed[[START, END]] = -np.inf
        self.allowed[words.ends : words.waits] = -np.inf
        self.under = [_under(chord, words, wish.strength) for chord in wish.chords]
        self.sounding: set[int] = set()
        self._follow()

    def take(self, event: int) -> None:
        """An event has come."""
        words, allowed = self.words, self.allowed
        if event < FIRST:
            return
        if event < words.ends:
            column = event - FIRST
            if column < self.piano:
                self.sounding.add(column)
                allowed[event], allowed[words.ends + column] = -np.inf, 0.0
            allowed[words.loudness :] = 0.0
            # A piece of no notes is none; one of so many events does not end before.
            allowed[END] = -np.inf if self.wish.length else 0.0
        elif event < words.waits:
            column = event - words.ends
            self.sounding.discard(column)
            allowed[event], allowed[FIRST + column] = -np.inf, self._begin(column)
        elif event < words.loudness:
            self.now += event - words.waits + 1
            self._follow()
        else:
            allowed[words.loudness :] = -np.inf

    def _begin(self, column: int) -> float:
        return float(self.under[self.place][column]) if self.under else 0.0

    def _follow(self) -> None:
        """Turn to the chord of this time."""
        if not self.under:
            return
        place = self.now // self.wish.chord_steps % len(self.under)
        if place == self.place:
            return
        self.place = place
        self.allowed[FIRST : self.words.ends] = self.under[place]
        for column in self.sounding:
            self.allowed[FIRST + column] = -np.inf


def _under(chord: Chord, words: EventWords, strength: float) -> Floats:
    """What is added to the logits of the keys that begin."""
    notes = [words.keys.note(column) for column in range(words.keys.size)]
    outside = [bool(chord.tones) and not drum and pitch % 12 not in chord.tones for pitch, drum in notes]
    found: Floats = np.where(outside, -strength, 0.0).astype(np.float32)
    return found
