"""The task: `elman train series --target forecast | classify | anomalies`, and what runs of it can do."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.config import UserError
from elman.data.inputs import Item
from elman.data.series import Frame
from elman.data.series.encoded import case_of, numbers_of
from elman.files import write_bytes
from elman.page import Section
from elman.tasks import verbs
from elman.tasks.base import Answer, Baseline, Batches, Task, Trained, Verb
from elman.tasks.series import answers
from elman.tasks.series.answers import Evaluate, Predict
from elman.tasks.series.branches import Anomalies, Branch, Forecasts, scored
from elman.tasks.series.classes import CaseCodec, Classes, class_answer, probabilities
from elman.tasks.series.drawing import drawing_of
from elman.tasks.series.inspection import InsideCases, InsideSeries
from elman.tasks.series.live import BadRowError, Live, Row, as_cells, row_of
from elman.tasks.series.panel import Codec
from elman.tasks.series.settings import Config
from elman.training.run import Run
from elman.training.score import Score, number

if TYPE_CHECKING:
    from elman.plots import ModelDrawing
    from elman.training.loop import Measure, StepLoss

__all__ = ["SeriesTask", "TrainedSeries"]


BRANCHES: dict[str, Branch] = {"forecast": Forecasts(), "classify": Classes(), "anomalies": Anomalies()}


class TrainedSeries(Trained):
    """A model of series from a run folder: `predict`, `evaluate`, `model`."""

    @property
    def branch(self) -> Branch:
        """What its target says."""
        return BRANCHES[self.config.data.target]

    def examples(self, settings: Any) -> Any:
        """What is measured on; other files are judged by the `--on-bad` that is given beside them."""
        if not settings.data:
            return super().examples(settings)
        data = replace(self.config.data, on_bad=settings.on_bad)
        return self.read(settings.data, replace(self.config, data=data))

    def measured(self, settings: Any) -> Score:
        """What `elman evaluate` finds, with an interval."""
        part = self.examples(settings)
        return self.branch.measure(self.model, self.codec, part, self.config, interval=True)

    def in_words(self, score: Score) -> str:
        """The measure with its interval, and the others."""
        whole = ("origins", "windows", "cases")
        others = [
            f"{name.replace('_', ' ')} {value:,}"
            if name in whole
            else f"{name.replace('_', ' ')} {number(value)}"
            for name, value in score.figures.items()
            if isinstance(value, int | float)
        ]
        return f"{score}, {', '.join(others)}"

    # Predicting

    def predict(self, inputs: Any, **settings: Any) -> Any:
        """Rows as lines of text, from the beginning of a series on; series as lists of numbers, each by itself."""
        if self.config.data.target == "classify":
            return self._cases(inputs, settings)
        self.begin()
        if (
            isinstance(inputs, Sequence)
            and not isinstance(inputs, str)
            and inputs
            and not isinstance(inputs[0], str)
        ):
            one = not isinstance(inputs[0], Sequence | np.ndarray)
            found = super().predict([inputs] if one else inputs, **settings)
            return found[0] if one else found
        return super().predict(inputs, **settings)

    def _cases(self, inputs: Any, settings: dict[str, Any]) -> Any:
        """One case, or a list of them: arrays `(T,)` or `(T, C)`, or lines of numbers."""
        one = isinstance(inputs, str | np.ndarray)
        found = super().predict([inputs] if one else list(inputs), **settings)
        return found[0] if one else found

    def begin(self, history: str = "") -> None:
        """Forget all rows that came; history: a table whose rows have been before."""
        self._lives: dict[str, Live] = {}
        self.kept: list[tuple[str, Answer | str]] = []
        if history:
            part = self.read((history,), self.config)
            for frame in part.frames:
                for values, time in zip(frame.values, frame.times.tolist(), strict=True):
                    stamp = time if self.codec.layout.time and self.codec.step.kind != "rows" else None
                    self._taken(Row(frame.name, stamp, values, frame.static))

    def inputs(self, settings: Predict) -> Iterator[list[Item]]:
        """Rows as they come, or series of files."""
        data = self.config.data
        if data.target == "classify":
            return answers.cases_of_files(settings, data, self.codec)
        if answers.by_rows(settings, data.target):
            return answers.rows_of_files(settings, data, self.codec)
        return answers.frames_of_files(settings, data, self.codec)

    def answers(self, items: Sequence[Item], settings: Any) -> list[Answer | str]:
        """An answer to each item; kept where a table is wanted."""
        found = super().answers(items, settings)
        if settings.to:
            self.kept += [(item.place, one) for item, one in zip(items, found, strict=True)]
        return found

    def answer(self, values: Sequence[Any], settings: Predict) -> Iterator[Answer | str]:
        """A forecast, a score or a class for each."""
        if self.config.data.target == "classify":
            yield from self._classes(values)
            return
        for value in values:
            if isinstance(value, Frame):
                yield self._series(value, settings)
            elif isinstance(value, str | tuple):
                line, names = value if isinstance(value, tuple) else (value, self.codec.layout.order)
                yield self._row(line, names, settings)
            else:
                frame = answers.frame_of(value, self.codec)
                yield frame if isinstance(frame, str) else self._series(frame, settings)

    def _classes(self, values: Sequence[Any]) -> Iterator[Answer | str]:
        """The class of each case: a `Case`, a line of numbers, or an array `(T,)` or `(T, C)`."""
        cases = [case_of(value, len(self.codec.mean), self.config.data) for value in values]
        good = [case for case in cases if not isinstance(case, str)]
        numbers = [numbers_of(case, self.codec, self.config.data) for case in good]
        found = iter(probabilities(self.model, numbers) if numbers else ())
        for case in cases:
            yield case if isinstance(case, str) else class_answer(self.codec.labels, next(found))

    def _series(self, frame: Frame, settings: Predict) -> Answer | str:
        """The forecast behind the last row of a frame in which a target was seen."""
        from elman.tasks.series.learning import frame_forecasts

        channels = len(self.codec.layout.channels)
        if frame.values.shape[1] != channels:
            return f"{frame.values.shape[1]} channels; the model has {channels}"
        known = np.flatnonzero(~np.isnan(frame.values[:, : self.codec.targets]).all(axis=1))
        if not len(known):
            return "no values"
        if self.config.data.target == "anomalies":
            return "a series by itself has no score; give its rows"
        row = int(known[-1])
        q = frame_forecasts(self.model, self.codec, frame, self.config, np.array([row]))[0]
        last = float(frame.times[row]) if self.codec.layout.time and frame.step.kind != "rows" else None
        return answers.forecast_answer(self.codec, frame.name, last, q, frame.clock, settings)

    def _row(self, line: str, names: Sequence[str], settings: Predict) -> Answer | str:
        if not line.strip() and len(names) > 1:
            return "empty row"
        try:
            row = row_of(as_cells(line, names), self.codec)
            ends = self.codec.ends.get(row.series)
            if settings.new and row.time is not None and ends is not None and row.time <= ends:
                self._taken(row)
                return "not new"
            live, score = self._taken(row)
        except BadRowError as error:
            return str(error)
        if self.config.data.target == "anomalies":
            names = self.codec.layout.channels[: self.codec.targets]
            return scored(score, float(self.model.threshold), row.values[: len(names)].tolist(), names)
        return answers.forecast_answer(
            self.codec, row.series, row.time, self._ahead(live), self.codec.clock, settings
        )

    def _taken(self, row: Row) -> tuple[Live, float]:
        """The stream of the row's series with the row read, and the row's score."""
        if row.series not in self._lives:
            self._lives[row.series] = Live(self.model, self.codec, row.series, row.static)
        live = self._lives[row.series]
        return live, live.take(row)

    def _ahead(self, live: Live) -> Any:
        """Quantiles of the rows ahead, in the values' own units."""
        from elman.tasks.series.paths import quantiles_of, sample_paths

        M, scale = self.codec.targets, live.scale
        if self.config.model.ahead == "steps":
            unit = scale.deviation[:M]
            paths = sample_paths(
                self.model, self.codec, [live.state], live.ahead()[None], unit, self.config.model.paths
            )
            q = quantiles_of(paths)[0]
        else:
            q = live.quantiles()
        return live.forecast(q)

    def inside(self) -> InsideSeries | InsideCases:
        """Row by row."""
        return InsideCases(self) if self.config.data.target == "classify" else InsideSeries(self)

    def sections(self, examples: Any) -> Iterable[Section]:
        """Pictures."""
        return self.branch.sections(self, examples)


def predict(trained: TrainedSeries, settings: Predict) -> Iterator[str]:
    """Answer each input with a line, in order; then the table, where one is asked for."""
    trained.begin(settings.history)
    yield from verbs.predict(trained, settings)
    if settings.to:
        write_bytes(Path(settings.to), answers.table_of_answers(trained.kept).encode())
        sys.stderr.write(f"table: {settings.to}\n")


class SeriesTask(Task):
    """Measured series."""

    settings = Config
    trained = TrainedSeries

    def verbs(self) -> dict[str, Verb]:
        """Those of all tasks; evaluate and predict have flags of their own."""
        own = Verb(Predict, "Forecast, classify or score: rows as they come, or whole files.", predict)
        shared = super().verbs()
        return {**shared, "evaluate": shared["evaluate"]._replace(settings=Evaluate), "predict": own}

    def settle(self, config: Config) -> Config:
        """Paths made absolute."""
        data = config.data
        paths: dict[str, Any] = {
            name: tuple(str(Path(path).absolute()) for path in getattr(data, name))
            for name in ("train", "valid", "test")
        }
        return replace(config, data=replace(data, **paths))

    def prepare(self, config: Config, codec: Any) -> Any:
        """Read and divide the data."""
        return BRANCHES[config.data.target].prepare(config, codec)

    def codec(self, run: Run) -> Any:
        """Columns, scaling, the linear map; or classes."""
        try:
            saved = run.read_json("codec.json")
            kind: Any = CaseCodec if saved["target"] == "classify" else Codec
            return kind.from_json(saved)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{run.path / 'codec.json'} is damaged ({error!r}); bring it back or train anew"
            ) from None

    def model(self, config: Config, codec: Any) -> Any:
        """The network."""
        return BRANCHES[config.data.target].model(config, codec)

    def batches(self, config: Config, prepared: Any) -> tuple[Batches, int]:
        """Pieces of series, or cases of like lengths."""
        return BRANCHES[config.data.target].batches(config, prepared)

    def loss(self, model: Any, batch: Any, state: Any, config: Config) -> StepLoss:
        """The mean over what was observed."""
        from elman.training.loop import StepLoss

        total, count = BRANCHES[config.data.target].loss(model, batch)
        return StepLoss(total / max(count, 1), float(total.detach()), max(count, 1), (), count)

    def progress(self, codec: Any) -> Measure:
        """The loss as it is."""
        from elman.training.loop import Measure

        return Measure("loss", float, "values")

    def measure(self, model: Any, codec: Any, examples: Any, config: Config) -> Score | None:
        """MASE, accuracy or F1."""
        if examples is None:
            return None
        model.eval()
        return BRANCHES[config.data.target].measure(model, codec, examples, config, interval=False)

    def read(self, paths: tuple[str, ...], config: Config, codec: Any) -> Any:
        """Other files."""
        return BRANCHES[config.data.target].read(paths, config, codec)

    def baselines(self, config: Config, prepared: Any) -> Iterator[Baseline]:
        """Simple rules on the same parts."""
        return BRANCHES[config.data.target].baselines(config, prepared)

    def describe(self, trained: TrainedSeries, *, steps: int) -> ModelDrawing:
        """One stack."""
        return drawing_of(trained, steps=steps)

    def leaves(self, trained: TrainedSeries) -> dict[str, str]:
        """Columns, scaling, and what stands around the layers; or classes."""
        config, codec = trained.config, json.dumps(trained.codec.to_json())
        texts = {"task": "series", "target": config.data.target, "codec": codec}
        if config.data.target == "classify":
            reading = {name: getattr(config.data, name) for name in ("each", "differences", "frames")}
            return {**texts, "reading": json.dumps(reading)}
        if config.model.ahead == "steps":
            raise UserError(
                f"{trained.run.path} forecasts by paths that torch draws (--ahead steps), which a frozen model "
                f"cannot do; train with --ahead direct"
            )
        model, linear = trained.model, trained.model.linear
        arrays = {
            "weight": linear.weight,
            "bias": linear.bias,
            "spread": linear.spread,
            "change": model.change,
        }
        arrays["theta"] = getattr(model.outlook, "theta", linear.spread.new_zeros(0))
        known = {"gaps": model.gaps, "relative": linear.relative, "outlook": config.model.outlook}
        known["threshold"] = float(model.threshold)
        known |= {name: array.tolist() for name, array in arrays.items()}
        return {**texts, "forecaster": json.dumps(known)}

    def closing(self, trained: TrainedSeries) -> list[str]:
        """How to go on."""
        path = trained.run.path
        word = {"forecast": "forecast", "anomalies": "score rows", "classify": "classify"}
        return [f"the run is in {path}; {word[trained.config.data.target]}: elman predict {path} FILE"]
