"""Two processes of one thread beside one of two: `python -m benchmarks.parallel [--only TASK] [--rounds N]`.

Language models of characters (configs/language_model/tinyshakespeare.toml) and of words
(configs/language_model/ptb_zaremba_small.toml, 10,000 words), and a translator (configs/translation/multi30k.toml), all
without dropout, are trained by the loop of `elman train`: by one process with two threads, and by two processes with
one thread each that share every batch by DistributedDataParallel (gloo). Both are
started first and train in turns, the other waiting; the order changes from round to round. What counts is the ratio of
the wall times within a round: its median, and its spread (interquartile range / median). Both must come to the same
loss, or nothing is reported. The data lie in the folder of `--data` (else the environment's ELMAN_DATA, else
../shared/data).

The law: a step of W processes takes t(W) = c / W + a + v g / b, with c the seconds that one process of one thread takes
for the whole batch (measured), g bytes of gradients, v = 2 (W - 1) / W times of which each process sends in an
all-reduce by a ring, a and b the latency and bandwidth (measured between the two processes, by a line through the
times of all-reduces of several sizes). It counts no overlap with the backward, and no work that all processes do alike:
beside it stands the measured t(2).
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parent.parent
# A task, its configuration, its data, and what is set beside.
CASES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "characters": (
        "language-model",
        "language_model/tinyshakespeare.toml",
        "tinyshakespeare/input.txt",
        {"model.dropout": 0.0},
    ),
    "words": ("language-model", "language_model/ptb_zaremba_small.toml", "penn_treebank/train.txt", {}),
    "translation": (
        "translation",
        "translation/multi30k.toml",
        "multi30k/train.lc.norm.tok",
        {"model.dropout": 0.0},
    ),
}
BAR = 0.9
WARM, TURN = 5, 1.0
# Bytes of the all-reduces through which the line of latency and bandwidth goes.
SIZES = (1 << 12, 1 << 20, 1 << 22, 1 << 24)
# Gigabytes a second between machines, with the seconds that a message takes.
NETWORKS = {"1 Gbit/s": (0.118e9, 1e-4), "10 Gbit/s": (1.18e9, 5e-5), "100 Gbit/s": (11.8e9, 2e-5)}


class Found(NamedTuple):
    """Seconds a step in each round, of one process with two threads, of two with one, of one with one (c); g, a, b."""

    training: str
    one: list[float]
    two: list[float]
    alone: list[float]
    gradients: int
    latency: float
    bandwidth: float

    @property
    def ratios(self) -> list[float]:
        """How many times as fast two processes are, in each round."""
        return [one / two for one, two in zip(self.one, self.two, strict=True)]


def law(step: float, gradients: int, count: int, latency: float, bandwidth: float) -> float:
    """Seconds of a step of `count` processes, of which one takes `step` seconds for the whole batch."""
    shared = 2 * (count - 1) / count * gradients / bandwidth + latency * (count > 1)
    return step / count + shared


# A process that trains when it is told to


def work(name: str, data: Path, folder: Path) -> None:
    """Answer each line of standard input, a command and a number, by a line of JSON."""
    import torch

    from elman.config import read_settings, values_of
    from elman.tasks.base import configure, find
    from elman.tasks.session import TaskLearner
    from elman.training.loop import Trainer
    from elman.training.parallel import close, here
    from elman.training.progress import Silent
    from elman.training.run import Run

    class Loop(Trainer):
        """A training that is timed: neither checkpoints nor validations at the end of a turn."""

        def save(self) -> None:
            """Keep nothing."""

        def _validate(self, log: Any, *, scheduled: bool) -> None:
            """Measure nothing."""

    word, file, place, beside = CASES[name]
    path, task = ROOT / "configs" / file, find(word)
    given = values_of(task.settings, read_settings(path), source=str(path))
    given |= {"training.seed": 1, "training.baselines": False, "training.epochs": 99}
    given |= {"data.train": (str(data / place),), **beside}
    config = configure(task, given)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(config.training.seed)
    learner = TaskLearner(task, config, task.prepare(config, None))
    folder.mkdir()
    trainer = Loop(learner, config.optimizer, config.training, Run(folder, {}), Silent())
    say({"gradients": sum(4 * p.numel() for p in learner.model.parameters() if p.requires_grad)})
    for line in sys.stdin:
        command, number = line.split()
        begun = time.perf_counter()
        if command == "train":
            trainer.total_steps = trainer.position.step + int(number)
            trainer.fit()
        else:
            here().open().all_reduce(torch.zeros(int(number) // 4))
        say({"seconds": time.perf_counter() - begun, "loss": trainer.recent.value})
    close()


def say(answer: Any) -> None:
    """A line of JSON."""
    print(json.dumps(answer), flush=True)


class Workers:
    """Processes that share a training, waiting for what they are told."""

    def __init__(self, task: str, data: Path, folder: Path, count: int, threads: int) -> None:
        """Start them."""
        port = str(random.SystemRandom().randrange(20000, 60000))
        shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        shared |= {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
        words = [
            sys.executable,
            "-m",
            "benchmarks.parallel",
            "--worker",
            task,
            "--data",
            str(data),
            "--folder",
        ]
        self._processes = [
            subprocess.Popen(
                [*words, str(folder / f"{count}-{threads}-{rank}")],
                env=os.environ | shared | {"RANK": str(rank)},
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=ROOT,
            )
            for rank in range(count)
        ]

    def answers(self) -> list[Any]:
        """The next line of each."""
        lines = [self._out(one).readline() for one in self._processes]
        if not all(lines):
            raise SystemExit("a process has ended")
        return [json.loads(line) for line in lines]

    @staticmethod
    def _out(process: "subprocess.Popen[str]") -> Any:
        return process.stdout

    def __call__(self, command: str, number: int) -> tuple[float, float]:
        """The seconds until all have done it, and the loss."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{command} {number}\n")
            process.stdin.flush()
        found = self.answers()
        return max(one["seconds"] for one in found), found[0]["loss"]

    def close(self) -> None:
        """Let them end."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            process.wait(60)


def measure(task: str, data: Path, rounds: int) -> Found:
    """Train all three in turns. Raises SystemExit where their losses differ."""
    with tempfile.TemporaryDirectory() as name:
        sides = [
            Workers(task, data, Path(name), count, threads) for count, threads in ((1, 2), (2, 1), (1, 1))
        ]
        ready = [side.answers() for side in sides]
        losses = [side("train", WARM)[1] for side in sides]
        if max(losses) - min(losses) > 1e-4 * max(losses):
            raise SystemExit(f"refused: after {WARM} steps the losses are {losses}")
        steps = max(1, round(TURN / (sides[0]("train", WARM)[0] / WARM)))
        for side in sides[1:]:
            side("train", WARM)
        times: list[list[float]] = [[], [], []]
        for number in range(rounds):
            turns = list(zip(sides, times, strict=True))
            for side, own in turns[::-1] if number % 2 else turns:
                own.append(side("train", steps)[0] / steps)
        shared = [statistics.median(sides[1]("reduce", size)[0] for _ in range(9)) for size in SIZES]
        slope, latency = np.polyfit(SIZES, shared, 1)
        for side in sides:
            side.close()
    one, two, alone = times
    return Found(task, one, two, alone, ready[0][0]["gradients"], max(float(latency), 0.0), 1 / float(slope))


def page(found: Sequence[Found]) -> str:
    """What was measured, and the law."""
    lines = [
        "| training | 1 process, 2 threads | 2 processes, 1 thread | times as fast (spread) | alone, 1 thread | law |",
        "|---|---|---|---|---|---|",
    ]
    for one in found:
        low, ratio, high = np.quantile(one.ratios, [0.25, 0.5, 0.75])
        times = [1000 * statistics.median(own) for own in (one.one, one.two, one.alone)]
        expected = 1000 * law(times[2] / 1000, one.gradients, 2, one.latency, one.bandwidth)
        lines.append(
            f"| {one.training} | {times[0]:.1f} ms | {times[1]:.1f} ms | {ratio:.2f} ({(high - low) / ratio:.0%}) | "
            f"{times[2]:.1f} ms | {expected:.1f} ms |"
        )
    lines += ["", "| training | gradients | a, b here |", "|---|---|---|"]
    for one in found:
        here = f"{1e3 * one.latency:.2f} ms, {one.bandwidth / 1e9:.2f} GB/s"
        lines.append(f"| {one.training} | {one.gradients / 1e6:.1f} MB | {here} |")
    lines += ["", "| training, between machines | W = 2 | 4 | 8 | 16 |", "|---|---|---|---|---|"]
    for one in found:
        step = statistics.median(one.alone)
        for network, (bandwidth, latency) in NETWORKS.items():
            gains = [step / law(step, one.gradients, count, latency, bandwidth) for count in (2, 4, 8, 16)]
            lines.append(f"| {one.training}, {network} | {' | '.join(f'{gain:.1f}' for gain in gains)} |")
    return "\n".join(lines)


def main() -> int:
    """Measure, print, write. Exit code 1: two processes are slower than the bar says."""
    parser = argparse.ArgumentParser(description="Two processes of one thread beside one of two.")
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ELMAN_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        work(asked.worker, asked.data, asked.folder)
        return 0
    found = []
    for task in [asked.only] if asked.only else CASES:
        found.append(measure(task, asked.data.absolute(), asked.rounds))
        print(page(found[-1:]), flush=True)
        if asked.out:
            write(asked.out / f"parallel_{task}.json", found[-1])
    return int(any(statistics.median(one.ratios) < BAR for one in found))


def write(path: Path, found: Found) -> None:
    """The figures of a training, with the machine."""
    from benchmarks.pairing import machine

    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"made": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), **found._asdict()}
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
