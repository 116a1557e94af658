"""Measured series without torch: forecasts, scores of rows as they come, classes of whole series."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.series.encoded import CaseCodec, case_of, numbers_of, rows_in
from elman.data.series.frames import Frame
from elman.data.series.rows import BadRowError, Row, as_cells, header_of, row_of
from elman.data.series.scaled import Codec, Numbers, encode
from elman.runtime.following import Following, forecast_of, score_of
from elman.runtime.model import Frozen, FrozenError
from elman.runtime.model import text_of as _text
from elman.runtime.outlooks import Readout, forward_filled

__all__ = ["SeriesClassifier", "SeriesForecaster", "model_of"]

Floats = npt.NDArray[np.float64]
# Rows that are read at once, and cases.
AT_ONCE, CASES = 4096, 64


def model_of(model: Frozen) -> Frozen:
    """The model by the target of its run."""
    return (SeriesClassifier if _text(model, "target") == "classify" else SeriesForecaster)(model)


class SeriesForecaster(Frozen):
    """A forecaster, or one that scores rows: `predict` answers as `elman predict --json`.

    Rows go on from where the last call stopped, each series by itself; `begin` forgets them.
    """

    def __init__(self, source: str | bytes | Frozen) -> None:
        super().__init__(source)
        self.target = _text(self, "target")
        self.codec = Codec.from_json(json.loads(_text(self, "codec")))
        saved = json.loads(_text(self, "forecaster"))
        self.readout = Readout.from_json(saved)
        self.threshold = float(saved["threshold"])
        self.begin()

    def begin(self) -> None:
        """Forget all rows that came."""
        self._lives: dict[str, _Stepped] = {}
        self._names: tuple[str, ...] = self.codec.layout.order

    def predict(self, inputs: Sequence[Any], *, interval: str = "80") -> list[dict[str, Any]]:
        """An answer to each input, in order: a row, a line of cells or cells by the names of their columns; or a
        series, a list of numbers, or a `Frame` of `elman.data.series`, which is forecast behind its end.

        A line that names the columns says in which order those of later lines are, and has no answer. What cannot be
        answered has an "error".
        """
        if interval not in ("90", "80", "50"):
            raise FrozenError(f"interval={interval!r}; expected '90', '80' or '50'")
        found = []
        for value in inputs:
            if isinstance(value, str):
                header = header_of(value, self.codec.layout)
                if header is not None:
                    self._names = header
                    continue
            answer = self._answer(value, interval)
            found.append({"error": answer} if isinstance(answer, str) else answer)
        return found

    def quantiles(self, frame: Frame, rows: npt.NDArray[np.int64]) -> Floats:
        """Of the rows ahead of some ascending rows of a frame, in the values' own units, `(N, h, M, Q)`."""
        codec = self.codec
        scale, M = codec.scale(frame.name), codec.targets
        q = self._over(encode(frame, codec), scale.deviation[:M], rows)
        q = q * scale.deviation[:M, None] + scale.mean[:M, None]
        return np.asarray(np.maximum(q, 0.0) if codec.counts else q)

    def _over(self, numbers: Numbers, unit: Floats, rows: npt.NDArray[np.int64]) -> Floats:
        """The layers over all rows; quantiles after some, scaled `(N, h, M, Q)`."""
        codec, readout = self.codec, self.readout
        x, since, known, ahead = (np.asarray(part, np.float32)[:, None] for part in numbers)
        window = np.full((readout.weight.shape[2], 1, codec.channels), np.nan, np.float32)
        state, found = None, []
        for first in range(0, len(x), AT_ONCE):
            own = slice(first, first + AT_ONCE)
            filled, before = forward_filled(x[own], window[-1])
            e = readout.inputs(x[own], filled, before, since[own], known[own])
            given = (e, ahead[own, :, : self.inputs[1].shape[0]]) if len(self.inputs) > 1 else (e,)
            o, state = self.run(*given, state=state)
            past = np.concatenate((window, filled))
            wanted = rows[(rows >= first) & (rows < first + len(e))] - first
            loc, shape = readout.read_out(o, past)
            q = readout.quantiles(loc[wanted], shape[wanted], unit)
            found.append(q.reshape(len(wanted), -1, codec.targets, q.shape[-1]))
            window = past[len(e) :]
        return np.concatenate(found).astype(np.float64)

    def _answer(self, value: Any, interval: str) -> dict[str, Any] | str:
        try:
            if isinstance(value, str):
                if not value.strip() and len(self._names) > 1:
                    return "empty row"
                return self._row(row_of(as_cells(value, self._names), self.codec), interval)
            if isinstance(value, Mapping):
                return self._row(row_of(value, self.codec), interval)
        except BadRowError as error:
            return str(error)
        frame = value if isinstance(value, Frame) else self._frame(value)
        return frame if isinstance(frame, str) else self._series(frame, interval)

    def _row(self, row: Row, interval: str) -> dict[str, Any]:
        if row.series not in self._lives:
            self._lives[row.series] = _Stepped(self, row.series, row.static)
        live = self._lives[row.series]
        score = live.take(row)
        if self.target == "anomalies":
            names = self.codec.layout.channels[: self.codec.targets]
            return score_of(score, self.threshold, row.values[: len(names)].tolist(), names)
        q = live.forecast(live.quantiles())
        return forecast_of(self.codec, row.series, row.time, q, self.codec.clock, interval)

    def _frame(self, values: Any) -> Frame | str:
        rows = rows_in(values)
        if isinstance(rows, str):
            return rows
        step = self.codec.step
        times = np.array([step.after(0.0, i) for i in range(len(rows))])
        return Frame("", rows, times, np.ones(len(rows)), step, self.codec.clock, [None] * len(rows))

    def _series(self, frame: Frame, interval: str) -> dict[str, Any] | str:
        codec = self.codec
        if frame.values.shape[1] != len(codec.layout.channels):
            return f"{frame.values.shape[1]} channels; the model has {len(codec.layout.channels)}"
        known = np.flatnonzero(~np.isnan(frame.values[:, : codec.targets]).all(axis=1))
        if not len(known):
            return "no values"
        if self.target == "anomalies":
            return "a series by itself has no score; give its rows"
        q = self.quantiles(frame, known[-1:])[0]
        last = float(frame.times[known[-1]]) if codec.layout.time and frame.step.kind != "rows" else None
        return forecast_of(codec, frame.name, last, q, frame.clock, interval)


class _Stepped(Following):
    """A series as it comes, on a stream of the frozen layers."""

    def __init__(self, model: SeriesForecaster, name: str, static: Mapping[str, Any]) -> None:
        self.model = model
        super().__init__(model.codec, name, static, model.threshold)

    def restart(self) -> None:
        """A stream anew."""
        readout = self.model.readout
        self.stream = self.model.stream(1)
        self.window = np.full((readout.weight.shape[2], 1, self.codec.channels), np.nan, np.float32)

    def advance(self, x: Floats, since: Floats, known: Floats) -> None:
        """One step."""
        readout = self.model.readout
        one, passed, ahead = (np.asarray(v, np.float32)[None, None] for v in (x, since, known))
        filled, before = forward_filled(one, self.window[-1])
        e = readout.inputs(one, filled, before, passed, ahead)[0]
        # What is known of the rows ahead is not, as rows come: its mean is taken.
        more = [np.zeros((1, *a.shape), np.float32) for a in self.model.inputs[1:]]
        o = self.stream(e, *more)
        past = np.concatenate((self.window, filled))
        self.loc, self.shape = readout.read_out(o[None], past)
        self.window = past[1:]

    def quantiles(self) -> Floats:
        """Of the rows ahead, scaled."""
        unit = self.scale.deviation[: self.codec.targets]
        q = self.model.readout.quantiles(self.loc, self.shape, unit)[0, 0].astype(np.float64)
        return np.asarray(q.reshape(-1, self.codec.targets, q.shape[-1]))


class _Reading(NamedTuple):
    each: str
    differences: bool
    frames: int


class SeriesClassifier(Frozen):
    """A classifier of whole series with its labels."""

    def __init__(self, source: str | bytes | Frozen) -> None:
        super().__init__(source)
        self.codec = CaseCodec.from_json(json.loads(_text(self, "codec")))
        self.how = _Reading(**json.loads(_text(self, "reading")))

    def predict(self, cases: Sequence[Any]) -> list[dict[str, Any]]:
        """The class of each case, as `elman predict --json` has it: an array `(T,)` or `(T, C)`, or a line of numbers.

        What cannot be answered has an "error".
        """
        read = [case_of(value, len(self.codec.mean), self.how) for value in cases]
        good = [case for case in read if not isinstance(case, str)]
        found = iter(self.probabilities([numbers_of(case, self.codec, self.how) for case in good]))
        names = self.codec.labels.names
        answers: list[dict[str, Any]] = []
        for case in read:
            if isinstance(case, str):
                answers.append({"error": case})
                continue
            p = next(found)
            shown = {name: round(float(value), 6) for name, value in zip(names, p, strict=True)}
            answers.append({"label": names[int(np.argsort(-p, kind="stable")[0])], "probabilities": shown})
        return answers

    def probabilities(self, numbers: Sequence[npt.NDArray[np.float32]]) -> Floats:
        """p `(N, K)`."""
        found = np.zeros((len(numbers), len(self.codec.labels.names)))
        order = np.argsort([len(rows) for rows in numbers], kind="stable")
        for first in range(0, len(numbers), CASES):
            own = order[first : first + CASES]
            lengths = np.array([len(numbers[i]) for i in own], dtype=np.int64)
            x = np.zeros((int(lengths.max()), len(own), self.codec.width), np.float32)
            for place, i in enumerate(own):
                x[: lengths[place], place] = numbers[i]
            logits = self.run(x, lengths=lengths).y.astype(np.float64)
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            found[own] = p / p.sum(axis=1, keepdims=True)
        return found
