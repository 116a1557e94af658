"""Run a suite: `python -m benchmarks layers [--only TEXT] [--threads N] [--quick] [--out FOLDER]`.

`python -m benchmarks grid` has options of its own: see its `--help`.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks import generation, layers, streaming
from benchmarks.grid import command as grid
from benchmarks.pairing import AnswersDifferError, Case, Effort, Result, compare, machine, table

SUITES = {"generation": generation, "layers": layers, "streaming": streaming}
RESULTS = Path(__file__).parent / "results"
QUICK = Effort(seconds=0.02, rounds=3, most_rounds=3)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write. Exit code 1: the answers differ (nothing is written), or a promised speed is missed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["grid"]:
        return grid.main(arguments[1:])
    options = _options(arguments)
    suite = SUITES[options.suite]
    torch.set_num_threads(options.threads or suite.THREADS)
    conditions = machine()
    print(", ".join(f"{name} {value}" for name, value in conditions.items()))
    try:
        results = list(_measure(suite.cases(), options.only, QUICK if options.quick else Effort()))
    except AnswersDifferError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    if not results:
        print(f"no case of {options.suite} has {options.only!r} in its name", file=sys.stderr)
        return 2
    print("\n" + table(results))
    if options.out:
        write(options.out, options.suite, suite.__doc__ or "", conditions, results)
    missed = [result.case for result in results if not result.met]
    if missed:
        print(f"below the promised speed: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def _measure(cases: Iterator[Case], only: str, effort: Effort) -> Iterator[Result]:
    """Measure the cases whose name holds `only`, saying each as it is done."""
    for case in cases:
        if only in case.name:
            result = compare(case, effort)
            print(
                f"{result.case}: {result.ours_ms:.3g} ms beside {result.theirs_ms:.3g} ms, x{result.speedup:.2f}",
                flush=True,
            )
            yield result


def write(
    folder: Path, suite: str, what: str, conditions: dict[str, str | int | float], results: list[Result]
) -> None:
    """Write `<suite>.json` and `<suite>.md` into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    date = datetime.now(UTC).date().isoformat()
    record = {"suite": suite, "date": date, "machine": conditions, "results": [asdict(r) for r in results]}
    (folder / f"{suite}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    stated = ", ".join(f"{name} {value}" for name, value in conditions.items())
    page = (
        f"# {suite}\n\n{what.strip()}\n\n{date}; {stated}.\nTimes are medians in milliseconds a call; speed-up is the "
        "median over rounds of theirs / ours;\nspread is the interquartile range of that ratio, noise is theirs "
        f"timed against itself.\n\n{table(results)}\n"
    )
    (folder / f"{suite}.md").write_text(page, encoding="utf-8")


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suite", choices=[*sorted(SUITES), "grid"])
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases with this text in their name")
    parser.add_argument(
        "--threads", type=int, default=None, help="torch's threads on both sides (default: the suite's)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a glance, not a measurement: nothing is written"
    )
    parser.add_argument("--out", type=Path, default=None, help=f"where to write (default: {RESULTS.name}/)")
    options = parser.parse_args(arguments)
    # A part or a glance does not overwrite the record.
    if options.out is None and not options.quick and not options.only:
        options.out = RESULTS
    return options


if __name__ == "__main__":
    sys.exit(main())
