"""Predict: steps drawn one after the other; from nothing, behind a primer, under chords, below a melody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.music import Keys
from elman.data.music.chords import Chord

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from elman.tasks.music.network import RollNetwork

__all__ = ["Composed", "Kept", "Steps", "Wish", "chord_offsets", "compose", "melody_offsets"]

Roll = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
# Which notes of a melody stay.
Kept = Literal["highest", "lowest", "outer", "all"]


class Wish(NamedTuple):
    """What is asked for.

    length: steps to write. primer: steps that come first `(P, K)`, read and not written. offsets: `(length, K)`, added
    to the logits of each step; +inf and -inf fix a key. particles: how many pieces are drawn side by side where keys
    are fixed (see `compose`). temperature: below 1 surer, 0 what is likelier each time, above 1 freer.
    """

    length: int
    primer: Roll
    offsets: Floats | None = None
    particles: int = 1
    temperature: float = 1.0


class Composed(NamedTuple):
    """roll: `(P + length, K)`, the primer in front. given: of the same shape, which cells were not written."""

    roll: Roll
    given: Roll


def compose(model: RollNetwork, wish: Wish, generator: torch.Generator) -> Composed:
    """Draw a piece.

    Where keys are fixed, what is drawn beside them at a step cannot know which keys will be fixed later. So N pieces
    are drawn side by side, each weighted by how likely it finds what is fixed; when the weights of few of them outweigh
    the rest, these are kept, more than once, and the others given up (sequential Monte Carlo: Gordon, Salmond & Smith
    1993). One of the N is given, drawn by the weights. With N large enough, and at temperature 1, it is a draw from
    p(all others | all that is fixed).
    """
    import torch

    N, K = max(1, wish.particles), model.keys
    steps = Steps(model)
    kept = torch.zeros(wish.length, N, K)
    weights = torch.zeros(N, dtype=torch.float64)
    before = torch.zeros(N, K)
    with torch.no_grad():
        features = steps(before)
        for row in wish.primer:
            features = steps(torch.from_numpy(row).float().expand(N, K))
        for t in range(wish.length):
            offset = None if wish.offsets is None else torch.from_numpy(wish.offsets[t])
            v, gained = model.draw(features, offset=offset, temperature=wish.temperature, generator=generator)
            kept[t] = v
            weights += gained.double()
            chosen = _resampled(weights, generator) if N > 1 else None
            if chosen is not None:
                steps.pick(chosen)
                kept, v = kept[:, chosen], v[chosen]
                weights = torch.zeros(N, dtype=torch.float64)
            if t + 1 < wish.length:
                features = steps(v)
    one = int(torch.multinomial((weights - weights.max()).exp(), 1, generator=generator)) if N > 1 else 0
    roll = np.concatenate([wish.primer, kept[:, one].numpy().astype(np.uint8)])
    given = np.zeros_like(roll)
    given[: len(wish.primer)] = 1
    if wish.offsets is not None:
        given[len(wish.primer) :] = np.isposinf(wish.offsets)
    return Composed(roll, given)


def _resampled(weights: Tensor, generator: torch.Generator) -> Tensor | None:
    """Which of the N go on, systematically drawn by their weights; None while more than half of them count."""
    import torch

    p = (weights - weights.max()).exp()
    p /= p.sum()
    N = len(p)
    if float(1 / (p**2).sum()) > N / 2:
        return None
    places = (torch.arange(N) + torch.rand(1, generator=generator).double()) / N
    return torch.searchsorted(p.cumsum(0), places).clamp(max=N - 1)


class Steps:
    """The network step by step: features `(N, F)` of the step that has just been read."""

    def __init__(self, model: RollNetwork) -> None:
        self.model = model
        model.eval()
        recurrent: Any = model.recurrent
        # Layers of torch.nn, and others that have no stream, are called for each step.
        self.stream: Any = recurrent.stream() if hasattr(recurrent, "stream") else None
        self.state: Any = None

    def __call__(self, v: Tensor) -> Tensor:
        """The features after one more step."""
        v = v.to(self.model.bias.device)
        if self.stream is None:
            found, self.state = self.model.features(v.unsqueeze(0), self.state)
            return found[0]
        y = self.stream(self.model.embedding(v.unsqueeze(0))[0])
        features: Tensor = self.model._before_head(y.unsqueeze(0), None)[0]
        return features

    def pick(self, rows: Tensor) -> None:
        """Go on with these rows, some of them more than once."""
        from torch.utils._pytree import tree_leaves, tree_map

        # The axis of the rows is the one that grows with them.
        two, three = (self.model.initial_state(count) for count in (2, 3))
        axes = [
            next(axis for axis, (a, b) in enumerate(zip(one.shape, other.shape, strict=True)) if a != b)
            for one, other in zip(tree_leaves(two), tree_leaves(three), strict=True)
        ]
        state = self.state if self.stream is None else self.stream.state
        left = iter(axes)
        picked = tree_map(lambda leaf: leaf.index_select(next(left), rows.to(leaf.device)), state)
        if self.stream is None:
            self.state = picked
        else:
            self.stream.state = picked


def chord_offsets(
    chords: Sequence[Chord], steps_each: int, length: int, keys: Keys, strength: float
) -> Floats:
    """Keys outside of the chord of each step are unlikelier by `strength` nats; after the last chord comes the first.

    Those of the chord are likelier by a third of it: as many are to sound as without a chord.
    """
    offsets = np.zeros((length, keys.size), dtype=np.float32)
    notes = [keys.note(column) for column in range(keys.size)]
    for t in range(length):
        tones = chords[t // steps_each % len(chords)].tones
        if tones:
            outside = [not drum and pitch % 12 not in tones for pitch, drum in notes]
            inside = [not drum and pitch % 12 in tones for pitch, drum in notes]
            offsets[t, outside] = -strength
            offsets[t, inside] = strength / 3
    return offsets


def melody_offsets(melody: Roll, keys: Keys, kept: Kept = "highest") -> Floats:
    """What is added to the logits so that notes of a melody sound; where it is silent anything may be drawn.

    kept: of each step the highest key, above which nothing sounds; the lowest, below which nothing sounds; both; or all
    that sound, between and beside which others may.
    """
    offsets = np.zeros(melody.shape, dtype=np.float32)
    piano = 88 * keys.piano
    for t, row in enumerate(melody[:, :piano]):
        on = np.flatnonzero(row)
        if not len(on):
            continue
        if kept in {"highest", "outer"}:
            offsets[t, on[-1] + 1 : piano] = -np.inf
        if kept in {"lowest", "outer"}:
            offsets[t, : on[0]] = -np.inf
        chosen = {"highest": on[-1:], "lowest": on[:1], "outer": on[[0, -1]], "all": on}[kept]
        offsets[t, chosen] = np.inf
    return offsets
