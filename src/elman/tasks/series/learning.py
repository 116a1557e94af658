"""Model, Loss: pieces of series side by side, the forecaster, and what it says at each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.series import Frame
from elman.data.series.frames import since_of
from elman.tasks.series.maps import targets_of
from elman.tasks.series.panel import Codec, Numbers, Panel, Part, clean, encode
from elman.tasks.series.settings import Config
from elman.training.parallel import each

if TYPE_CHECKING:
    from torch import Tensor

    from elman.nn import Forecaster

__all__ = [
    "Origins",
    "Pieces",
    "ahead_of",
    "build_forecaster",
    "forecasts",
    "loss_of",
    "origins_of",
    "run_over",
]

Floats = npt.NDArray[np.float64]
# Rows that are read at once without gradients.
AT_ONCE = 4096


def build_forecaster(config: Config, codec: Codec) -> Forecaster:
    """The network; its buffer `threshold` is where a score of an anomaly begins."""
    import torch

    from elman.nn import Forecaster, LaggedMap

    model = config.model
    cell, gaps = model.settled(missing=codec.missing)
    steps = model.ahead == "steps"
    weight, bias, spread = (torch.tensor(part, dtype=torch.float32) for part in codec.map[:3])
    if steps:
        weight, bias, spread = weight[:, :1], bias[:, :1], spread[:, :1]
    linear = LaggedMap(weight, bias, spread, relative=codec.map.relative, frozen=model.linear != "trained")
    network = Forecaster(
        codec.channels,
        codec.known,
        len(codec.layout.future) if steps else codec.ahead,
        linear,
        torch.tensor(codec.change, dtype=torch.float32),
        cell=cell,
        hidden=model.hidden,
        layers=model.layers,
        dropout=model.dropout,
        gaps=gaps,  # type: ignore[arg-type]
        outlook=model.outlook,
        engine=model.engine,
    )
    network.register_buffer("threshold", torch.tensor(torch.inf))
    return network


class PieceBatch(NamedTuple):
    """B pieces of T rows, `Numbers` side by side; y `(T, B, h M)`, NaN where it does not count; unit `(B, M)`."""

    x: npt.NDArray[np.float32]
    since: npt.NDArray[np.float32]
    known: npt.NDArray[np.float32]
    ahead: npt.NDArray[np.float32]
    y: npt.NDArray[np.float32]
    unit: npt.NDArray[np.float32]

    @property
    def rows(self) -> int:
        """B."""
        return len(self.unit)

    def pick(self, rows: npt.NDArray[np.int64]) -> PieceBatch:
        """Some of the pieces."""
        x, since, known, ahead, y = (part[:, rows] for part in self[:-1])
        return PieceBatch(x, since, known, ahead, y, self.unit[rows])


class Pieces:
    """The training pieces of all epochs. A piece is `length` rows that count, behind `lags` rows that only lead in."""

    def __init__(self, config: Config, panel: Panel) -> None:
        """Encode the training rows, and nothing behind them."""
        codec, data = panel.codec, config.data
        part = panel.parts["train"]
        self.h = 1 if config.model.ahead == "steps" else codec.horizon
        self.frames = [clean(frame.part(start, end)) for frame, start, end in zip(*part[1:4], strict=True)]
        self.numbers = [encode(frame, codec) for frame in self.frames]
        self.units = np.array([codec.scale(f.name).deviation[: codec.targets] for f in self.frames])
        self.codec, self.batch, self.seed = codec, data.batch, config.training.seed
        self.rows = np.array([len(frame) for frame in self.frames])
        self.length = max(1, min(data.length, int(self.rows.max()) - 1))
        self.starts = np.concatenate([[0], np.cumsum(self.rows)])
        self.count = max(16, round(int(self.rows.sum()) / (self.length * self.batch)))
        self.lead = codec.lags
        self.laid = data.lay_gaps if codec.missing else 0.0

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return self.count

    def __call__(self, epoch: int, index: int) -> PieceBatch:
        """A batch of pieces drawn anywhere, by the seed, the epoch and the index."""
        generator = np.random.default_rng([self.seed, epoch, index])
        ends = generator.integers(self.starts[-1], size=self.batch)
        pieces = [self._piece(int(place), generator) for place in ends]
        series = [np.stack(column, axis=1).astype(np.float32) for column in zip(*pieces, strict=True)]
        which = np.searchsorted(self.starts, ends, side="right") - 1
        return PieceBatch(*(*series, self.units[which].astype(np.float32)))

    def _piece(self, place: int, generator: np.random.Generator) -> tuple[Floats, ...]:
        number = int(np.searchsorted(self.starts, place, side="right")) - 1
        numbers, rows = self.numbers[number], int(self.rows[number])
        # A piece may begin before the series: then its first rows are missing.
        start = int(generator.integers(-(self.length // 2), max(1, rows - self.length // 2)))
        start = min(start, rows - 2)
        origins = np.arange(start, start + self.length)
        first = start - self.lead
        own = [_cut(array, first, self.lead + self.length) for array in numbers]
        if self.laid and generator.random() < self.laid:
            gap = self.frames[number].gap[:, None]
            self._lay(own, numbers.x, _cut(gap, first, len(own[0]))[:, 0], first, generator)
        own[1:] = [np.nan_to_num(array, nan=0.0) for array in own[1:]]
        y = np.full((self.lead + self.length, self.h, self.codec.targets), np.nan)
        inside = (origins >= 0) & (origins < rows - 1)
        y[self.lead :][inside] = targets_of(numbers.x[:, : self.codec.targets], self.h, origins[inside])
        return (*own, y.reshape(len(y), -1))

    def _lay(
        self, own: list[Floats], whole: Floats, gap: Floats, first: int, generator: np.random.Generator
    ) -> None:
        """Take from a piece what another stretch of its series lacks; the values stay among what is to be told."""
        x, since = own[:2]
        rows = (np.arange(first, first + len(x)) + generator.integers(len(whole))) % len(whole)
        x[np.isnan(whole[rows])] = np.nan
        np.maximum(since, since_of(~np.isnan(x), np.nan_to_num(gap, nan=1.0)), out=since)


def _cut(array: Floats, first: int, count: int) -> Floats:
    """Rows of an array, NaN outside of it."""
    found = np.full((count, array.shape[1]), np.nan)
    a, b = max(first, 0), min(first + count, len(array))
    if b > a:
        found[a - first : b - first] = array[a:b]
    return found


def ahead_of(model: Forecaster, ahead: Tensor) -> Tensor | None:
    """What is known ahead of as many rows as the network says at once; None where nothing is."""
    return ahead[..., : model.ahead] if model.ahead else None


def loss_of(model: Forecaster, batch: PieceBatch) -> tuple[Tensor, int]:
    """The sum of the losses of what was observed, and how many these are."""
    import torch

    device = model.head.weight.device
    x, since, known, ahead, y, unit = (torch.from_numpy(part).to(device) for part in batch)
    found = model(x, since, known, ahead_of(model, ahead))
    prospect = model.prospect(found.loc, found.shape, unit)
    seen = y.isfinite()
    losses = model.outlook.loss(prospect, torch.nan_to_num(y, nan=0.0))
    return torch.where(seen, losses, torch.zeros_like(losses)).sum(), int(seen.sum())


# What it says


def run_over(model: Forecaster, numbers: Numbers, unit: Floats) -> Iterator[tuple[int, Any, Any, Any]]:
    """Pieces of a frame in order: the first row, the prospect `(T, 1, h M)`, the state before, the state behind."""
    import torch

    device = model.head.weight.device
    arrays = [torch.tensor(array, dtype=torch.float32, device=device).unsqueeze(1) for array in numbers]
    units = torch.tensor(unit, dtype=torch.float32, device=device).unsqueeze(0)
    model.eval()
    state = None
    for first in range(0, len(numbers.x), AT_ONCE):
        x, since, known, ahead = (array[first : first + AT_ONCE] for array in arrays)
        with torch.no_grad():
            found = model(x, since, known, ahead_of(model, ahead), state)
            prospect = model.prospect(found.loc, found.shape, units)
        yield first, prospect, state, found.state
        state = found.state


class Origins(NamedTuple):
    """Forecasts from N rows of frames, in the values' own units.

    series, row `(N,)`: which frame, and the row after which; q `(N, h, M, Q)`; truth `(N, h, M)`, NaN where unknown.
    """

    series: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    q: Floats
    truth: Floats


def origins_of(part: Part, horizon: int, stride: int) -> list[npt.NDArray[np.int64]]:
    """The rows of each frame after which is forecast: all h rows behind lie in the part, where it is as long."""
    found = []
    for start, end in zip(part.starts, part.ends, strict=True):
        last = max(end - horizon - 1, min(start, end - 2))
        found.append(np.arange(max(start - 1, 0), last + 1, stride))
    return found


def forecasts(
    model: Forecaster, codec: Codec, part: Part, config: Config, origins: Sequence[npt.NDArray[np.int64]]
) -> Origins:
    """What is said after each origin, of rows up to it alone."""
    pieces = [
        (frame.part(0, end), rows) for frame, end, rows in zip(part.frames, part.ends, origins, strict=True)
    ]
    q = each(pieces, lambda piece: frame_forecasts(model, codec, piece[0], config, piece[1]))
    truth = [targets_of(own.values[:, : codec.targets], codec.horizon, rows) for own, rows in pieces]
    series = [np.full(len(rows), number) for number, (_, rows) in enumerate(pieces)]
    return Origins(
        np.concatenate(series), np.concatenate(list(origins)), np.concatenate(q), np.concatenate(truth)
    )


def frame_forecasts(
    model: Forecaster, codec: Codec, frame: Frame, config: Config, rows: npt.NDArray[np.int64]
) -> Floats:
    """Quantiles after some rows of a frame `(N, h, M, Q)`."""
    from elman.tasks.series.paths import path_quantiles

    scale = codec.scale(frame.name)
    numbers = encode(frame, codec)
    if config.model.ahead == "steps":
        scaled = path_quantiles(model, codec, frame, numbers, config, rows)
    else:
        scaled = _direct(model, codec, numbers, scale.deviation[: codec.targets], rows)
    M = codec.targets
    up = scaled * scale.deviation[:M, None] + scale.mean[:M, None]
    return np.asarray(np.maximum(up, 0.0) if codec.counts else up)


def _direct(
    model: Forecaster, codec: Codec, numbers: Numbers, unit: Floats, rows: npt.NDArray[np.int64]
) -> Floats:
    pieces = []
    for first, prospect, _, _ in run_over(model, numbers, unit):
        count = prospect.loc.shape[0]
        own = rows[(rows >= first) & (rows < first + count)] - first
        if len(own):
            picked = prospect._replace(
                loc=prospect.loc[own], shape=prospect.shape[own], unit=prospect.unit[own]
            )
            found = model.outlook.quantiles(picked)[:, 0]
            pieces.append(found.detach().double().cpu().numpy())
    flat = np.concatenate(pieces) if pieces else np.zeros((0, codec.horizon * codec.targets, 19))
    return np.asarray(flat.reshape(len(flat), codec.horizon, codec.targets, -1))
