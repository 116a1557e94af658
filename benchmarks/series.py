"""Series: forecasts, classes, gaps and anomalies from their configurations: `python -m benchmarks.series [NAME ...]`.

The data stand in the wheels of two packages, which are unpacked and not installed (their dependencies take numpy down):

    pip download --no-deps statsmodels aeon -d wheels
    for wheel in wheels/*.whl; do python -m zipfile -e $wheel DATA; done

and DATA is named by `--data`, else by the environment's ELMAN_SERIES. Each seed is a training of its own by `elman
train series`, which reads the test part once, at its end; one that stands in the folder of `--runs` is not done again.
`stream` times one row through a stream of a GRU-D of 64 units. Written (`--out`) are a page and its numbers.
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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.injected import inject, waves, write
from benchmarks.pairing import machine
from elman.cli import run as elman

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
STATSMODELS, AEON = "statsmodels/datasets", "aeon/datasets/data"
WAYS = {
    "GRU-D": ["--cell", "gru-d"],
    "mean": ["--cell", "gru", "--gaps", "mean"],
    "forward": ["--cell", "gru", "--gaps", "forward"],
}
CLASSES = {"BasicMotions": 0.98, "GunPoint": 0.975, "ItalyPowerDemand": 0.955, "JapaneseVowels": 0.98}


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


def removed(values: np.ndarray[Any, Any], manner: str, seed: int) -> np.ndarray[Any, Any]:
    """The same with 30 % of the values missing: at random, or in blocks of 20."""
    draw = np.random.default_rng([seed, 2])
    found = values.copy()
    if manner == "random":
        found[draw.random(len(values)) < 0.3] = np.nan
        return found
    while np.isnan(found).mean() < 0.3:
        start = int(draw.integers(len(values) - 20))
        found[start : start + 20] = np.nan
    return found


def plain(data: Path, name: str) -> np.ndarray[Any, Any]:
    """The values of a series without its times."""
    if name == "pressure":
        path = data / AEON / "KDD-TSAD_135/135_UCR_Anomaly_InternalBleeding16_TRAIN.csv"
        return np.array([float(row["value"]) for row in csv.DictReader(path.open(encoding="utf-8"))])
    path = data / STATSMODELS / name / f"{name}.csv"
    rows = list(csv.reader(path.open(encoding="utf-8")))[1:]
    return np.array([float(value) for row in rows for value in row[1:]])


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
    """Three series with values removed, by three ways to read them."""
    for name in ("sunspots", "elnino", "pressure"):
        values = plain(data, name)
        for manner in ("random", "blocks"):
            for seed in range(1, seeds + 1):
                path = made / f"{name}-{manner}-{seed}.csv"
                rows = ["" if np.isnan(v) else f"{v:.6g}" for v in removed(values, manner, seed)]
                path.write_text(
                    "\n".join(["t,value", *(f"{t},{v}" for t, v in enumerate(rows)), ""]), encoding="utf-8"
                )
                for way, flags in WAYS.items():
                    yield Run(f"{name}, {manner}: {way}", "gaps", ["--data", str(path), *flags], seed)


def anomalies(data: Path, made: Path, seeds: int) -> Iterator[Run]:
    """Two clean series, and anomalies injected behind them."""
    for name in ("waves", "pressure"):
        for seed in range(1, seeds + 1):
            values = waves(4000, seed) if name == "waves" else plain(data, name)
            cut = round(0.6 * len(values))
            clean, held = made / f"{name}-{seed}.csv", made / f"{name}-{seed}-injected.csv"
            write(clean, values[:cut], np.zeros(cut, dtype=np.int64))
            write(held, *inject(values[cut:], seed), first=cut)
            season = {"waves": 24, "pressure": 1}[name]
            paths = ["--data", str(clean), "--test", str(held), "--season", str(season)]
            yield Run(f"{name}, injected", "anomalies", paths, seed)


SUITES = {"forecasts": forecasts, "classes": classes, "anomalies": anomalies, "gaps": gaps}


# Training and reading


def train(run: Run, runs: Path, made: Path, data: Path) -> Result:
    """A run: as it stands in its folder, or trained now."""
    folder = _folder(run, runs)
    log = folder.with_suffix(".log")
    if not _is_done(run, runs):
        config = f"configs/series/{run.config}.toml"
        log.parent.mkdir(parents=True, exist_ok=True)
        flags = [*run.flags, "--seed", str(run.seed), "--threads", "1", "--run", str(folder), "--overwrite"]
        with log.open("w", encoding="utf-8") as file, contextlib.redirect_stderr(file):
            code = elman(["train", "series", "--config", str(ROOT / config), *flags])
        if code:
            raise RuntimeError(log.read_text(encoding="utf-8"))
    score = json.loads((folder / "scores.json").read_text())["test"]
    beside = json.loads((folder / "baselines.json").read_text())
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    said = log.read_text(encoding="utf-8") if log.is_file() else ""
    for path, word in ((data, "DATA"), (made, "MADE"), (runs, "RUNS")):
        said = said.replace(str(path.resolve()), word).replace(str(path), word)
    lines = [line for line in said.splitlines() if line.strip() and not re.match(r"\s*\d+%|epoch \d", line)]
    baselines = {known["baseline"]: known["value"] for known in beside if known["part"] == "test"}
    return Result(
        run.name,
        run.seed,
        score["name"],
        score["value"],
        score["figures"],
        baselines,
        events[-1]["seconds"],
        lines,
    )


def _folder(run: Run, runs: Path) -> Path:
    slug = re.sub(r"[^\w-]+", "-", run.name).lower()
    return runs / f"{slug}-{run.seed}"


def _is_done(run: Run, runs: Path) -> bool:
    return (_folder(run, runs) / "scores.json").is_file()


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
    said = ", ".join(f"{name} {value}" for name, value in conditions.items())
    pieces = [f"# Series\n\n    python -m benchmarks.series\n\n{said}\n"]
    for suite, results in found.items():
        pieces.append(f"## {suite}\n\n{table(results)}\n")
    if stream:
        rows = "\n".join(f"| {name} | {value} |" for name, value in stream.items())
        pieces.append(
            f"## stream\n\nMicroseconds for one row, GRU-D of 64 units, one thread.\n\n| | us |\n|---|--:|\n{rows}\n"
        )
    pieces.append("# Lines of each run\n")
    for results in found.values():
        for one in results:
            body = "\n".join(f"    {line}" for line in one.lines)
            pieces.append(f"## {one.name}, seed {one.seed}\n\n{body}\n")
    return "\n".join(pieces)


def table(results: Sequence[Result]) -> str:
    """A row for each name: the mean over the seeds, the spread, the baselines."""
    groups: dict[str, list[Result]] = {}
    for one in results:
        groups.setdefault(one.name, []).append(one)
    names = "| data | measure | mean | least | most | deviation | MAE | beside it | seeds | seconds a run |"
    head = f"{names}\n|---|---|--:|--:|--:|--:|--:|---|--:|--:|"
    return "\n".join([head, *(_row(name, own) for name, own in groups.items())])


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
    for suite, runs in SUITES.items():
        for run in runs(options.data, made, options.seeds) if suite in names else ():
            if options.only not in run.name or (options.done and not _is_done(run, options.runs)):
                continue
            one = train(run, options.runs, made, options.data)
            found.setdefault(suite, []).append(one)
            print(f"{one.name}, seed {one.seed}: {one.metric} {one.value:.4f}", flush=True)
    stream = streamed() if "stream" in names else {}
    conditions = machine()
    written = page(found, stream, conditions)
    print(written.split("\n# Lines", maxsplit=1)[0])
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "series.md").write_text(written, encoding="utf-8")
        numbers = {suite: [one._asdict() for one in own] for suite, own in found.items()}
        whole = {
            "date": datetime.now(UTC).date().isoformat(), "conditions": conditions, "results": numbers,
            "stream": stream,
        }  # fmt: skip
        text = json.dumps(whole, indent=1, ensure_ascii=False)
        (options.out / "series.json").write_text(text + "\n", encoding="utf-8")
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.series",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", nargs="*", choices=[*SUITES, "stream", []], help="which suites (default: all)"
    )
    where = os.environ.get("ELMAN_SERIES")
    parser.add_argument("--data", type=Path, default=Path(where) if where else None)
    parser.add_argument("--done", action="store_true", help="train nothing: show the runs that are there")
    parser.add_argument("--only", default="", help="only runs with this text in their names")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "series", help="folder of the runs")
    parser.add_argument(
        "--out", type=Path, nargs="?", const=RESULTS, help="write the page and its numbers there"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
