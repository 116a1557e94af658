"""Everything that is measured of one trained network, at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from elman.config import UserError
from elman.tasks.code import made
from elman.tasks.inspection.reading import Inside, Reading

if TYPE_CHECKING:
    from torch import Tensor, nn

    from elman.nn.inspection import Decay, Saturation, Stretch, Track

__all__ = ["SHORT", "Effort", "Look", "TokenMeans", "Unit", "Wanted", "fresh", "look"]

# Sequences for the gradient.
GRADIENT_ROWS = 16
# Stretches of a unit, how many steps are shown around a peak, and how often a step's name must come to have a mean.
HIGHEST, LOWEST, OFTEN = 3, 1, 5


class Effort(NamedTuple):
    """rows, steps: so many sequences, and steps of each. reach: so many steps back for the gradient."""

    rows: int
    steps: int
    reach: int


WHOLE, SHORT = Effort(48, 240, 100), Effort(32, 120, 60)


class Wanted(NamedTuple):
    """layer: which of the layers, from 1 (0: the last one). units: their numbers; empty: the `most` that vary most."""

    layer: int = 0
    units: tuple[int, ...] = ()
    most: int = 3


DEFAULT = Wanted()


class TokenMeans(NamedTuple):
    """Names of steps with the mean of a unit right after them: the highest and the lowest."""

    highest: list[tuple[str, float]]
    lowest: list[tuple[str, float]]


class Unit(NamedTuple):
    """A unit of a layer: which value it is, what its full colour stands for, and where it is at its extremes."""

    layer: str
    number: int
    value: str
    limit: float
    highest: list[Stretch]
    lowest: list[Stretch]
    means: TokenMeans | None
    values: Tensor


class Look(NamedTuple):
    """What was seen.

    part: of which part of the data; readings, tracks: the sequences and what the layers did. before, after: the
    gradient of fresh weights of the run's seed, and of the trained ones. example, example_tracks: one sequence for the
    heat maps. shown: the place of the layer whose units are looked at.
    """

    part: str
    readings: list[Reading]
    tracks: list[Track]
    before: list[Decay]
    after: list[Decay]
    saturation: list[Saturation]
    units: list[Unit]
    example: Reading
    example_tracks: list[Track]
    shown: int


def look(
    trained: Any,
    inside: Inside,
    *,
    example: Reading | None = None,
    wanted: Wanted = DEFAULT,
    effort: Effort = WHOLE,
) -> Look:
    """Look into the trained network of a run.

    example: a sequence of the user's own for the heat maps; else the first of the data.
    Raises UserError where there are no data, or not the layer or the units that are wanted.
    """
    from elman.nn.inspection import saturation, watching

    part, found = _part(trained)
    readings = [reading.cut(effort.steps) for reading in islice(inside.readings(found), effort.rows)]
    readings = [reading for reading in readings if reading.names]
    if not readings:
        raise UserError(f"the {part} data of {trained.run.path} have no sequence to look at")
    with watching(trained.model, within=inside.within) as (own, tracks):
        inside.loss(own, readings)
    example_tracks = [_first_row(track, len(readings[0].names)) for track in tracks]
    if example is not None:
        example = example.cut(effort.steps)
        with watching(trained.model, within=inside.within) as (own, example_tracks):
            inside.loss(own, [example])
    at = _layer(tracks, wanted.layer)
    before, after = _gradients(trained, inside, readings, effort.reach)
    units = [_unit(tracks[at], number, readings, inside) for number in _numbers(tracks[at], wanted)]
    return Look(
        part,
        readings,
        tracks,
        before,
        after,
        saturation(tracks),
        units,
        example or readings[0],
        example_tracks,
        at,
    )


def _first_row(track: Track, steps: int) -> Track:
    """What a layer did over the first sequence."""
    kinds = (track.states, track.gates, track.candidates)
    states, gates, candidates = ({name: own[:steps, :1] for name, own in kind.items()} for kind in kinds)
    return replace(track, states=states, gates=gates, candidates=candidates)


def _part(trained: Any) -> tuple[str, Any]:
    for name in ("valid", "test", "train"):
        found = trained.prepared.part(name)
        if found is not None:
            return name, found
    raise UserError(f"{trained.run.path} has no data to look at")


def _layer(tracks: Sequence[Track], layer: int) -> int:
    """The place of the layer that is wanted; of the last layer its first direction."""
    if not layer:
        last = tracks[-1].layer
        return next(place for place, track in enumerate(tracks) if track.layer == last)
    if layer > len(tracks):
        names = ", ".join(f"{place} ({track.name})" for place, track in enumerate(tracks, 1))
        raise UserError(f"--layer {layer}: the network has {names}")
    return layer - 1


def _numbers(track: Track, wanted: Wanted) -> list[int]:
    from elman.nn.inspection import most_varying

    _, values = track.memory
    for unit in wanted.units:
        if unit >= values.shape[-1]:
            raise UserError(f"--unit {unit}: {track.name} has the units 0 to {values.shape[-1] - 1}")
    return list(wanted.units) or most_varying(values, wanted.most)


# The gradient, before and after


def fresh(trained: Any) -> nn.Module:
    """The network as the training began with it, by the run's seed."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trained.config.training.seed)
        model: nn.Module = made(trained.task, trained.config, trained.codec)
    return model


def _gradients(
    trained: Any, inside: Inside, readings: Sequence[Reading], reach: int
) -> tuple[list[Decay], list[Decay]]:
    """Over sequences cut to one length: the longest ones, so that the way back is long."""
    from elman.nn.inspection import decays

    longest = sorted(readings, key=lambda reading: -len(reading.names))[:GRADIENT_ROWS]
    T = min(reach, len(longest[-1].names))
    if T < 4:
        longest = longest[:1]
        T = min(reach, len(longest[0].names))
    rows = [reading.cut(T) for reading in longest]
    if T < 3:
        return [], []
    return (
        decays(fresh(trained), lambda own: inside.loss(own, rows), within=inside.within),
        decays(trained.model, lambda own: inside.loss(own, rows), within=inside.within),
    )


# Units


def _unit(track: Track, number: int, readings: Sequence[Reading], inside: Inside) -> Unit:
    import torch

    from elman.nn.inspection import stretches

    name, states = track.memory
    values = states[..., number]
    taken = values[values.isfinite()]
    limit = float(torch.quantile(taken.abs()[:: max(1, len(taken) // 100_000)], 0.995)) or 1.0
    before, after = inside.around
    high = stretches(values, HIGHEST, before=before, after=after)
    low = stretches(values, LOWEST, before=before, after=after, lowest=True)
    means = _means(values, readings) if inside.dense else None
    return Unit(track.name, number, name, limit, high, low, means, values)


def _means(values: Tensor, readings: Sequence[Reading]) -> TokenMeans | None:
    """After which steps the unit is high or low in the mean, of those that come often."""
    found: dict[str, list[float]] = {}
    for row, reading in enumerate(readings):
        for name, value in zip(reading.names, values[: len(reading.names), row].tolist(), strict=True):
            found.setdefault(name, []).append(value)
    means = {name: sum(own) / len(own) for name, own in found.items() if len(own) >= OFTEN}
    order = sorted(means, key=lambda name: -means[name])
    if len(order) < 6:
        return None
    highest = [(name, means[name]) for name in order[:5]]
    lowest = [(name, means[name]) for name in order[:-6:-1]]
    return TokenMeans(highest, lowest)
