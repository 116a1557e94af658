"""Kill a training at random moments, resume it each time, and compare its end with that of a training left alone.

    python -m benchmarks.kill_resume [--kills 10] [--seed 1] [--engine elman] [--threads 1]

Prints each kill (SIGKILL: no time to save anything) with where the training was and where its checkpoint stood. Both
ends must be equal bit for bit: weights, optimizer, carried state, random state. Exit code 0 if they are, 1 if not.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

SETTINGS = {
    "hidden": 48,
    "layers": 2,
    "dropout": 0.2,
    "batch": 8,
    "steps": 16,
    "epochs": 4,
    "optimizer": "adam",
    "schedule": "plateau",
    "validate-every": 60,
    "checkpoint-every": 7,
    "log-every": 1,
}


def flags(arguments: argparse.Namespace) -> list[str]:
    """The settings of both trainings as flags."""
    given = SETTINGS | {"engine": arguments.engine, "threads": arguments.threads}
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def begin(words: list[str]) -> subprocess.Popen[bytes]:
    """Start `elman` on its own."""
    nowhere = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, "-m", "elman", *words], stdout=nowhere, stderr=nowhere)


def position(run: Path) -> tuple[int, int]:
    """The steps that the log and the checkpoint have come to; -1 where there is none yet."""
    if not (run / "last.safetensors").exists():
        return -1, -1
    lines = (run / "log.jsonl").read_text().splitlines() if (run / "log.jsonl").exists() else []
    steps = [json.loads(line)["step"] for line in lines if line.endswith("}")]
    with safe_open(run / "last.safetensors", framework="pt") as file:
        saved = json.loads(file.metadata()["facts"])["position"]["step"]
    return max(steps, default=0), saved


def train_alone(words: list[str], run: Path) -> int:
    """Train without a break; returns the number of steps."""
    if begin(words).wait() != 0:
        raise SystemExit("the training did not end well: elman " + " ".join(words))
    return position(run)[0]


def next_words(words: list[str], run: Path) -> list[str]:
    """Begin the training, or resume it where its folder is there."""
    return ["train", "language-model", "--resume", str(run)] if run.exists() else words


def kill(words: list[str], run: Path, step: int, delay: float) -> str:
    """Begin or resume, wait for a step (0: for nothing), kill `delay` seconds later; returns where that was."""
    child = begin(next_words(words, run))
    while child.poll() is None and position(run)[0] < step:
        time.sleep(0.002)
    time.sleep(delay)
    if child.poll() is not None:
        raise SystemExit(
            f"the training ended with code {child.returncode} before it could be killed at step {step}"
        )
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    now, saved = position(run)
    return "no run folder yet" if saved < 0 else f"at step {now}, checkpoint at step {saved}"


def differences(a: Path, b: Path) -> list[str]:
    """The tensors of the last checkpoints that are not the same, bit for bit."""
    first, second = load_file(a / "last.safetensors"), load_file(b / "last.safetensors")
    if first.keys() != second.keys():
        return ["the names of the tensors"]
    return [name for name, tensor in first.items() if not torch.equal(tensor, second[name])]


def main() -> int:
    """Run both trainings and compare."""
    parser = argparse.ArgumentParser(
        description="Kill a training again and again; compare it with one left alone."
    )
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=["elman", "torch"], default="elman")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        text, whole, broken = (Path(folder) / name for name in ("text.txt", "whole", "broken"))
        text.write_text("".join(f"line {i} says that {i % 7} and {i % 11} are numbers\n" for i in range(600)))
        words = ["train", "language-model", "--data", str(text), *flags(arguments), "--run"]
        total = train_alone([*words, str(whole)], whole)
        print(f"left alone: {total} steps", flush=True)
        targets = sorted(draw.sample(range(1, total * 9 // 10), arguments.kills))
        # One kill hits what comes before the first step, the others come at a moment of their own within a step.
        targets[0] = 0
        for number, step in enumerate(targets, 1):
            delay = draw.uniform(0, 0.03 if step else 3.0)
            print(f"kill {number}: {kill([*words, str(broken)], broken, step, delay)}", flush=True)
        if begin(next_words([*words, str(broken)], broken)).wait() != 0:
            print("the training could not be resumed to its end")
            return 1
        found = differences(whole, broken)
        tensors = len(load_file(whole / "last.safetensors"))
    print(f"differ: {', '.join(found)}" if found else f"equal: all {tensors} tensors, bit for bit")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
