"""Data: series read, divided by time, scaled by what was seen in training, and put into numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import UserError
from elman.data.account import Account
from elman.data.series import Frame, Layout, read_series
from elman.data.series.scaled import Codec, Numbers, RidgeMap, Scale, encode, static_features
from elman.data.series.stamps import calendar
from elman.tasks.divided import Divided
from elman.tasks.series.maps import fit_ridge, seasonal_error
from elman.tasks.series.settings import Config, SeriesSettings

__all__ = [
    "Codec",
    "Numbers",
    "Panel",
    "Part",
    "Scale",
    "clean",
    "encode",
    "prepare",
    "read_part",
    "static_features",
]

Floats = npt.NDArray[np.float64]
LONGEST = 24
# Rows of a series to train on.
LEAST = 8
# Words of a static column that are told apart.
MOST_WORDS = 32


class Part(NamedTuple):
    """Frames, and from which row to which each is measured; rows before it are what the network has seen."""

    name: str
    frames: list[Frame]
    starts: list[int]
    ends: list[int]
    account: Account | None = None

    @property
    def rows(self) -> int:
        """Count the rows that are measured."""
        return sum(end - start for start, end in zip(self.starts, self.ends, strict=True))


@dataclass(frozen=True)
class Panel(Divided[Codec, Part]):
    """The data of a training."""

    def items(self, part: Part) -> Sequence[Any]:
        """Its frames."""
        return part.frames

    def facts(self) -> dict[str, Any]:
        """Sizes, and a fingerprint of all values in their parts."""
        digest = hashlib.sha256()
        for name, part in self.parts.items():
            for frame, start, end in zip(part.frames, part.starts, part.ends, strict=True):
                digest.update(f"{name}\0{frame.name}\0{start}\0{end}\0".encode("utf-8", "surrogatepass"))
                digest.update(np.nan_to_num(frame.values, nan=-1e300).tobytes() + frame.times.tobytes())
                if frame.labels is not None:
                    digest.update(frame.labels.tobytes())
        return {
            "read": self.read,
            "rows": {name: part.rows for name, part in self.parts.items()},
            "sha256": digest.hexdigest(),
        }

    def files(self) -> dict[str, Any]:
        """The codec, the accounts, the split."""
        return {
            "codec.json": self.codec.to_json(),
            "account.json": {name: account.to_json() for name, account in self.accounts.items()},
            "split.json": {
                name: [
                    [frame.name, start, end]
                    for frame, start, end in zip(p.frames, p.starts, p.ends, strict=True)
                ]
                for name, p in self.parts.items()
            },
        }

    def lines(self) -> list[str]:
        """The accounts, the sizes, what is learnt."""
        lines = self.account_lines()
        sizes = " / ".join(f"{part.rows:,}" for part in self.parts.values())
        drawn = f"; the latest rows are {' and '.join(self.drawn)}" if self.drawn else ""
        lines.append(f"{sizes} rows to {' / '.join(self.parts)}{drawn}")
        codec = self.codec
        for name, part in self.parts.items():
            longest = max(end - start for start, end in zip(part.starts, part.ends, strict=True))
            if name != "train" and codec.target == "forecast" and longest < codec.horizon:
                lines.append(
                    f"the {name} part has {longest} row{'s' * (longest != 1)} of a series at most: rows further ahead "
                    f"are not measured (--{name}-rows, --horizon)"
                )
        how = "changes from the last value" if codec.map.relative else "values"
        lines.append(
            f"{codec.horizon} rows ahead of {codec.targets} target{'s' * (codec.targets > 1)}, season {codec.season}; "
            f"{how} are learnt"
        )
        return lines


def prepare(config: Config, codec: Codec | None) -> Panel:
    """Read, divide by time and scale. The codec is learnt from the training rows unless it is given.

    Raises UserError where the data cannot be used.
    """
    data = config.data
    if not data.train:
        raise UserError("nothing to learn from: give a table by --data, with a row for each time")
    accounts: dict[str, Account] = {}
    layout, step = (codec.layout, codec.step) if codec else (None, None)
    read: dict[str, list[Frame]] = {}
    for name, paths in (("train", data.train), ("valid", data.valid), ("test", data.test)):
        if paths:
            accounts[name] = Account()
            read[name], layout = read_series(
                paths, accounts[name], data.chosen, given=data.given, encoding=data.encoding,
                layout=layout, step=step, marks=data.target == "anomalies",
            )  # fmt: skip
            step = step or read[name][0].step
    for account in accounts.values():
        account.judge(data.on_bad)
    assert layout is not None
    parts, drawn = _divide(read, data, accounts)
    codec = codec or _learn(parts, layout, config)
    return Panel(codec, parts, accounts, drawn)


def read_part(paths: tuple[str, ...], data: SeriesSettings, codec: Codec) -> Part:
    """The frames of other files, measured from their first row on."""
    account = Account()
    frames, _ = read_series(
        paths, account, data.chosen, given=data.given, encoding=data.encoding,
        layout=codec.layout, step=codec.step, marks=data.target == "anomalies",
    )  # fmt: skip
    account.judge(data.on_bad)
    return Part(
        "other", frames, [min(codec.lags, len(f) // 2) for f in frames], [len(f) for f in frames], account
    )


# The split


def _divide(
    read: dict[str, list[Frame]], data: SeriesSettings, accounts: dict[str, Account]
) -> tuple[dict[str, Part], tuple[str, ...]]:
    """By time: the latest rows of each series are the test, those before them the validation."""
    whole = {frame.name: frame for frame in read["train"]}
    cuts: dict[str, dict[str, tuple[int, int]]] = {"train": {}, "valid": {}, "test": {}}
    drawn = []
    for name, frame in whole.items():
        end = len(frame)
        asked = (("test", data.test_rows, data.test_share, "test" not in read and "valid" not in read),
                 ("valid", data.valid_rows, data.valid_share, "valid" not in read))  # fmt: skip
        for part, rows, share, wanted in asked:
            count = (rows or round(share * len(frame))) if wanted else 0
            if count:
                cuts[part][name] = (end - count, end)
                end -= count
                drawn.append(part)
        cuts["train"][name] = (0, end)
        if end < LEAST:
            raise UserError(_too_few(frame, max(end, 0), alone=len(whole) == 1))
    parts = {}
    for part in ("train", "valid", "test"):
        names = [name for name in whole if name in cuts[part]]
        if names:
            spans = [cuts[part][name] for name in names]
            parts[part] = Part(part, [whole[n] for n in names], [a for a, _ in spans], [b for _, b in spans])
    for part in ("valid", "test"):
        if part in read:
            parts[part] = _given(part, read[part], whole)
    return {
        part: parts[part]._replace(account=accounts.get(part, accounts["train"])) for part in parts
    }, tuple(part for part in ("valid", "test") if part in drawn)


def _too_few(frame: Frame, left: int, *, alone: bool) -> str:
    rows = "1 row leaves" if len(frame) == 1 else f"{len(frame)} rows leave"
    return (
        f"{frame.places[0]}{f', {frame.name}' if frame.name else ''}: {rows} {left} to train on, and {LEAST} are the "
        f"least; give more rows, {'' if alone else 'leave this series out, '}or ask for smaller parts by --valid-share "
        f"and --test-share"
    )


def _given(part: str, frames: Sequence[Frame], whole: dict[str, Frame]) -> Part:
    """A part from files of its own: behind the training rows where its times follow on them, else by itself."""
    from elman.data.series.reading import joined

    found, starts = [], []
    for frame in frames:
        known = whole.get(frame.name)
        follows = known is not None and frame.step == known.step and frame.step.kind != "rows"
        if follows and known is not None and len(frame) and frame.times[0] > known.times[-1]:
            found.append(joined(known, frame))
            starts.append(len(known))
        else:
            found.append(frame)
            starts.append(0)
    return Part(part, found, starts, [len(frame) for frame in found])


# What is learnt


def _learn(parts: dict[str, Part], layout: Layout, config: Config) -> Codec:
    data = config.data
    train = [frame.part(start, end) for frame, start, end in zip(*parts["train"][1:4], strict=True)]
    train = [clean(frame) for frame in train]
    _check_values(train, layout)
    first = train[0]
    C = len(layout.channels) - len(layout.future)
    M = C - len(layout.past)
    counts = config.model.outlook == "negative-binomial"
    scales = _scales(train, data, counts=counts, targets=M)
    season = data.season or first.step.season
    horizon = data.horizon or max(4 if data.target == "forecast" else 8, min(LONGEST, season))
    shortest = max(len(frame) for frame in train)
    if shortest <= horizon + 1:
        raise UserError(
            f"--horizon {horizon}: {shortest} training rows are too few; give more rows, or a smaller horizon"
        )
    lags = max(1, min(data.lags, shortest // 4))
    scaled = [scales.get(f.name, scales[""]).down(f.values[:, :C]) for f in train]
    relative = {"auto": None, "level": False, "change": True}[config.model.level] if not counts else False
    found = _map(parts, train, scales, lags, horizon, M, relative)
    if config.model.linear == "none":
        found = found._replace(weight=np.zeros_like(found.weight), bias=np.zeros_like(found.bias))
    names, _ = calendar(first.times[:2], first.step, first.clock) if data.calendar else ([], None)
    return Codec(
        data.target, layout, first.step, first.clock, horizon, season, lags, scales,
        {f.name: seasonal_error(f.values[:, :M], season) for f in train},
        _change(scaled, C), found, any(bool(np.isnan(f.values[:, :C]).any()) for f in train),
        tuple(names), _statics(train, layout), {f.name: float(f.times[-1]) for f in parts["train"].frames},
        counts, data.recent,
    )  # fmt: skip


def _check_values(train: Sequence[Frame], layout: Layout) -> None:
    """UserError where a column has nothing to learn from."""
    known = np.any([(~np.isnan(frame.values)).any(axis=0) for frame in train], axis=0)
    for column, own in zip(layout.channels, known.tolist(), strict=True):
        if not own:
            raise UserError(
                f"the training rows have no value of {column!r}; leave the column out (--target-column names those to "
                f"learn), or give rows in which it was measured"
            )


def clean(frame: Frame) -> Frame:
    """The frame with marked rows missing: what is out of the ordinary is not learnt."""
    if frame.labels is None or not (frame.labels == 1).any():
        return frame
    values = frame.values.copy()
    values[frame.labels == 1] = np.nan
    return Frame(
        frame.name,
        values,
        frame.times,
        frame.gap,
        frame.step,
        frame.clock,
        frame.places,
        frame.labels,
        frame.static,
    )


def _scales(train: Sequence[Frame], data: SeriesSettings, *, counts: bool, targets: int) -> dict[str, Scale]:
    whole = _scale(np.concatenate([frame.values for frame in train]), counts=counts, targets=targets)
    scales = {"": whole}
    if data.scale == "series":
        scales |= {f.name: _scale(f.values, counts=counts, targets=targets) for f in train}
    return scales


def _scale(values: Floats, *, counts: bool, targets: int) -> Scale:
    known = ~np.isnan(values)
    n = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0.0).sum(axis=0) / n
    deviation = np.sqrt(np.where(known, (values - mean) ** 2, 0.0).sum(axis=0) / n)
    deviation = np.where(deviation > 1e-8 * np.abs(mean), deviation, 1.0)
    if counts:
        if (np.where(known, values, 0.0)[:, :targets] < 0).any():
            raise UserError("--outlook negative-binomial is for counts, and there are values below 0")
        deviation[:targets] = np.maximum(mean[:targets], 1e-3)
        mean[:targets] = 0.0
    return Scale(mean, deviation)


def _map(
    parts: dict[str, Part], train: Sequence[Frame], scales: dict[str, Scale], lags: int, horizon: int, M: int,
    relative: bool | None,
) -> RidgeMap:  # fmt: skip
    valid = []
    if "valid" in parts:
        for frame, start, end in zip(*parts["valid"][1:4], strict=True):
            own = clean(frame.part(0, end))
            valid.append((scales.get(frame.name, scales[""]).down(own.values[:, :M]), start))
    inside = [scales.get(f.name, scales[""]).down(f.values[:, :M]) for f in train]
    return fit_ridge(inside, valid, lags, horizon, relative=relative)


def _change(scaled: Sequence[Floats], C: int) -> Floats:
    """The root of the mean square of changes from one value that was seen to the next."""
    found = np.ones(C)
    for c in range(C):
        steps = np.concatenate([np.diff(x[:, c][~np.isnan(x[:, c])]) for x in scaled])
        if len(steps) and steps.std() > 1e-6:
            found[c] = float(np.sqrt(np.mean(steps**2)))
    return found


def _statics(train: Sequence[Frame], layout: Layout) -> dict[str, Any]:
    """Mean and deviation of static numbers, the words of others."""
    found: dict[str, Any] = {}
    for column in layout.static:
        values = [frame.static.get(column) for frame in train]
        if all(isinstance(value, float) for value in values):
            numbers = np.array(values, dtype=np.float64)
            found[column] = {"mean": float(numbers.mean()), "deviation": float(numbers.std()) or 1.0}
        else:
            found[column] = {"words": sorted({str(value) for value in values})[:MOST_WORDS]}
    return found
