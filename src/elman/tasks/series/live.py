"""A series as it comes: one row in, the state carried in the layers' own streams, one outlook out."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.delimited import DELIMITERS
from elman.data.series import Layout
from elman.data.series.numbers import number_of
from elman.data.series.stamps import Clock, calendar, read_times
from elman.tasks.series.panel import Codec, static_features

if TYPE_CHECKING:
    from elman.nn import Forecaster

__all__ = ["BadRowError", "Live", "Row", "header_of", "row_of"]

Floats = npt.NDArray[np.float64]
# A gap of more rows than this begins the stream anew.
LONGEST_GAP = 10_000


class BadRowError(Exception):
    """A row that cannot be answered; its text says why."""


class Row(NamedTuple):
    """A row as it comes in: its series, its time (None where there is none), values of the channels `(C + F,)`."""

    series: str
    time: float | None
    values: Floats
    static: Mapping[str, Any]


def header_of(line: str, layout: Layout) -> tuple[str, ...] | None:
    """The names of the columns, where a line holds all that are read; None where it is a row of values."""
    needed = {layout.time, *layout.series, *layout.targets} - {""}
    for delimiter in DELIMITERS.values():
        names = tuple(name.strip().strip('"') for name in line.split(delimiter))
        if needed and needed <= set(names):
            return names
    return None


def cells_of(line: str, count: int) -> list[str]:
    """The cells of a line, by the delimiter that gives as many as there should be."""
    if count == 1:
        return [line.strip()]
    for delimiter in DELIMITERS.values():
        cells = next(csv.reader([line], delimiter=delimiter), [])
        if len(cells) == count:
            return cells
    raise BadRowError(f"not {count} cells")


def row_of(cells: Mapping[str, Any], codec: Codec) -> Row:
    """The row in cells by their columns' names. Raises BadRowError for what is none."""
    layout = codec.layout
    decimal: Any = layout.decimal
    targets = ("value",) if layout.months else layout.targets
    values = []
    for column in (*targets, *layout.past, *layout.future):
        value = number_of(cells.get(column), decimal)
        if value is None:
            raise BadRowError(
                f"no number in {column}" if column in cells and len(cells) > 1 else "not a number"
            )
        values.append(value)
    time = None
    if layout.time and codec.step.kind != "rows":
        time = _time_of(cells.get(layout.time), codec.clock)
    series = " ".join(str(cells.get(column, "")).strip() for column in layout.series)
    return Row(series, time, np.array(values), {column: cells.get(column) for column in layout.static})


def _time_of(cell: Any, clock: Clock) -> float:
    form = "%Y-%m" if clock.form == "%Y-%m" else clock.form
    try:
        times = read_times([cell], form, clock.zone) if cell not in (None, "") else None
    except Exception as error:
        raise BadRowError(f"no time in {cell!r}") from error
    if times is None or np.isnan(times.values[0]):
        raise BadRowError(f"no time in {cell!r}")
    return float(times.values[0])


class Live:
    """The stream of one series. After `step`, `loc` and `shape` hold the outlook of the last row."""

    def __init__(self, model: Forecaster, codec: Codec, name: str, static: Mapping[str, Any]) -> None:
        """Nothing has come."""
        model.eval()
        self.model, self.codec, self.name = model, codec, name
        self.scale = codec.scale(name)
        self.static = static_features(_plain(static, codec), codec, 1)
        self._begin()

    def _begin(self) -> None:
        import torch

        self.streams: list[Any] = []
        self.window = self.model.initial_state(1).window
        self.since = np.zeros(self.codec.channels)
        self.seen = np.ones(self.codec.channels, dtype=bool)
        self.time: float | None = None
        self.rows = 0
        self.unit = torch.tensor(self.scale.deviation[: self.codec.targets], dtype=torch.float32).unsqueeze(0)

    def gap_to(self, time: float | None) -> float:
        """Steps from the last row to this one. Raises BadRowError where it does not lie behind."""
        if time is None or self.time is None:
            return 1.0
        step = self.codec.step
        if time <= self.time:
            raise BadRowError("its time does not lie behind that of the row before")
        if step.kind == "irregular":
            return (time - self.time) / step.size
        numbers = step.places(np.array([self.time, time]))
        return float(max(1, numbers[1] - numbers[0]))

    def take(self, row: Row) -> Floats:
        """Read a row, and empty ones in the gap before it; the row's targets, scaled `(M,)`."""
        gap = self.gap_to(row.time)
        if self.codec.step.kind != "irregular":
            if gap > LONGEST_GAP:
                self._begin()
                gap = 1.0
            for _ in range(1, int(gap)):
                time = None if self.time is None else self.codec.step.after(self.time, 1)
                self._step(np.full(len(row.values), np.nan), time, 1.0)
            gap = 1.0
        return self._step(row.values, row.time, gap)

    def _step(self, values: Floats, time: float | None, gap: float) -> Floats:
        import torch

        codec, C = self.codec, self.codec.channels
        scaled = self.scale.down(values)
        x = scaled[:C]
        self.since = np.where(self.seen, gap, gap + self.since) if self.rows else np.zeros(C)
        self.seen = ~np.isnan(x)
        self.time, self.rows = time, self.rows + 1
        known = self._known(scaled[C:], time, gap)
        with torch.no_grad():
            self._advance(
                *(torch.tensor(v, dtype=torch.float32).view(1, 1, -1) for v in (x, self.since, known))
            )
        return np.asarray(x[: codec.targets])

    def _known(self, future: Floats, time: float | None, gap: float) -> Floats:
        codec = self.codec
        pieces = [np.nan_to_num(future, nan=0.0), self.static[0]]
        if codec.calendar:
            following = codec.step.after(0.0 if time is None else time, 1)
            pieces.insert(0, calendar(np.array([following]), codec.step, codec.clock)[1][0])
        if codec.step.kind == "irregular":
            pieces.append(np.log1p([gap]))
        return np.concatenate(pieces)

    def _advance(self, x: Any, since: Any, known: Any) -> None:
        """One step of `Forecaster.forward`, on the streams of its layers."""
        import torch

        from elman.nn.networks.forecaster import forward_filled

        model = self.model
        filled, before = forward_filled(x, self.window[:, -1])
        s = model.inputs(x, filled, before, since, known)[0]
        if not self.streams:
            self.streams = [_stream(layer) for layer in model.recurrent]
        for stream in self.streams:
            s = stream(s)
        past = torch.cat((self.window.movedim(1, 0), filled))
        ahead = torch.zeros(1, 1, model.ahead) if model.ahead else None
        self.loc, self.shape = model.read_out(s.unsqueeze(0), past, ahead)
        self.window = past[1:].movedim(0, 1)

    def quantiles(self) -> Floats:
        """Of the rows ahead, scaled `(h, M, Q)`; the network forecasts all at once."""
        import torch

        with torch.no_grad():
            found = self.model.outlook.quantiles(self.model.prospect(self.loc, self.shape, self.unit))
        flat = found[0, 0].double().numpy()
        return np.asarray(flat.reshape(-1, self.codec.targets, flat.shape[-1]))

    @property
    def state(self) -> Any:
        """The state and the outlook, as `paths.sample_paths` goes on from them."""
        from elman.nn import ForecasterState, Forecasts

        state = ForecasterState(self.window, tuple(stream.state for stream in self.streams))
        return state, Forecasts(self.loc, self.shape, state)

    def ahead(self) -> Floats:
        """What is known with each row ahead `(h, K)`."""
        codec = self.codec
        h = codec.horizon
        times = [codec.step.after(self.time or 0.0, 2 + k) for k in range(h)]
        pieces = [np.zeros((h, len(codec.layout.future))), np.tile(self.static, (h, 1))]
        if codec.calendar:
            pieces.insert(0, calendar(np.array(times), codec.step, codec.clock)[1])
        if codec.step.kind == "irregular":
            pieces.append(np.full((h, 1), np.log1p(1.0)))
        return np.concatenate(pieces, axis=1)


def _stream(layer: Any) -> Any:
    return layer.stream() if hasattr(layer, "stream") else _Stepped(layer)


class _Stepped:
    """A layer of torch.nn one step at a time."""

    def __init__(self, layer: Any) -> None:
        self.layer, self.state = layer, None

    def __call__(self, x: Any) -> Any:
        y, self.state = self.layer(x.unsqueeze(0), self.state)
        return y[0]


def _plain(static: Mapping[str, Any], codec: Codec) -> dict[str, Any]:
    """Static cells as they are read from tables: numbers where the training data have numbers."""
    decimal: Any = codec.layout.decimal
    found: dict[str, Any] = {}
    for column, known in codec.statics.items():
        cell = static.get(column)
        value = cell if "words" in known or isinstance(cell, float) else number_of(cell, decimal)
        found[column] = str(cell).strip() if "words" in known and cell is not None else value
    return found


def as_cells(line: str, names: Sequence[str]) -> dict[str, str]:
    """The cells of a line under the names of their columns."""
    return dict(zip(names, cells_of(line, len(names)), strict=True))
