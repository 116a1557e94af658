"""The report's own part: past, fan and truth; marked stretches; errors by rows ahead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elman.data.series.stamps import written
from elman.metrics import confusion, mean_of_known, per_class
from elman.page import Band, Line, Section, figure, line_chart, matrix, paragraph, table
from elman.page.chart import COLOURS
from elman.tasks.series.learning import Origins
from elman.tasks.series.panel import Codec, Part
from elman.tasks.series.scores import INSIDE, MEDIAN, naive_of

__all__ = ["anomaly_sections", "class_sections", "fan", "forecast_sections"]

Floats = npt.NDArray[np.float64]
# Pictures, and the rows in one of marks.
SHOWN, STRETCH = 4, 400
BLUE, RED, GREEN, INK = COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[5]


def fan(
    past: Sequence[tuple[float, float]],
    q: Floats,
    truth: Sequence[tuple[float, float]],
    x_name: str,
    y_name: str,
) -> str:
    """A chart of what was known, the quantiles of what was not `(h, Q)` in bands, and what came."""
    x = np.arange(1, len(q) + 1, dtype=np.float64)
    start = past[-1][1] if past and np.isfinite(past[-1][1]) else float(q[0, MEDIAN])
    bands = []
    for name, (a, b) in (("90 %", INSIDE["coverage_90"]), ("50 %", (4, 14))):
        points = [(0.0, start, start), *zip(x.tolist(), q[:, a].tolist(), q[:, b].tolist(), strict=True)]
        bands.append(Band(name, points, BLUE, 0.16 if name == "90 %" else 0.28))
    median = [(0.0, start), *zip(x.tolist(), q[:, MEDIAN].tolist(), strict=True)]
    lines = [Line("before", past, INK), Line("median", median, BLUE)]
    if truth:
        lines.append(Line("truth", truth, RED, dots=len(truth) <= 40))
    return line_chart(lines, x_name, y_name, bands=bands, from_zero=False)


def forecast_sections(codec: Codec, part: Part, found: Origins) -> Iterator[Section]:
    """Some forecasts, the error by rows ahead, and by series."""
    pieces = [_picture(codec, part, found, int(n)) for n in _spread(found)]
    words = "Shaded is where 50 and 90 % of the values should lie; the network had seen the rows up to 0."
    yield Section("Forecasts", "".join([paragraph(words, kind="quiet"), *pieces]))
    naive = naive_of(codec, part)[found.series][:, None, :]
    scaled = np.abs(found.truth - found.q[..., MEDIAN]) / naive
    points = [(k + 1.0, mean_of_known(scaled[:, k])) for k in range(scaled.shape[1])]
    chart = line_chart([Line("MASE", points, dots=True)], "rows ahead", "MASE")
    yield Section(
        "Error by rows ahead", figure(chart, "1 is the error, in training, of the value of a season before.")
    )
    yield Section("Calibration", _reached(found))
    if len(part.frames) > 1:
        yield Section("Series", _by_series(part, found, scaled))


def _spread(found: Origins) -> Any:
    """Origins from the beginning to the end, of several series where there are some."""
    return np.unique(np.linspace(0, len(found.row) - 1, SHOWN).round().astype(int))


def _picture(codec: Codec, part: Part, found: Origins, n: int) -> str:
    frame, row = part.frames[found.series[n]], int(found.row[n])
    h = found.q.shape[1]
    first = max(0, row + 1 - max(4 * h, 2 * codec.season))
    past = [(float(i - row), float(frame.values[i, 0])) for i in range(first, row + 1)]
    truth = [(k + 1.0, float(found.truth[n, k, 0])) for k in range(h) if np.isfinite(found.truth[n, k, 0])]
    name = codec.layout.channels[0]
    when = written(float(frame.times[row]), frame.clock) if codec.layout.time else f"row {row + 1}"
    chart = fan(past, found.q[n, :, 0], truth, f"rows from {when}", f"{frame.name} {name}".strip())
    return figure(chart, f"After {when}{f', {frame.name}' if frame.name else ''}.")


def _reached(found: Origins) -> str:
    """How much of the truth lies below each quantile."""
    known = np.isfinite(found.truth)
    if not known.any():
        return paragraph("No value of this part is known.", kind="quiet")
    levels = [round(0.05 * number, 2) for number in range(1, 20)]
    below = [(levels[i], float((found.truth <= found.q[..., i])[known].mean())) for i in range(len(levels))]
    lines = [
        Line("as it should be", [(0.0, 0.0), (1.0, 1.0)], INK, faint=True),
        Line("this network", below, BLUE, dots=True),
    ]
    return figure(
        line_chart(lines, "quantile", "share of the values below it", from_zero=False),
        "Below the quantile of a level should lie that share of the values.",
    )


def _by_series(part: Part, found: Origins, scaled: Floats) -> str:
    rows = []
    for number, frame in enumerate(part.frames):
        own = scaled[found.series == number]
        if len(own):
            rows.append((frame.name, round(mean_of_known(own), 3), len(own)))
    worst = sorted(rows, key=lambda row: -row[1])[:20]
    return table(["series", "MASE", "origins"], worst)


def anomaly_sections(
    codec: Codec, part: Part, found: Sequence[Floats], threshold: float
) -> Iterator[Section]:
    """Stretches of the series with what is marked and what is flagged, and the scores below them."""
    pieces = []
    for frame, start, end, scores in list(zip(part.frames, part.starts, part.ends, found, strict=True))[
        :SHOWN
    ]:
        pieces += [
            _marks(codec, frame, scores, start, first, min(first + STRETCH, end), threshold)
            for first in _stretches(frame.labels, scores, start, end, threshold)
        ]
    words = "Red bands are rows that the data mark; orange dots are rows that the network flags."
    yield Section("Marked rows", paragraph(words, kind="quiet") + "".join(pieces))


def _stretches(labels: Any, scores: Floats, start: int, end: int, threshold: float) -> list[int]:
    """Where pictures begin: those with the most marks and flags."""
    busy = np.nan_to_num(scores, nan=0.0) > threshold
    if labels is not None:
        busy = busy | (labels[start:end] == 1)
    firsts = list(range(start, end, STRETCH))
    return sorted(sorted(firsts, key=lambda a: -int(busy[a - start : a - start + STRETCH].sum()))[:SHOWN])


def _marks(codec: Codec, frame: Any, scores: Floats, start: int, a: int, b: int, threshold: float) -> str:
    values = frame.values[a:b, 0]
    own = scores[a - start : b - start]
    marks = np.zeros(b - a, dtype=bool) if frame.labels is None else frame.labels[a:b] == 1
    bands = [
        Band(
            "marked" if number == 0 else "",
            [(float(i), -np.inf, np.inf), (float(j), -np.inf, np.inf)],
            RED,
            0.15,
        )
        for number, (i, j) in enumerate(_runs(marks, a))
    ]
    line = Line(codec.layout.channels[0], [(float(a + i), float(v)) for i, v in enumerate(values)], INK)
    flags = [
        Line("flagged" if n == 0 else "", [(float(a + i), float(values[i]))], COLOURS[4], dots=True)
        for n, i in enumerate(np.flatnonzero(np.nan_to_num(own, nan=0.0) > threshold))
        if np.isfinite(values[i])
    ]
    picture = line_chart([line, *flags], "row", codec.layout.channels[0], bands=bands, from_zero=False)
    height = [(float(a + i), float(s)) for i, s in enumerate(own) if np.isfinite(s)]
    limit = Line("threshold", [(float(a), threshold), (float(b - 1), threshold)], RED, faint=True)
    below = line_chart(
        [Line("score", height, BLUE), limit],
        "row",
        "score",
        bands=bands and [Band("", band.points, RED, 0.15) for band in bands],
        from_zero=False,
    )
    return figure(picture + below, f"Rows {a + 1} to {b}{f' of {frame.name}' if frame.name else ''}.")


def _runs(marks: npt.NDArray[np.bool_], first: int) -> list[tuple[float, float]]:
    """The stretches of rows that are marked, from half a row before to half a row behind."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marks.astype(int), [0]])))
    return [(first + a - 0.5, first + b - 0.5) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def class_sections(
    labels: Any, truth: npt.NDArray[np.int64], p: Floats, cases: Sequence[Any]
) -> Iterator[Section]:
    """Each class, confusion, and what was taken for something else with the least doubt."""
    answers = labels.decide(p)
    K = len(labels.names)
    columns = [labels.names, *(column.tolist() for column in per_class(truth, answers, K))]
    yield Section(
        "Classes", table(["class", "precision", "recall", "F1", "cases"], list(zip(*columns, strict=True)))
    )
    counts = confusion(truth, answers, K).tolist()
    yield Section("Confusion", matrix(labels.names, labels.names, counts, "truth \\ answer"))
    wrong = np.flatnonzero(answers != truth)
    worst = sorted(wrong.tolist(), key=lambda i: -p[i].max())[:SHOWN]
    pieces = []
    for i in worst:
        lines = [
            Line(
                f"channel {c + 1}",
                [(float(t), float(v)) for t, v in enumerate(cases[i].values[:, c])],
                COLOURS[c % 6],
            )
            for c in range(min(cases[i].values.shape[1], 6))
        ]
        words = f"{cases[i].place}: {labels.names[truth[i]]}, taken for {labels.names[answers[i]]} ({p[i].max():.2f})."
        pieces.append(figure(line_chart(lines, "step", "value", from_zero=False), words.rsplit("/", 1)[-1]))
    yield Section("Worst errors", "".join(pieces) or paragraph("There are none."))
