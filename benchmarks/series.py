"""Series: forecasts, classes, gaps and anomalies from their configurations: `python -m benchmarks.series [NAME ...]`.

The data stand in the wheels of two packages, which are unpacked and not installed (their dependencies take numpy down):

    pip download --no-deps statsmodels aeon -d wheels
    for wheel in wheels/*.whl; do python -m zipfile -e $wheel DATA; done

and DATA is named by `--data`, else by the environment's ELMAN_SERIES. Each seed is a training of its own by `elman
train series`, which reads the test part once, at its end; one that stands in the folder of `--runs` is not done again.
`stream` times one row through a stream of a GRU-D of 64 units. Written (`--out`) are a page and its numbers; what was
not measured this time stays there as it was, with its day and its machine.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks import trainings
from benchmarks.injected import inject, waves, write
from benchmarks.pairing import machine
from benchmarks.systems import SYSTEMS, Measured
from benchmarks.systems import write as write_columns
from benchmarks.trainings import ROOT
from elman.cli import run as elman

STATSMODELS, AEON = "statsmodels/datasets", "aeon/datasets/data"
WAYS = {
    "GRU-D": ["--cell", "gru-d"],
    "mean": ["--cell", "gru", "--gaps", "mean"],
    "forward": ["--cell", "gru", "--gaps", "forward"],
}
CLASSES = {"BasicMotions": 0.98, "GunPoint": 0.975, "ItalyPowerDemand": 0.955, "JapaneseVowels": 0.98}


PAIRED = """The same values are removed, and the same seed is taken, for all three: the MAE of another way less that
of the GRU-D, seed by seed, its mean and its deviation over the seeds. Raw: the difference of the means is above the
larger of the two deviations of the MAE; in pairs: above the deviation of the differences."""


class Run(NamedTuple):
    """One training: its name, its configuration, further flags, its seed."""

    name: str
    config: str
    flags: list[str]
    seed: int


class Result(NamedTuple):
    """What a run found on its test part: measure, value, others, the baselines in that measure, lines of its log."""

    name: str
    seed: int
    metric: str
    value: float
    figures: dict[str, Any]
    baselines: dict[str, float]
    seconds: float
    lines: list[str]
    measured: str = ""


class Record(NamedTuple):
    """What the page tells: the results of each suite, and the times of the stream."""

    found: dict[str, list[Result]]
    stream: dict[str, float]


# The data of each suite


def monthly(path: Path, to: Path) -> Path:
    """The weekly CO2 of statsmodels as means of months; months without a week are empty."""
    months: dict[str, list[float]] = {}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            own = months.setdefault(f"{row['date'][:4]}-{row['date'][4:6]}", [])
            own += [float(row["co2"])] if row["co2"] else []
    lines = [f"{month},{statistics.fmean(own):.4f}" if own else f"{month}," for month, own in months.items()]
    to.write_text("\n".join(["month,co2", *lines, ""]), encoding="utf-8")
    return to


def removed(values: np.ndarray[Any, Any], manner: str, seed: int, *column: int) -> np.ndarray[Any, Any]:
    """The same `(T,)` with 30 % of the values missing: at random, or in blocks of 20; each column by itself."""
    draw = np.random.default_rng([seed, 2, *column])
    found = values.copy()
    if manner == "random":
        found[draw.random(len(values)) < 0.3] = np.nan
        return found
    while np.isnan(found).mean() < 0.3:
        start = int(draw.integers(len(values) - 20))
        found[start : start + 20] = np.nan
    return found


def pressure(data: Path) -> np.ndarray[Any, Any]:
    """A blood pressure without its times."""
    path = data / AEON / "KDD-TSAD_135/135_UCR_Anomaly_InternalBleeding16_TRAIN.csv"
    return np.array([float(row["value"]) for row in csv.DictReader(path.open(encoding="utf-8"))])


def timed(data: Path, made: Path, name: str) -> tuple[list[str], np.ndarray[Any, Any]]:
    """A series of the forecasts with its own times; El Nino has a year a row."""
    path = data / STATSMODELS / name / f"{name}.csv"
    path = monthly(path, made / "co2.csv") if name == "co2" else path
    rows = list(csv.reader(path.open(encoding="utf-8")))[1:]
    values = np.array([float(value or "nan") for row in rows for value in row[1:]])
    if name != "elnino":
        return [row[0] for row in rows], values
    return [f"{row[0]}-{month:02d}" for row in rows for month in range(1, 13)], values


def forecasts(data: Path, made: Path, seeds: int) -> Iterator[Run]:
    """Sunspots, CO2 and El Nino."""
    folder = data / STATSMODELS
    sets = {
        "sunspots": folder / "sunspots/sunspots.csv",
        "co2": monthly(folder / "co2/co2.csv", made / "co2.csv"),
        "elnino": folder / "elnino/elnino.csv",
    }
    for name, path in sets.items():
        for seed in range(1, seeds + 1):
            yield Run(name, name, ["--data", str(path)], seed)


def classes(data: Path, made: Path, seeds: int) -> Iterator[Run]:
    """Four sets of the UCR and UEA archives, official splits."""
    for name in CLASSES:
        paths = [str(data / AEON / name / f"{name}_{part}.ts") for part in ("TRAIN", "TEST")]
        for seed in range(1, seeds + 1):
            yield Run(name, name.lower(), ["--data", paths[0], "--test", paths[1]], seed)


def gaps(data: Path, made: Path, seeds: int) -> Iterator[Run]:
    """The series of the forecasts with values removed, by three ways to read them."""
    for name in ("sunspots", "co2", "elnino"):
        times, values = timed(data, made, name)
        for manner in ("random", "blocks"):
            for seed in range(1, seeds + 1):
                path = made / f"{name}-{manner}-{seed}.csv"
                rows = ["" if np.isnan(v) else f"{v:.6g}" for v in removed(values, manner, seed)]
                lines = [f"{time},{row}" for time, row in zip(times, rows, strict=True)]
                path.write_text("\n".join(["time,value", *lines, ""]), encoding="utf-8")
                for way, flags in WAYS.items():
                    yield Run(f"{name}, {manner}: {way}", "gaps", ["--data", str(path), *flags], seed)


def systems(data: Path) -> dict[str, Measured]:
    """Series of several columns: accelerations of a walking person, Lorenz's convection, a cascade of tanks."""
    path = data / AEON / "Daphnet_S06R02E0/S06R02E0.csv"
    with path.open(encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    # Without their times, which are 15 or 16 ms apart, and the marks, of which there are none.
    walk = Measured(tuple(names[1:-1]), np.array([[float(value) for value in row[1:-1]] for row in rows]))
    return {"walk": walk, **{name: make(3000, 1) for name, make in SYSTEMS.items()}}


def columns(data: Path, made: Path, seeds: int) -> Iterator[Run]:
    """Series of several columns with values removed from each by itself, by three ways to read them."""
    for name, whole in systems(data).items():
        for manner in ("random", "blocks"):
            for seed in range(1, seeds + 1):
                path = made / f"{name}-{manner}-{seed}.csv"
                own = [removed(column, manner, seed, c) for c, column in enumerate(whole.values.T)]
                write_columns(path, whole._replace(values=np.stack(own, axis=1)))
                for way, flags in WAYS.items():
                    yield Run(f"{name}, {manner}: {way}", "columns", ["--data", str(path), *flags], seed)


def anomalies(data: Path, made: Path, seeds: int) -> Iterator[Run]:
    """Two clean series, and anomalies injected behind them."""
    for name in ("waves", "pressure"):
        for seed in range(1, seeds + 1):
            values = waves(4000, seed) if name == "waves" else pressure(data)
            cut = round(0.6 * len(values))
            clean, held = made / f"{name}-{seed}.csv", made / f"{name}-{seed}-injected.csv"
            write(clean, values[:cut], np.zeros(cut, dtype=np.int64))
            write(held, *inject(values[cut:], seed), first=cut)
            season = {"waves": 24, "pressure": 1}[name]
            paths = ["--data", str(clean), "--test", str(held), "--season", str(season)]
            yield Run(f"{name}, injected", "anomalies", paths, seed)


SUITES = {
    "forecasts": forecasts,
    "classes": classes,
    "anomalies": anomalies,
    "gaps": gaps,
    "columns": columns,
}


# Training and reading


def train(run: Run, runs: Path, made: Path, data: Path) -> Result:
    """A run: as it stands in its folder, or trained now."""
    folder = _folder(run, runs)
    flags = ["--config", str(ROOT / f"configs/series/{run.config}.toml"), *run.flags]
    flags += ["--seed", str(run.seed), "--threads", "1"]
    lines = trainings.trained("series", flags, folder, {"DATA": data, "MADE": made, "RUNS": runs}, _here)
    done = trainings.read(folder)
    return Result(
        run.name,
        run.seed,
        done.score["name"],
        done.score["value"],
        done.score["figures"],
        done.baselines,
        done.seconds,
        [line for line in lines if not re.match(r"epoch \d", line)],
        f"{done.day}, {machine()['processor']}",
    )


def kept(folder: Path | None, found: dict[str, list[Result]], possible: dict[str, set[str]]) -> Record:
    """What was measured now, and from the record in a folder what was not, if there still is such a run."""
    path = None if folder is None else folder / "series.json"
    if path is None or not path.is_file():
        return Record(found, {})
    saved = json.loads(path.read_text(encoding="utf-8"))
    usual = f"{saved['date']}, {saved['conditions']['processor']}"
    whole: dict[str, list[Result]] = {}
    for suite, names in possible.items():
        now = found.get(suite, [])
        here = {one.name for one in now}
        old = [Result(**{"measured": usual, **one}) for one in saved["results"].get(suite, [])]
        whole[suite] = [*now, *(one for one in old if one.name in names - here)]
        whole[suite].sort(key=lambda one: (one.name.split(": ")[0], one.seed))
    return Record({suite: own for suite, own in whole.items() if own}, saved["stream"])


def _here(task: str, flags: Sequence[str], run: Path) -> None:
    """Train in this process: there are hundreds of them, each of some seconds."""
    log = run.with_suffix(".log")
    with log.open("w", encoding="utf-8") as file, contextlib.redirect_stderr(file):
        code = elman(["train", task, *flags, "--run", str(run), "--overwrite"])
    if code:
        raise RuntimeError(log.read_text(encoding="utf-8"))


def _folder(run: Run, runs: Path) -> Path:
    slug = re.sub(r"[^\w-]+", "-", run.name).lower()
    return runs / f"{slug}-{run.seed}"


def streamed(rows: int = 2000) -> dict[str, float]:
    """Microseconds for one row through a stream of a GRU-D of 64 units, one thread: the median of 200 rounds, least."""
    from elman.nn import GRUDCell, Recurrent

    found = {}
    torch.set_num_threads(1)
    for features in (1, 8):
        layer = Recurrent(GRUDCell(features, 64)).eval()
        stream = layer.stream()
        mask = (torch.rand(rows, 1, features) < 0.7).float()
        x = torch.cat((torch.randn(rows, 1, features), mask, torch.rand(rows, 1, features)), dim=-1)
        steps = list(x)
        stream(steps[0])
        times = []
        for number in range(200):
            own = steps[10 * number : 10 * number + 10]
            begun = time.perf_counter()
            for row in own:
                stream(row)
            times.append((time.perf_counter() - begun) / len(own) * 1e6)
        found[f"{features} features, median"] = round(statistics.median(times), 2)
        found[f"{features} features, least"] = round(min(times), 2)
    return found


# The page


def page(found: dict[str, list[Result]], stream: dict[str, float], conditions: dict[str, Any]) -> str:
    """The results as Markdown."""
    said = trainings.stated(conditions)
    pieces = [f"# Series\n\n    python -m benchmarks.series\n\n{said}\n"]
    for suite, results in found.items():
        pieces.append(f"## {suite}\n\n{table(results)}\n")
        if suite in {"gaps", "columns"}:
            pieces.append(f"{PAIRED}\n\n{pairs(results)}\n")
    if stream:
        rows = "\n".join(f"| {name} | {value} |" for name, value in stream.items())
        pieces.append(
            f"## stream\n\nMicroseconds for one row, GRU-D of 64 units, one thread.\n\n| | us |\n|---|--:|\n{rows}\n"
        )
    pieces.append("# Lines of each run\n")
    pieces += trainings.sections(found, lambda _, one: f"{one.name}, seed {one.seed}")
    return "\n".join(pieces)


def table(results: Sequence[Result]) -> str:
    """A row for each name: the mean over the seeds, the spread, the baselines."""
    groups: dict[str, list[Result]] = {}
    for one in results:
        groups.setdefault(one.name, []).append(one)
    names = "| data | measure | mean | least | most | deviation | MAE | beside it | seeds | seconds a run | measured |"
    head = f"{names}\n|---|---|--:|--:|--:|--:|--:|---|--:|--:|---|"
    return "\n".join([head, *(_row(name, own) for name, own in groups.items())])


def pairs(results: Sequence[Result]) -> str:
    """A row for each series and manner: how much more the MAE of the other ways is than that of the GRU-D."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for one in results:
        data, way = one.name.split(": ")
        found.setdefault(data, {}).setdefault(way, {})[one.seed] = one.figures["MAE"]
    head = "| data | against | difference | seeds better | raw | in pairs |\n|---|---|--:|--:|---|---|"
    rows = [
        f"| {data} | {way} | {_against(ways['GRU-D'], ways[way])} |"
        for data, ways in found.items()
        for way in ways
        if way != "GRU-D" and "GRU-D" in ways
    ]
    return "\n".join([head, *rows])


def _against(own: dict[int, float], other: dict[int, float]) -> str:
    seeds = sorted(own.keys() & other.keys())
    differences = [other[seed] - own[seed] for seed in seeds]
    if len(seeds) < 2:
        return f"{statistics.fmean(differences):.4f} | | |"
    mean, spread = statistics.fmean(differences), statistics.stdev(differences)
    widest = max(statistics.stdev([mae[seed] for seed in seeds]) for mae in (own, other))
    better = sum(difference > 0 for difference in differences)
    said = ["yes" if mean > limit else "no" for limit in (widest, spread)]
    return f"{mean:.4f} ± {spread:.4f} | {better} of {len(seeds)} | {said[0]} | {said[1]}"


def _row(name: str, own: Sequence[Result]) -> str:
    values = [one.value for one in own]
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    mae = [one.figures["MAE"] for one in own if "MAE" in one.figures]
    deviation = statistics.stdev(mae) if len(mae) > 1 else 0.0
    beside = ", ".join(
        f"{rule} {statistics.fmean([one.baselines[rule] for one in own]):.4f}" for rule in own[0].baselines
    )
    cells = [
        name,
        own[0].metric,
        f"**{statistics.fmean(values):.4f}**",
        f"{min(values):.4f}",
        f"{max(values):.4f}",
        f"{spread:.4f}",
        f"{statistics.fmean(mae):.4f} ± {deviation:.4f}" if mae else "",
        beside,
        str(len(own)),
        f"{statistics.fmean([one.seconds for one in own]):.0f}",
        own[0].measured,
    ]
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> int:
    """Train what is not trained yet, print and write. Exit code 2: the data are not there."""
    options = _options(arguments)
    names = options.names or [*SUITES, "stream"]
    if any(name in SUITES for name in names) and not (options.data and (options.data / STATSMODELS).is_dir()):
        print(f"no data in {options.data}\n\n{__doc__}", file=sys.stderr)
        return 2
    made = options.runs / "data"
    made.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Result]] = {}
    possible: dict[str, set[str]] = {}
    for suite, runs in SUITES.items():
        for run in runs(options.data, made, options.seeds) if options.data else ():
            possible.setdefault(suite, set()).add(run.name)
            if suite not in names or options.only not in run.name:
                continue
            if options.done and not trainings.is_done(_folder(run, options.runs)):
                continue
            one = train(run, options.runs, made, options.data)
            found.setdefault(suite, []).append(one)
            print(f"{one.name}, seed {one.seed}: {one.metric} {one.value:.4f}", flush=True)
    stream = streamed() if "stream" in names else {}
    measured = machine()
    whole = kept(options.out, found, possible)
    whole = whole._replace(stream=stream or whole.stream)
    written = page(*whole, measured)
    print(written.split("\n# Lines", maxsplit=1)[0])
    parts = {"results": trainings.numbers(whole.found), "stream": whole.stream}
    trainings.record(options.out, "series", written, measured, parts)
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    where, form = os.environ.get("ELMAN_SERIES"), argparse.RawDescriptionHelpFormatter
    made = trainings.parser("series", __doc__, form=form)
    made.set_defaults(data=Path(where) if where else None)
    made.add_argument("names", nargs="*", choices=[*SUITES, "stream", []], help="which suites (default: all)")
    made.add_argument("--only", default="", help="only runs with this text in their names")
    made.add_argument("--seeds", type=int, default=5)
    return made.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
