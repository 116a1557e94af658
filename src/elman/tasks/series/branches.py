"""The three targets, each with the same questions: what is read, learnt, measured and answered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from elman.page import Section
from elman.runtime.following import score_of
from elman.tasks.base import Answer, Baseline, Batches
from elman.tasks.series import anomalies, learning, panel, scores, sections
from elman.tasks.series.learning import Pieces
from elman.tasks.series.panel import Codec, Panel, Part
from elman.tasks.series.settings import Config
from elman.training.score import Score

if TYPE_CHECKING:
    from elman.nn import Forecaster

__all__ = ["Anomalies", "Branch", "Forecasts"]

Floats = npt.NDArray[np.float64]


class Branch:
    """What a target says; the task asks the one that its settings name."""

    items = "values"

    def prepare(self, config: Config, codec: Any) -> Any:
        """The data, read and divided."""
        raise NotImplementedError

    def model(self, config: Config, codec: Any) -> Any:
        """The network."""
        raise NotImplementedError

    def batches(self, config: Config, prepared: Any) -> tuple[Batches, int]:
        """The training batches, and how many are an epoch."""
        raise NotImplementedError

    def loss(self, model: Any, batch: Any) -> tuple[Any, int]:
        """The summed loss, and over how many it is."""
        raise NotImplementedError

    def measure(self, model: Any, codec: Any, part: Any, config: Config, *, interval: bool) -> Score:
        """How good a model is on a part."""
        raise NotImplementedError

    def baselines(self, config: Config, prepared: Any) -> Iterator[Baseline]:
        """Simple rules on the same parts."""
        raise NotImplementedError

    def read(self, paths: tuple[str, ...], config: Config, codec: Any) -> Any:
        """A part from other files."""
        raise NotImplementedError

    def sections(self, trained: Any, part: Any) -> Iterable[Section]:
        """The branch's own part of the report."""
        raise NotImplementedError


class Forecasts(Branch):
    """The next values."""

    def prepare(self, config: Config, codec: Codec | None) -> Panel:
        """Series divided by time."""
        return panel.prepare(config, codec)

    def model(self, config: Config, codec: Codec) -> Forecaster:
        """The forecaster."""
        return learning.build_forecaster(config, codec)

    def batches(self, config: Config, prepared: Panel) -> tuple[Batches, int]:
        """Pieces drawn anywhere in the training rows."""
        pieces = Pieces(config, prepared)
        return pieces, len(pieces)

    def loss(self, model: Forecaster, batch: Any) -> tuple[Any, int]:
        """Of the values that were observed."""
        return learning.loss_of(model, batch)

    def origins(self, model: Forecaster, codec: Codec, part: Part, config: Config) -> learning.Origins:
        """The backtest: forecasts from every row of a part."""
        rows = learning.origins_of(part, codec.horizon, config.data.stride)
        return learning.forecasts(model, codec, part, config, rows)

    def measure(self, model: Any, codec: Codec, part: Part, config: Config, *, interval: bool) -> Score:
        """MASE and the others."""
        found = self.origins(model, codec, part, config)
        return scores.forecast_score(codec, part, found, interval=interval)

    def baselines(self, config: Config, prepared: Panel) -> Iterator[Baseline]:
        """Seasonal naive and a ridge map."""
        return scores.forecast_baselines(prepared, config.data.stride)

    def read(self, paths: tuple[str, ...], config: Config, codec: Codec) -> Part:
        """Other series."""
        return panel.read_part(paths, config.data, codec)

    def sections(self, trained: Any, part: Part) -> Iterator[Section]:
        """Pictures, and the error by rows ahead."""
        found = self.origins(trained.model, trained.codec, part, trained.config)
        return sections.forecast_sections(trained.codec, part, found)


class Anomalies(Forecasts):
    """What is out of the ordinary: the forecaster, and a threshold from clean validation rows."""

    def measure(self, model: Any, codec: Codec, part: Part, config: Config, *, interval: bool) -> Score:
        """Of marked rows the F1 of windows, else the CRPS of the forecasts; on validation rows the threshold is set."""
        if part.name == "valid":
            plain = anomalies.frame_scores(model, codec, part)
            limit = anomalies.clean_threshold(plain, part, codec.lags, config.data.false_alarms)
            model.threshold.fill_(limit)
        found = anomalies.part_scores(model, codec, part)
        truth = anomalies.marks_of(part)
        if truth is not None and part.name != "valid":
            answers = anomalies.marked(found, float(model.threshold))
            own = scores.score_marks(truth, answers, config.data.window, threshold=float(model.threshold))
            return own if interval else own._replace(interval=None)
        rows = learning.origins_of(part, codec.horizon, config.data.stride)
        forecast = learning.forecasts(model, codec, part, config, rows)
        score = scores.forecast_score(codec, part, forecast, interval=interval)
        flagged = np.concatenate(anomalies.marked(found, float(model.threshold)))
        figures = {**score.figures, "flagged": float(flagged.mean()), "threshold": float(model.threshold)}
        return score._replace(figures=figures)

    def baselines(self, config: Config, prepared: Panel) -> Iterator[Baseline]:
        """A moving z-score where rows are marked; of forecasts as for forecasts."""
        test = prepared.part("test")
        by_marks = test is not None and anomalies.marks_of(test) is not None
        for known in scores.forecast_baselines(prepared, config.data.stride):
            if not (known.part == "test" and by_marks):
                yield known
        yield from anomalies.marks_baselines(prepared, config.data.window, config.data.false_alarms)

    def sections(self, trained: Any, part: Part) -> Iterator[Section]:
        """The series with what is marked and flagged, and the scores."""
        found = anomalies.part_scores(trained.model, trained.codec, part)
        return sections.anomaly_sections(trained.codec, part, found, float(trained.model.threshold))


def scored(score: float, threshold: float, row: Sequence[float], names: Sequence[str]) -> Answer | str:
    """The answer to a row: its score, and whether it is out of the ordinary."""
    data = score_of(score, threshold, row, names)
    shown = "-" if data["score"] is None else f"{score:.3f}{' anomaly' if data['anomaly'] else ''}"
    return Answer(shown, data)
