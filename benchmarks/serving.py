"""Many streams of one LSTM behind `elman serve`, server and clients on the same machine: how long a message takes.

`python -m benchmarks.serving`: 150 streams of 50 steps a second each, LSTM of 256 units, several steps a message. A
client sends a message when its last step has come, whether or not the message before is answered. Latency is from a
message's due time to its whole answer. Every answer is counted, and those of some streams are compared with the model
alone, bit for bit. `--sessions 100000` instead opens and closes so many sessions, and looks at the server's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from websockets.asyncio.client import connect

import elman
from elman.frozen import export
from elman.runtime import load

RESULTS = Path(__file__).parent / "results"
WATCHED = 5
BAR_MS = 50.0
# Before this many seconds nothing is counted.
WARM = 2.0


class Server(NamedTuple):
    """Where it is, and its processes."""

    url: str
    processes: list[int]

    def resident(self) -> float:
        """MiB of memory of its processes."""
        pages = [
            int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) for pid in self.processes
        ]
        return sum(pages) * resource.getpagesize() / 2**20

    def seconds(self) -> float:
        """CPU time of its processes."""
        ticks = [
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[11:13]
            for pid in self.processes
        ]
        return sum(int(tick) for pair in ticks for tick in pair) / 100


@contextmanager
def server(path: Path, processes: int, *flags: str) -> Iterator[Server]:
    """`elman serve` of a frozen file."""
    command = [
        sys.executable,
        "-m",
        "elman",
        "serve",
        str(path),
        "--port",
        "0",
        "--processes",
        str(processes),
        *flags,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            found = re.search(r"http://(\S+)", child.stdout.readline())
            assert found is not None
            own = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text(encoding="ascii").split()
            yield Server(f"ws://{found[1]}/models/{path.stem}/stream", [int(pid) for pid in own])
        finally:
            child.terminate()


class Sent(NamedTuple):
    """Messages of one stream: inputs, answers, and how long each took in seconds."""

    xs: list[Any]
    ys: list[Any]
    seconds: list[float]


async def stream(
    url: str, number: int, begins: float, count: int, chunk: int, apart: float, width: int
) -> Sent:
    """One client of `count` messages, `apart` seconds apart. begins: when its first is due, by the loop's clock."""
    loop, draw = asyncio.get_running_loop(), np.random.default_rng(number)
    plain = np.ones((chunk, width), np.float32).tobytes()
    sent = Sent([], [], [])
    async with connect(url, compression=None, max_size=None, ping_interval=None) as client:
        await client.recv()

        async def listen() -> None:
            for i in range(count):
                y = await client.recv()
                sent.seconds.append(loop.time() - begins - i * apart)
                if number < WATCHED:
                    sent.ys.append(np.frombuffer(y, np.float32).reshape(chunk, -1))  # type: ignore[arg-type]

        listening = asyncio.create_task(listen())
        for i in range(count):
            await asyncio.sleep(begins + i * apart - loop.time())
            x = plain
            if number < WATCHED:
                sent.xs.append(draw.standard_normal((chunk, width)).astype(np.float32))
                x = sent.xs[-1].tobytes()
            await client.send(x)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(listening, 20)
    return sent


async def all_streams(url: str, streams: int, count: int, chunk: int, apart: float, width: int) -> list[Sent]:
    """All clients, spread over a message's time."""
    begins = asyncio.get_running_loop().time() + WARM
    return await asyncio.gather(
        *(stream(url, i, begins + i * apart / streams, count, chunk, apart, width) for i in range(streams))
    )


def measure(path: Path, width: int, options: argparse.Namespace, chunk: int) -> dict[str, Any]:
    """One row of the table."""
    apart = chunk / options.rate
    count = round(options.seconds / apart)
    with server(path, options.processes) as serving:
        before, own = serving.seconds(), time.process_time()
        sent = asyncio.run(all_streams(serving.url, options.streams, count, chunk, apart, width))
        spent, own = serving.seconds() - before, time.process_time() - own
    model = load(path)
    for one in sent[:WATCHED]:
        y = np.concatenate(one.ys)
        expected = model.run(np.concatenate(one.xs)[:, None]).y[: len(y), 0]
        assert np.array_equal(y, expected), "an answer is not that of the model alone"
    taken = np.concatenate([one.seconds for one in sent]) * 1e3
    return {
        "steps a message": chunk,
        "messages": len(taken),
        "lost": options.streams * count - len(taken),
        "row-steps a second": round(len(taken) * chunk / options.seconds),
        "p50 ms": round(float(np.quantile(taken, 0.5)), 2),
        "p99 ms": round(float(np.quantile(taken, 0.99)), 2),
        "longest ms": round(float(taken.max()), 2),
        "server CPU s": round(spent, 2),
        "client CPU s": round(own, 2),
    }


async def come_and_go(url: str, count: int, at_once: int = 40) -> int:
    """Sessions opened, used and closed, a third of them without a word; how many were answered."""
    x = np.ones((3, 256), np.float32).tobytes()
    answered = 0

    async def some(first: int) -> None:
        nonlocal answered
        for i in range(first, count, at_once):
            async with connect(url, compression=None, ping_interval=None, open_timeout=None) as client:
                await client.recv()
                await client.send(x)
                await client.recv()
                answered += 1
                if i % 3 == 0:
                    client.transport.abort()

    await asyncio.gather(*map(some, range(at_once)))
    return answered


def sessions(path: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The server's memory along the way."""
    rows, part = [], max(1, options.sessions // 10)
    # Patient: the clients may be slow, for they are 40 at once on the same cores.
    with server(path, options.processes, "--slow", "1000") as serving:
        asyncio.run(come_and_go(serving.url, min(1000, options.sessions)))
        done = 0
        while done <= options.sessions:
            rows.append({"sessions": done, "MiB": round(serving.resident(), 1)})
            print(rows[-1], flush=True)
            if done < options.sessions:
                assert asyncio.run(come_and_go(serving.url, part)) == part
            done += part
    return rows


def write(name: str, options: argparse.Namespace, rows: list[dict[str, Any]], what: str) -> None:
    """Into benchmarks/results."""
    machine = f"{platform.machine()}, {len(options.cores)} cores for server and clients together"
    date = datetime.now(UTC).date().isoformat()
    given = {key: value for key, value in vars(options).items() if key not in {"cores", "out"}}
    how = " ".join(
        f"--{key} {' '.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in given.items()
    )
    record = {"suite": name, "date": date, "machine": machine, "options": how, "results": rows}
    (options.out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    command = "serving" if name == "serving_sessions" else name
    head = list(rows[0])
    table = "\n".join(
        f"| {' | '.join(map(str, cells))} |"
        for cells in (head, ["---"] * len(head), *([row[key] for key in head] for row in rows))
    )
    where = f"{date}; {machine}; `python -m benchmarks.{command} {how}`."
    page = f"# {name}\n\n{what.strip()}\n\n{where}\n\n{table}\n"
    (options.out / f"{name}.md").write_text(page, encoding="utf-8")


def main() -> int:
    """Measure, print, write. Exit code 1 where the bar is missed or an answer is lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--streams", type=int, default=150)
    parser.add_argument("--rate", type=float, default=50.0, help="steps a second of each stream")
    parser.add_argument("--chunks", type=int, nargs="+", default=[5, 10], help="steps a message")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--sessions", type=int, default=0, help="open and close so many sessions instead")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()

    options.cores = os.sched_getaffinity(0)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = export(elman.LSTM(256, 256), Path(folder) / "lstm.elman")
        if options.sessions:
            rows = sessions(path, options)
            missed = rows[-1]["MiB"] > rows[1]["MiB"] * 1.1
        else:
            rows = []
            for chunk in options.chunks:
                rows.append(measure(path, 256, options, chunk))
                print(rows[-1], flush=True)
            missed = any(row["p99 ms"] > BAR_MS or row["lost"] for row in rows)
    if options.out:
        write("serving_sessions" if options.sessions else "serving", options, rows, __doc__ or "")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
