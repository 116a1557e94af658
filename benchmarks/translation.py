"""Translators, trained and timed from their configurations: `python -m benchmarks.translation [PART ...]`.

multi30k  the translator of configs/translation/multi30k.toml, with several seeds: a training each by `elman train`,
          which reads the test data (test_2016_flickr) once, at its end. One that stands in `--runs` is not done again;
          seeds that are recorded in the folder of `--out` stay there.
en-de     the same from English to German, the sizes of the two vocabularies exchanged.
decoding  the 1,000 test sentences by the first of these runs, beam 5, from the loaded model to the last line.
loop      tokens a second of the whole training loop, H = 256, 64 pairs a batch, beside packed torch.nn.GRU and a
          Python loop over the same decoder step; the output layer is asked once, over all steps, on both sides: with
          its loss in blocks of rows on ours, by torch's F.linear and F.cross_entropy on theirs. Steps of many lengths
          come first (`--warm`): a length of a source that is new costs a look at the step, once in a training.
decoder   the attention decoder's step as a cell beside the Python loop over it, B = 32, T = S = 30, H = 256.
toys      copying and reversal, learnt from lines of 3 to 20 letters and asked for 21 to 30; sorting, within 3 to 20.

The data lie in the folder of `--data` (else the environment's ELMAN_DATA, else ../shared/data), in multi30k/. Where it
says so, times are those of the processor, so that other work on the machine counts little. Written (`--out`) are a page
and its numbers; parts that are not measured now stay as they are recorded.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import trainings
from benchmarks.pairing import Case, Ratios, Side, assert_same_answers, machine
from benchmarks.trainings import RESULTS, ROOT, product_rate
from benchmarks.translation_page import TOLD, page
from elman.config import read_settings, values_of
from elman.tasks.base import configure, find, load
from elman.tasks.session import TaskLearner
from elman.training.optimizer import build_optimizer

CONFIGS = ROOT / "configs" / "translation"
TEST = "test_2016_flickr.lc.norm.tok"
LETTERS = "abcdefghij"
# What is made of a line, the lengths that are asked for, epochs, and the least share of lines that has to be right.
TOYS: dict[str, tuple[Callable[[list[str]], Sequence[str]], tuple[int, int], int, float]] = {
    "copying": (lambda line: line, (21, 30), 1, 0.99),
    "reversal": (lambda line: line[::-1], (21, 30), 1, 0.99),
    "sorting": (sorted, (3, 20), 3, 0.95),
}
LEARNT = (3, 20)
# Of configs/translation/multi30k.toml: what is read and what is written change places.
OTHER_WAY = ("--from", "en", "--to", "de", "--source-vocabulary", "3500", "--target-vocabulary", "5000")
BLEU, DECODING, LOOP, DECODER = (40.0, 42.0), (15.0, 6.0), (1.5, 2.0), (2.3, 2.8)

Options = argparse.Namespace


def multi30k(options: Options) -> dict[str, Any]:
    """BLEU on the test data with each seed, German to English."""
    return {**_trained(options, "multi30k"), "bars": BLEU}


def english_german(options: Options) -> dict[str, Any]:
    """The same the other way."""
    return _trained(options, "en-de", *OTHER_WAY)


def _trained(options: Options, name: str, *flags: str) -> dict[str, Any]:
    """A training with each seed, and those of other seeds that are recorded."""
    data, runs = options.data / "multi30k", []
    for seed in options.seeds:
        run = options.runs / f"{name}-{seed}"
        words = [
            *("--config", str(CONFIGS / "multi30k.toml"), "--data", str(data.resolve()), *flags),
            *("--test", str((data / TEST).resolve()), "--seed", str(seed)),
            *("--threads", str(options.threads)),
        ]
        hidden = {"DATA": options.data, "RUNS": options.runs}
        lines = trainings.trained("translation", words, run, hidden)
        done = trainings.read(run)
        runs.append(
            {
                "seed": seed,
                "where": f"{done.day}, {machine()['processor']}",
                "BLEU": done.score["value"],
                "interval": done.score["interval"],
                "figures": done.score["figures"],
                "valid": done.best(higher=True),
                "baselines": done.baselines,
                "minutes": done.minutes,
                "lines": "\n".join(lines),
            }
        )
    known = _recorded(options.out).get(name, {"found": {"runs": []}})["found"]["runs"]
    runs += [run for run in known if run["seed"] not in options.seeds]
    runs.sort(key=lambda run: int(run["seed"]))
    return {"runs": runs, "mean": statistics.fmean(run["BLEU"] for run in runs)}


def _recorded(folder: Path | None) -> dict[str, Any]:
    record = (folder or RESULTS) / "translation.json"
    found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    return found


def decoding(options: Options) -> dict[str, Any]:
    """Seconds for the test sentences, by the clock and of the processor; the least of three times."""
    model = load(options.runs / f"multi30k-{options.seeds[0]}")
    path = options.data / "multi30k" / f"{TEST}.{model.config.data.source_language}"
    lines = path.read_text(encoding="utf-8").split("\n")[:1000]
    model.translate(lines[:20])
    found = []
    for _ in range(3):
        clock, processor = time.perf_counter(), time.process_time()
        written = [own[0].text for own in model.translate(lines, beam=5)]
        found.append((time.perf_counter() - clock, time.process_time() - processor))
        assert len(written) == len(lines)
    seconds, processor = min(found)
    return {
        "seconds": seconds,
        "processor": processor,
        "threads": torch.get_num_threads(),
        "bars": DECODING,
    }


def _learner(engine: str, prepared: Any, given: Mapping[str, Any]) -> TaskLearner:
    task = find("translation")
    config = configure(task, {**given, "model.engine": engine})
    torch.manual_seed(1)
    return TaskLearner(task, config, prepared)


class Steps:
    """A training that goes on by so many steps at a call: batch, loss, gradient, clipping, update."""

    def __init__(self, learner: TaskLearner) -> None:
        """Take the first weights as they are."""
        self.learner, self.at = learner, 0
        self.optimizer = build_optimizer(learner.model, learner.config.optimizer)

    def __call__(self, steps: int) -> float:
        """Target tokens a second of the processor."""
        self.learner.model.train()
        tokens, begun = 0, time.process_time()
        for _ in range(steps):
            self.optimizer.zero_grad(set_to_none=True)
            out = self.learner.loss(1, self.at % self.learner.epoch_steps, ())
            out.objective.backward()
            torch.nn.utils.clip_grad_norm_(self.learner.model.parameters(), 1.0)
            self.optimizer.step()
            tokens += out.predictions
            self.at += 1
        return tokens / (time.process_time() - begun)

    def answers(self) -> dict[str, Tensor]:
        """Loss and gradients of the first batch, without dropout."""
        model = self.learner.model.eval()
        out = self.learner.loss(1, 0, ()).objective
        named = dict(model.named_parameters())
        found = torch.autograd.grad(out, list(named.values()))
        return {
            "loss": out.detach(),
            **{f"grad {place}": grad for place, grad in enumerate(sorted(found, key=_order))},
        }


def _order(grad: Tensor) -> tuple[int, float]:
    """The parts of both sides have names of their own: gradients are paired by size, then by their norm."""
    return grad.numel(), float(grad.norm())


def loop(options: Options) -> dict[str, Any]:
    """The whole training loop, in turns."""
    torch.set_num_threads(1)
    data = options.data / "multi30k"
    path = CONFIGS / "multi30k.toml"
    task = find("translation")
    given = {
        **values_of(task.settings, read_settings(path), source=str(path)),
        "data.train": (str(data / "train.lc.norm.tok"),),
        "data.valid": (str(data / "val.lc.norm.tok"),),
        "model.hidden": 256,
    }
    prepared: Any = task.prepare(configure(task, given), None)
    sides = {engine: Steps(_learner(engine, prepared, given)) for engine in ("elman", "torch")}
    sides["torch"].learner.model.load_state_dict(
        _renamed(sides["elman"].learner.model, sides["torch"].learner.model)
    )
    assert_same_answers(
        Case("loop", Side("elman", sides["elman"].answers), Side("torch", sides["torch"].answers))
    )
    for side in sides.values():
        side(options.warm)
    ours, theirs = list[float](), list[float]()
    for number in range(options.rounds):
        turns = [(sides["elman"], ours), (sides["torch"], theirs)]
        for side, rates in reversed(turns) if number % 2 else turns:
            rates.append(side(options.steps))
    ratios = Ratios([1 / rate for rate in ours], [1 / rate for rate in theirs])
    return {"ours": ours, "theirs": theirs, "ratio": ratios.median, "spread": ratios.spread, "bars": LOOP}


def _renamed(ours: Any, theirs: Any) -> dict[str, Tensor]:
    """Our weights under their names: both list their parameters in one order."""
    names, tensors = theirs.state_dict().keys(), ours.state_dict().values()
    return dict(zip(names, tensors, strict=True))


def decoder(options: Options) -> dict[str, Any]:
    """The decoder alone, forward and backward, in turns, with as many threads as are given."""
    from elman.nn import AdditiveAttention, AttentionCell, GRUCell, Recurrent

    torch.manual_seed(0)
    T, S, B, H = 30, 30, 32, 256
    cell = AttentionCell(GRUCell, H, H, AdditiveAttention(H, 2 * H, H), 2 * H)
    layer = Recurrent(cell)
    x, read = (
        torch.randn(T, B, H, requires_grad=True),
        torch.randn(B, S, 2 * H, requires_grad=True),
    )
    mask = torch.ones(B, S, dtype=torch.bool)
    wanted = {"x": x, "memory": read, **dict(cell.named_parameters())}

    def ours() -> dict[str, Tensor]:
        return answers(layer(x, start(), context=cell.attention.prepare(read, mask)).y)

    def theirs() -> dict[str, Tensor]:
        memory, state, found = cell.attention.prepare(read, mask), start(), []
        for x_t in x:
            y, state = cell(x_t, state, memory)
            found.append(y)
        return answers(torch.stack(found))

    def start() -> Any:
        return (torch.zeros(B, H),)

    def answers(y: Tensor) -> dict[str, Tensor]:
        found = torch.autograd.grad(y.square().mean(), list(wanted.values()))
        return {"y": y.detach(), **{f"grad {name}": grad for name, grad in zip(wanted, found, strict=True)}}

    sides = (Side("cell of the engine", ours), Side("Python loop", theirs))
    assert_same_answers(Case("decoder", *sides))
    assert layer.path == "native", layer.explain()
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(options.rounds):
        for place in (1, 0) if number % 2 else (0, 1):
            begun = time.process_time()
            sides[place].run()
            times[place].append(time.process_time() - begun)
    ratios = Ratios(*times)
    return {
        "ours": statistics.median(times[0]),
        "theirs": statistics.median(times[1]),
        "ratio": ratios.median,
        "spread": ratios.spread,
        "threads": torch.get_num_threads(),
        "bars": DECODER,
    }


def toys(options: Options) -> dict[str, Any]:
    """The share of lines that are right altogether, of each problem and seed."""
    found: dict[str, Any] = {}
    for name, (made, asked, epochs, bar) in TOYS.items():
        shares = []
        for seed in options.toy_seeds:
            with tempfile.TemporaryDirectory() as folder:
                parts = {"train": (36_000, LEARNT), "valid": (200, LEARNT), "test": (1000, asked)}
                for place, (part, (count, lengths)) in enumerate(parts.items()):
                    draw = random.Random(1000 * seed + place)
                    lines = [draw.choices(LETTERS, k=draw.randint(*lengths)) for _ in range(count)]
                    text = "".join(f"{' '.join(line)}\t{' '.join(made(line))}\n" for line in lines)
                    (Path(folder) / f"{part}.tsv").write_text(text, encoding="utf-8")
                flags = ["--config", str(CONFIGS / "toys.toml"), "--data", folder, "--epochs", str(epochs)]
                flags += ["--seed", str(seed), "--threads", "1", "--quiet"]
                trainings.command("translation", flags, Path(folder) / "run")
                score = load(Path(folder) / "run").evaluate(beam=1, length_penalty=0.0)
                shares.append(score.figures["exact"])
                print(f"{name}, seed {seed}: {shares[-1]:.3f} right", flush=True)
        found[name] = {"shares": shares, "asked": asked, "bar": bar}
    return found


PARTS: dict[str, Callable[[Options], dict[str, Any]]] = {
    "multi30k": multi30k,
    "en-de": english_german,
    "decoding": decoding,
    "loop": loop,
    "decoder": decoder,
    "toys": toys,
}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m benchmarks.translation", description=__doc__, formatter_class=form
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("ELMAN_DATA", ROOT / "../shared/data"))
    )
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "benchmarks")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--toy-seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9, help="turns of each side where two are compared")
    parser.add_argument("--steps", type=int, default=6, help="steps of a turn of the training loop")
    parser.add_argument("--warm", type=int, default=72, help="steps in front of the first turn")
    parser.add_argument(
        "--out", type=Path, nargs="?", const=RESULTS, help="write the page and its numbers there"
    )
    options = parser.parse_args(arguments)
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part is called {unknown[0]}; they are {', '.join(PARTS)}")
    record = (options.out or RESULTS) / "translation.json"
    recorded = _recorded(options.out)
    for part in options.parts or PARTS:
        torch.set_num_threads(options.threads)
        conditions = {**machine(), "torch.mm GFLOP/s": round(product_rate())}
        found = PARTS[part](options)
        recorded[part] = {"date": datetime.now(UTC).date().isoformat(), "machine": conditions, "found": found}
        print(TOLD[part](json.loads(json.dumps(found))), flush=True)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            ordered = {name: recorded[name] for name in PARTS if name in recorded}
            record.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
            record.with_suffix(".md").write_text(page(json.loads(json.dumps(ordered))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
