"""The output layer with its loss, beside torch's three calls: `python -m benchmarks.heads [PART ...]`.

layer   `LinearCrossEntropy` beside `F.linear`, `F.cross_entropy` and their backward, V = 10,000 classes, forward and
        backward, at several sizes.
memory  what a call takes beyond the resident memory before it, gradients included: the peak (VmHWM) of one forward and
        backward in a process of its own, beside the size of (T B, V).
step    a whole step of the small Penn Treebank model of Zaremba et al. from its configuration: batch, forward, loss,
        backward, clipping, update; beside torch.nn.LSTM with torch's three calls, which `--engine torch` trains.

Each part is measured with both instruction sets in processes of their own. AVX2: ELMAN_ISA=avx2 for the core, and
ATEN_CPU_CAPABILITY=avx2 and MKL_ENABLE_INSTRUCTIONS=AVX2 for torch, on both sides. The answers of both sides, values
and gradients, are compared first, and nothing is reported where they differ. Written (`--out`) are a page and its
numbers; parts that are not measured now stay as they are recorded.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.memory import _give_back, _status
from benchmarks.pairing import Case, Effort, Side, compare, machine
from benchmarks.trainings import RESULTS, ROOT, product_rate

V = 10_000
ISAS = {
    "avx512": {"ELMAN_ISA": "avx512"},
    "avx2": {"ELMAN_ISA": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}
BARS = {"layer": {"avx512": 1.6, "avx2": 1.25}, "step": {"avx512": 1.4, "avx2": 1.2}}


class Size(NamedTuple):
    """T·B rows of H features; smoothing and a share of ignored rows."""

    rows: int
    features: int
    smoothing: float = 0.0
    ignored: float = 0.0

    @property
    def said(self) -> str:
        """For the table."""
        more = f", smoothing {self.smoothing}" if self.smoothing else ""
        return f"({self.rows:,}, {self.features}){more}" + (
            f", {self.ignored:.0%} ignored" if self.ignored else ""
        )


SIZES = (
    Size(400, 200), Size(700, 650), Size(2240, 200), Size(2240, 256), Size(2240, 512), Size(2240, 256, 0.1, 0.2),
)  # fmt: skip


class Head:
    """Rows, an output layer, and both ways to its loss and gradients."""

    def __init__(self, size: Size) -> None:
        """Draw them."""
        from elman.nn import LinearCrossEntropy

        torch.manual_seed(0)
        self.ours = LinearCrossEntropy(size.features, V, label_smoothing=size.smoothing)
        self.x = torch.randn(size.rows, size.features, requires_grad=True)
        self.target = torch.randint(0, V, (size.rows,))
        self.target[torch.rand(size.rows) < size.ignored] = -100
        self.smoothing = size.smoothing

    def by_us(self) -> dict[str, Tensor]:
        """By blocks."""
        return self._answers(self.ours(self.x, self.target))

    def by_torch(self) -> dict[str, Tensor]:
        """By torch's calls."""
        logits = F.linear(self.x, self.ours.weight, self.ours.bias)
        return self._answers(F.cross_entropy(logits, self.target, label_smoothing=self.smoothing))

    def _answers(self, loss: Tensor) -> dict[str, Tensor]:
        wanted = {"x": self.x, "weight": self.ours.weight, "bias": self.ours.bias}
        loss.backward()
        found = {"loss": loss.detach()}
        for name, leaf in wanted.items():
            assert leaf.grad is not None
            found[f"grad {name}"], leaf.grad = leaf.grad, None
        return found


def layer(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Times of a call."""
    found = []
    for size in SIZES:
        head = Head(size)
        case = Case(size.said, Side("LinearCrossEntropy", head.by_us), Side("three calls", head.by_torch))
        found.append(asdict(compare(case, Effort(seconds=options.seconds, rounds=4, most_rounds=6))))
    return found


def memory(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Bytes of a call of each side."""
    found = []
    for size in SIZES:
        for side in ("by_us", "by_torch"):
            command = [sys.executable, "-m", "benchmarks.heads", "--child", json.dumps([*size, side])]
            # Nothing kept from the call before: what a call takes is counted whole.
            environment = {**os.environ, "ELMAN_CACHE_MB": "0"}
            done = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
            )
            found.append(
                {"size": size.said, "side": side, "logits": 4 * size.rows * V, "peak": int(done.stdout)}
            )
    return found


def peak_of(size: Size, side: str) -> int:
    """Bytes of one call, after one of few rows; in a fresh process."""
    torch.set_num_threads(1)
    head = Head(size)
    x, target = head.x, head.target
    head.x, head.target = x.detach()[:8].clone().requires_grad_(), target[:8].clamp(min=0)
    getattr(head, side)()
    head.x, head.target = x, target
    _give_back()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    getattr(head, side)()
    return _status("VmHWM") - before


class Steps:
    """A training of the language model that goes on by so many steps at a call."""

    def __init__(self, learner: Any) -> None:
        """Take the first weights as they are."""
        from elman.training.optimizer import build_optimizer

        self.learner, self.at = learner, 0
        self.optimizer = build_optimizer(learner.model, learner.config.optimizer)
        self.state = learner.initial_state()

    def __call__(self) -> dict[str, Tensor]:
        """One step; its loss."""
        from elman.training import bptt

        model = self.learner.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        out = self.learner.loss(1, self.at % self.learner.epoch_steps, self.state)
        out.objective.backward()
        nn.utils.clip_grad_norm_(model.parameters(), self.learner.config.optimizer.clip)
        self.optimizer.step()
        self.state, self.at = bptt.cut(out.state), self.at + 1
        return {"loss": out.objective.detach()}


def step(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Times of a step. The first losses of both sides are compared, each after the updates before it."""
    from elman.config import read_settings, values_of
    from elman.tasks.base import configure, find
    from elman.tasks.session import TaskLearner

    path, task = ROOT / "configs" / "language_model" / "ptb_zaremba_small.toml", find("language-model")
    given = {
        **values_of(task.settings, read_settings(path), source=str(path)),
        "data.train": (str(options.data / "penn_treebank" / "train.txt"),),
        "data.valid": (str(options.data / "penn_treebank" / "valid.txt"),),
    }
    prepared: Any = task.prepare(configure(task, given), None)
    sides = []
    for engine in ("elman", "torch"):
        torch.manual_seed(1)
        learner = TaskLearner(task, configure(task, {**given, "model.engine": engine}), prepared)
        sides.append(Steps(learner))
    ours, theirs = sides
    theirs.learner.model.load_state_dict(
        dict(zip(theirs.learner.model.state_dict(), ours.learner.model.state_dict().values(), strict=True))
    )
    for _ in range(20):
        torch.testing.assert_close(ours()["loss"], theirs()["loss"], rtol=1e-5, atol=0)
    case = Case(
        "PTB small, a step of 20 x 20 words", Side("elman.nn", ours, _none), Side("torch.nn", theirs, _none)
    )
    return [asdict(compare(case, Effort(seconds=options.seconds, rounds=9, most_rounds=15)))]


def _none(_: Any) -> dict[str, Tensor]:
    """The answers have been compared before: a step changes what the next one answers."""
    return {}


PARTS: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
    "layer": layer,
    "memory": memory,
    "step": step,
}


def measured(part: str, isa: str, options: argparse.Namespace) -> dict[str, Any]:
    """A part with an instruction set, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.heads",
        part,
        "--inside",
        isa,
        "--data",
        str(options.data.resolve()),
    ]
    command += ["--seconds", str(options.seconds), "--threads", str(options.threads)]
    environment = {**os.environ, **ISAS[isa], "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def inside(part: str, isa: str, options: argparse.Namespace) -> dict[str, Any]:
    """The part in this process, and what the times depend on."""
    from elman.engine.backends import kernel

    if kernel.isa() != isa:
        raise SystemExit(f"this process has {kernel.isa()}, not {isa}")
    torch.set_num_threads(options.threads)
    conditions = {**machine(), "core": isa, "torch.mm GFLOP/s": round(product_rate())}
    date = datetime.now(UTC).date().isoformat()
    return {"date": date, "machine": conditions, "found": PARTS[part](options)}


def page(recorded: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# The output layer with its loss",
        "",
        "`python -m benchmarks.heads`; what each part is stands in its help.",
    ]
    for name, of in recorded.items():
        part, isa = name.split(" ")
        said = ", ".join(f"{key} {value}" for key, value in of["machine"].items())
        lines += ["", f"## {part}, {isa.upper()}", "", f"{of['date']}; {said}.", ""]
        if part == "memory":
            lines += ["| (T B, H) | side | peak, MB | of (T B, V) |", "|---|---|--:|--:|"]
            for row in of["found"]:
                side = {"by_us": "LinearCrossEntropy", "by_torch": "three calls"}[row["side"]]
                share = row["peak"] / row["logits"]
                lines.append(f"| {row['size']} | {side} | {row['peak'] / 1e6:.1f} | {share:.2f} |")
            continue
        bar = BARS[part][isa]
        what = "(T B, H)" if part == "layer" else "what"
        lines += [
            f"| {what} | ours, ms | torch, ms | times as fast (bar {bar:g}) | spread | noise |",
            "|---|--:|--:|--:|--:|--:|",
        ]
        lines += [
            f"| {row['case']} | {row['ours_ms']:.1f} | {row['theirs_ms']:.1f} | {row['speedup']:.2f} "
            f"| {row['spread']:.1%} | {row['noise']:.1%} |"
            for row in of["found"]
        ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks.heads", description=__doc__, formatter_class=form)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--isa", choices=list(ISAS), help="with this instruction set alone (default: both)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.3, help="least time of one side in one round")
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("ELMAN_DATA", ROOT / "../shared/data"))
    )
    parser.add_argument(
        "--out", type=Path, nargs="?", const=RESULTS, help="write the page and its numbers there"
    )
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        *size, side = json.loads(options.child)
        print(peak_of(Size(*size), side))
        return 0
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part is called {unknown[0]}; they are {', '.join(PARTS)}")
    if options.inside:
        print(json.dumps(inside(options.parts[0], options.inside, options)))
        return 0
    record = (options.out or RESULTS) / "heads.json"
    recorded = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    for part in options.parts or PARTS:
        for isa in [options.isa] if options.isa else ISAS:
            name = f"{part} {isa}"
            recorded[name] = measured(part, isa, options)
            print(page({name: recorded[name]}), flush=True)
            if options.out:
                options.out.mkdir(parents=True, exist_ok=True)
                names = [f"{part} {isa}" for part in PARTS for isa in ISAS]
                ordered = {name: recorded[name] for name in names if name in recorded}
                record.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
                record.with_suffix(".md").write_text(page(ordered), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
