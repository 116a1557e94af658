"""The memory of a training beside the size of its text: `python -m benchmarks.corpus_memory [--megabytes N ...]`.

For each size a text is drawn (seed 0: lines of words, 20,000 different ones) and a language model trained on it for
100 steps of 64 streams all over it, with validation, test, counted baselines and report, in a process of its own: once
with the tokens in files, as a text of more than 32 MB is read, and once with all of it in memory. Counted is the peak
of the process's resident memory (VmHWM of /proc/self/status), mapped pages among it. The law is a line through the
peaks, by least squares; both ways must end with the same loss, bit for bit, else nothing is reported.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

RESULTS = Path(__file__).parent / "results"
SETTINGS: dict[str, float] = {"hidden": 8, "embedding": 8, "batch": 64, "steps": 1024, "max-steps": 100}
SETTINGS |= {"valid-batch": 16, "valid-share": 0.02, "test-share": 0.02}
# The size that a text is to have with 2 GB of memory.
FAR = 20e9
# Megabytes of text that are held in memory at most.
MOST = 64
MB = 1e6

PROGRAM = """
import json, sys, time
from elman.cli import run
from elman.data import corpus

corpus.HELD = int(sys.argv[1])
begun = time.monotonic()
code = run(sys.argv[2:])
seconds = time.monotonic() - begun
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print("\\n" + json.dumps({"code": code, "peak": int(peak.split()[1]) * 1024, "seconds": seconds}))
"""


class Measured(NamedTuple):
    """A training: of how many bytes of text, its peak in bytes, its seconds, its loss on the test text."""

    way: str
    tokens: str
    size: int
    peak: int
    seconds: float
    loss: float


def write_text(path: Path, size: int, seed: int = 0) -> None:
    """Lines of words, about `size` bytes, a piece at a time."""
    rng = np.random.default_rng(seed)
    letters = rng.integers(97, 123, size=(20_000, 7)).astype(np.uint8)
    words = [bytes(row[: 1 + n % 7]).decode() for n, row in enumerate(letters)]
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            drawn = (rng.zipf(1.3, size=20_000) - 1) % len(words)
            line = " ".join(words[n] for n in drawn.tolist())
            file.write(line.replace(" a ", ".\n") + "\n")


def train(way: str, tokens: str, path: Path, *extra: str) -> Measured:
    """Train in a process of its own. way: "files" or "memory"."""
    flags = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        run = Path(folder) / "run"
        words = [
            "train",
            "language-model",
            "--data",
            str(path),
            "--run",
            str(run),
            "--quiet",
            "--threads",
            "1",
        ]
        words += ["--tokens", tokens, "--cache", str(Path(folder) / "cache"), *flags, *extra]
        words += ["--vocabulary", "300"] if tokens in {"words", "bpe"} else []
        held = 0 if way == "files" else 1 << 60
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(held), *words],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
        )
        if done.returncode or (found := json.loads(done.stdout.splitlines()[-1]))["code"]:
            raise SystemExit(f"the training did not end well: {done.stderr}")
        loss = json.loads((run / "scores.json").read_text())["test"]["figures"]["loss"]
    return Measured(way, tokens, path.stat().st_size, found["peak"], found["seconds"], loss)


def law(found: Sequence[Measured]) -> tuple[float, float]:
    """The peak of no text at all in bytes, and what each byte of text adds."""
    slope, base = np.polyfit([one.size for one in found], [one.peak for one in found], 1)
    return float(base), float(slope)


def measured(folder: Path, sizes: Sequence[float], kinds: Sequence[str]) -> Iterator[Measured]:
    """Both ways at each size, past `MOST` in files alone. Raises SystemExit where their losses differ."""
    for size in sizes:
        path = folder / "text.txt"
        write_text(path, round(size * MB))
        for tokens in kinds:
            ways = ("files", "memory") if size <= MOST else ("files",)
            found = [train(way, tokens, path) for way in ways]
            if len({one.loss for one in found}) > 1:
                raise SystemExit(f"refused: the losses differ: {found}")
            yield from found


def page(found: Sequence[Measured]) -> str:
    """A table of the peaks, and the laws."""
    groups = dict.fromkeys((one.tokens, one.way) for one in found)
    own = {group: [one for one in found if (one.tokens, one.way) == group] for group in groups}
    sizes = list(dict.fromkeys(one.size for one in found))
    lines = [
        f"| tokens | in | {' | '.join(f'{size / MB:.0f} MB' for size in sizes)} | law | {FAR / 1e9:.0f} GB |",
        f"|{'---|' * (len(sizes) + 4)}",
    ]
    for (tokens, way), ones in own.items():
        base, slope = law(ones)
        peaks = " | ".join(f"{one.peak / MB:,.0f} MB" for one in ones) + " |" * (len(sizes) - len(ones))
        rule = f"{base / MB:,.0f} MB {'+' if slope >= 0 else '-'} {abs(slope):.3f} bytes a byte"
        lines.append(f"| {tokens} | {way} | {peaks} | {rule} | {(base + slope * FAR) / 1e9:,.1f} GB |")
    return "\n".join(lines)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="The memory of a training beside the size of its text.")
    parser.add_argument("--megabytes", type=float, nargs="+", default=[16, 32, 64, 128, 256])
    parser.add_argument("--tokens", nargs="+", default=["characters"])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for one in measured(Path(folder), asked.megabytes, asked.tokens):
            print(
                f"{one.tokens} in {one.way}: {one.size / MB:.0f} MB of text, peak {one.peak / MB:,.0f} MB",
                flush=True,
            )
            found.append(one)
    print(page(found))
    if asked.out:
        facts = {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{platform.processor() or platform.machine()}, 1 thread",
            "settings": SETTINGS,
            "results": [one._asdict() for one in found],
        }
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "corpus_memory.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        title = "# The memory of a training beside the size of its text\n\n    python -m benchmarks.corpus_memory\n\n"
        (asked.out / "corpus_memory.md").write_text(title + page(found) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
