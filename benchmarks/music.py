"""Models of music, trained and tested from their configurations: `python -m benchmarks.music [NAME ...]`.

The names are those of configs/music (jsb, jsb_nade, nottingham). The data lie in the folder of `--data` (else the
environment's ELMAN_DATA, else ../shared/data), in polyphonic_music; docs/music.md says what they are. Each seed is a
training of its own by `elman train`, which reads the test data once, at its end. A training that stands in the folder
of `--runs` already is not done again. Written (`--out`) are a page and its numbers, with the lines of every run.

`--speed` trains nothing: it times how fast events are written, and the two forms of a NADE, and has a page of its own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks import trainings


class Result(NamedTuple):
    """A set with what it is trained by. bars: the largest mean, and the one hoped for, in nats a step."""

    name: str
    file: str
    seeds: int
    bars: tuple[float, float]


SETS = [
    Result("jsb", "JSB_Chorales.mat", 5, (8.45, 8.35)),
    Result("jsb_nade", "JSB_Chorales.mat", 5, (7.0, 6.5)),
    Result("nottingham", "Nottingham.mat", 1, (3.2, 3.0)),
]


class Training(NamedTuple):
    """A run that is done: nats a step on the test data, with the first step of each piece and without it."""

    seed: int
    value: float
    without_first: float
    interval: tuple[float, float]
    valid: float
    baselines: dict[str, float]
    minutes: float
    epochs: int
    parameters: int
    lines: list[str]


def train(known: Result, seed: int, options: argparse.Namespace) -> Training:
    """A run of this seed: as it stands in its folder, or trained now; its interval is computed anew."""
    import elman

    run = options.runs / f"{known.name}-{seed}"
    path = (options.data / "polyphonic_music" / known.file).resolve()
    flags = ["--config", f"configs/music/{known.name}.toml", "--data", str(path)]
    flags += ["--seed", str(seed), "--threads", str(options.threads)]
    lines = trainings.trained("music", flags, run, {"DATA": options.data, "RUNS": options.runs})
    done, model = trainings.read(run), elman.load(run)
    score = model.evaluate()
    return Training(
        seed,
        score.value,
        score.figures["without_first"],
        score.interval,
        done.best(higher=False),
        done.baselines,
        done.minutes,
        done.epochs,
        sum(parameter.numel() for parameter in model.model.parameters()),
        lines,
    )


def page(found: dict[str, list[Training]], conditions: dict[str, Any]) -> str:
    """The results as Markdown."""
    said = trainings.stated(conditions)
    how = (
        "Nats a step of the test data: the sum over all steps of all pieces, divided by their number. The first step "
        "of a piece is predicted from silence and counted; beside it stands the same without these steps. The test "
        "data were read once by each run, at its end. In brackets the spread over the seeds, or, of one seed, the 95 % "
        "interval over the test pieces.\n"
    )
    head = (
        "| set | nats a step | without first steps | validation | frequency of notes | repeat the last step | bar | "
        "hoped for | minutes a run | epochs | parameters | seeds |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n"
    )
    rows = [_row(known, found[known.name]) for known in SETS if known.name in found]
    pieces = [f"# Music\n\n    python -m benchmarks.music\n\n{said}\n", how, head + "\n".join(rows) + "\n"]
    pieces += trainings.sections(found, lambda name, one: f"{name}, seed {one.seed}")
    return "\n".join(pieces)


def _row(known: Result, own: Sequence[Training]) -> str:
    values, first = [one.value for one in own], own[0]
    low, high = trainings.spread(values, first.interval)
    cells = [
        known.name,
        f"**{statistics.mean(values):.3f}** ({low:.3f} to {high:.3f})",
        f"{statistics.mean(one.without_first for one in own):.3f}",
        f"{statistics.mean(one.valid for one in own):.3f}",
        *(f"{first.baselines[name]:.2f}" for name in ("frequency of notes", "repeat the last step")),
        *(f"{bar:g}" for bar in known.bars),
        f"{statistics.mean(one.minutes for one in own):.1f}",
        str(first.epochs),
        f"{first.parameters:,}",
        " ".join(str(one.seed) for one in own),
    ]
    return f"| {' | '.join(cells)} |"


class NADECell(nn.Module):
    """A NADE as a cell over its keys: b' = b + v_j E_j, logit = c_k + D_k · σ(b); x = (v_j, E_j, c_k, D_k)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden_size = hidden

    def forward(self, x: tuple[Tensor, ...], b: Tensor) -> tuple[Tensor, Tensor]:
        """One key."""
        v, e, c, d = x
        b = b + v * e
        return c + (d * torch.sigmoid(b)).sum(-1, keepdim=True), b


def nade_forms(rows: int = 500, keys: int = 88, hidden: int = 256, sounding: int = 4) -> str:
    """Seconds of forward and backward of log p, by `NADE.log_prob` and by a cell that is unfolded over the keys."""
    import elman
    from elman.nn.nade import NADE

    torch.manual_seed(0)
    head = NADE(200, keys, hidden)
    x, v = torch.randn(rows, 200), torch.zeros(rows, keys)
    v.scatter_(1, torch.rand(rows, keys).argsort(1)[:, :sounding], 1.0)
    layer = elman.Recurrent(NADECell(hidden))

    def unfolded() -> Tensor:
        turned = v.flip(1).t().unsqueeze(-1)  # (K, N, 1)
        before = torch.cat([torch.zeros_like(turned[:1]), turned[:-1]])
        encode = (
            torch.cat([torch.zeros(1, hidden), head.encode.flip(0)[:-1]])
            .unsqueeze(1)
            .expand(keys, rows, hidden)
        )
        decode = head.decode.flip(0).unsqueeze(1).expand(keys, rows, hidden)
        bias = head.visible(x).flip(1).t().unsqueeze(-1)
        logits, _ = layer((before, encode, bias, decode), head.hidden(x))
        return -nn.functional.binary_cross_entropy_with_logits(logits, turned, reduction="none").sum((0, 2))

    def seconds(rule: Callable[[], Tensor]) -> float:
        taken = []
        for _ in range(7):
            head.zero_grad()
            begun = time.perf_counter()
            rule().sum().backward()
            taken.append(time.perf_counter() - begun)
        return statistics.median(taken[2:])

    torch.testing.assert_close(unfolded(), head.log_prob(x, v), rtol=1e-4, atol=1e-3)
    quick, slow = seconds(lambda: head.log_prob(x, v)), seconds(unfolded)
    return (
        f"log p of {rows} steps of {keys} keys, {sounding} of them sounding, {hidden} hidden units, forward and "
        f"backward: {1e3 * quick:.1f} ms by `NADE.log_prob`, {1e3 * slow:.1f} ms by a cell over the keys.\n"
    )


def event_speed(events: int = 1000) -> str:
    """Seconds of writing events by an LSTM of 256 units, fresh parameters, one thread: the first time and then."""
    from elman.config import build
    from elman.tasks.music.events import EventWish, write_events
    from elman.tasks.music.learning import build_model
    from elman.tasks.music.pieces import Codec
    from elman.tasks.music.settings import Config

    torch.manual_seed(0)
    config: Config = build(Config, {"model.kind": "events"})
    words = config.words
    assert words is not None
    model: Any = build_model(
        config, Codec(words.keys, 12, shares=(1 / words.size,) * words.size, words=words)
    )
    generator = torch.Generator().manual_seed(0)
    wall, processor = [], []
    for _ in range(9):
        begun, worked = time.perf_counter(), time.process_time()
        write_events(model, words, EventWish(events), generator)
        wall.append(time.perf_counter() - begun)
        processor.append(time.process_time() - worked)
    return (
        f"{events:,} events of {words.size} kinds by an LSTM of {config.model.hidden} units, one thread: "
        f"{statistics.median(wall[1:]):.3f} s ({statistics.median(processor[1:]):.3f} s of processor time, the least "
        f"{min(processor):.3f}); the first time in a process, with the trace and its check, {wall[0]:.3f} s "
        f"({processor[0]:.3f}).\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Train what is not trained yet, print and write. Exit code 1: a mean lies above its bar."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    before = trainings.product_rate()
    if options.speed:
        text = f"{event_speed()}\n{nade_forms()}"
        measured = trainings.conditions(before)
        print(text)
        head = "# How fast music is written\n\n    python -m benchmarks.music --speed\n\n"
        written = f"{head}{trainings.stated(measured)}\n\n{text}"
        trainings.record(options.out, "music_speed", written, measured, {"speed": text})
        return 0
    found = trainings.every(
        SETS,
        options,
        lambda known: trainings.seeds(known, options),
        lambda known, seed: train(known, seed, options),
        lambda known, seed, one: f"{known.name}, seed {seed}: {one.value:.3f}, {one.minutes:.1f} minutes",
    )
    measured = trainings.conditions(before)
    written = page(found, measured)
    print(written.split("\n## ", maxsplit=1)[0])
    trainings.record(options.out, "music", written, measured, {"results": trainings.numbers(found)})
    means = trainings.means(found)
    missed = [
        f"{known.name} {means[known.name]:.3f}" for known in SETS if means.get(known.name, 0) > known.bars[0]
    ]
    return trainings.judged(missed, "above")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    made = trainings.seeded(trainings.parser("music", __doc__), "5, of nottingham 1")
    made.add_argument(
        "--speed", action="store_true", help="time the writing of events, and a NADE's two forms"
    )
    return trainings.chosen(made, arguments, SETS)


if __name__ == "__main__":
    sys.exit(main())
