"""What `python -m benchmarks.translation` has measured, as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["TOLD", "page"]

Found = Mapping[str, Any]


def page(recorded: Found) -> str:
    """All parts that were measured."""
    lines = ["# Translation", "", "`python -m benchmarks.translation`; what each part is stands in its help."]
    for name, one in recorded.items():
        said = ", ".join(f"{key} {value}" for key, value in one["machine"].items())
        lines += ["", f"## {name}", "", f"{one['date']}; {said}.", "", TOLD[name](one["found"])]
    return "\n".join(lines) + "\n"


def _bars(found: Found, unit: str = "") -> str:
    hard, hoped = found["bars"]
    return f"bars {hard:g}{unit}, {hoped:g}{unit}"


def _multi30k(found: Found) -> str:
    runs = found["runs"]
    first = runs[0]
    beside = "; ".join(f"{name} {value:.2f}" for name, value in first["baselines"].items())
    bars = f" ({_bars(found)})" if "bars" in found else ""
    lines = [f"Mean BLEU of {len(runs)} seed{'s' * (len(runs) > 1)}: {found['mean']:.2f}{bars}."]
    lines += [f"Beside it: {beside}. {first['figures']['signature']}.", ""]
    lines += [
        "| seed | BLEU, beam 5 | 13a | chrF | validation, greedy | minutes |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for run in runs:
        low, high = run["interval"]
        figures = run["figures"]
        other = figures.get("BLEU_13a", run["BLEU"])
        lines.append(
            f"| {run['seed']} | {run['BLEU']:.2f} ({low:.2f} to {high:.2f}) | {other:.2f} | {figures['chrF']:.2f} "
            f"| {run['valid']:.2f} | {run['minutes']:.0f} |"
        )
    for run in runs:
        lines += ["", f"Seed {run['seed']} ({run['where']}):", "", "```", run["lines"], "```"]
    return "\n".join(lines)


def _decoding(found: Found) -> str:
    clock = f"{found['seconds']:.1f} s by the clock ({_bars(found, ' s')})"
    return f"1,000 sentences, beam 5, {found['threads']} threads: {clock}, {found['processor']:.1f} s of the processor."


def _times(found: Found) -> str:
    return f"{found['ratio']:.2f} times as fast (spread {found['spread']:.0%}; {_bars(found)})."


def _loop(found: Found) -> str:
    ours, theirs = statistics.median(found["ours"]), statistics.median(found["theirs"])
    rates = f"{ours:,.0f} beside {theirs:,.0f}"
    return f"Target tokens a second of the processor, one thread: {rates}, {_times(found)}"


def _decoder(found: Found) -> str:
    rates = f"{1e3 * found['ours']:.0f} ms beside {1e3 * found['theirs']:.0f} ms"
    return f"Processor time of a call, forward and backward, {found['threads']} thread(s): {rates}, {_times(found)}"


def _toys(found: Found) -> str:
    lines = [
        "Learnt from lines of 3 to 20 letters, decoded greedily; the share of 1,000 lines that are all right.",
        "",
    ]
    lines += ["| problem | lengths asked | right, seed by seed | bar |", "|---|---|---|--:|"]
    for name, one in found.items():
        low, high = one["asked"]
        shares = " ".join(f"{share:.3f}" for share in one["shares"])
        lines.append(f"| {name} | {low} to {high} | {shares} | {one['bar']:g} |")
    return "\n".join(lines)


TOLD: dict[str, Callable[[Found], str]] = {
    "multi30k": _multi30k,
    "en-de": _multi30k,
    "decoding": _decoding,
    "loop": _loop,
    "decoder": _decoder,
    "toys": _toys,
}
