"""Many live sounds behind `elman serve`, server and clients on the same machine: how long a piece of sound takes.

`python -m benchmarks.serving_sound`: 100 sounds at 8 kHz, as they are spoken, in pieces of 160 ms, to the network of
configs/speech/streaming.toml (two GRU layers of 128 units, a step each 30 ms; untrained). Latency is from a piece's
last sample to its whole answer. The words of some sounds are compared with those of the whole recording, bit for bit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from websockets.asyncio.client import connect

import elman
from benchmarks.serving import BAR_MS, WARM, WATCHED, server, write
from elman.frozen import export
from elman.nn import Features, Tagger
from elman.runtime import load

RATE, BANDS, STRIDE = 8000, 40, 3


def network(path: Path) -> Path:
    """Frozen, with drawn weights."""
    symbols, size = "abcdefghijklmnopqrstuvwxyz ", STRIDE * BANDS
    model = Tagger(Features(size), elman.GRU(size, 128, num_layers=2), len(symbols) + 1)
    with torch.no_grad():
        model.head.weight *= 20
    mel = {"rate": RATE, "window": 200, "hop": 80, "bands": BANDS, "low": 60.0, "high": 3900.0}
    statistics = {"mean": [-4.0] * BANDS, "deviation": [2.0] * BANDS}
    codec = {"mel": mel, "statistics": statistics, "symbols": list(symbols), "words": False, "classes": []}
    reading = {"normalization": "running", "stride": STRIDE, "ahead": 0}
    texts = {"task": "speech", "codec": json.dumps(codec), "reading": json.dumps(reading)}
    return export(model, path, texts=texts)


def sound(number: int, length: int) -> Any:
    """Noise that swells and fades, 16 bits."""
    draw = np.random.default_rng(number)
    loud = np.sin(np.arange(length) / draw.uniform(200, 2000)) ** 2
    return (draw.normal(size=length) * loud * 5000).clip(-32768, 32767).astype("<i2")


async def speak(url: str, number: int, begins: float, count: int, piece: int) -> tuple[list[float], Any]:
    """One client: how long each piece took, in seconds, and what was said at the end."""
    loop, samples, taken = asyncio.get_running_loop(), sound(number, count * piece), []
    async with connect(url, compression=None, max_size=None, ping_interval=None) as client:
        await client.recv()
        await client.send(json.dumps({"sound": {"rate": RATE, "endpoint": 0}}))
        await client.recv()

        async def listen() -> None:
            for i in range(count):
                said = json.loads(await client.recv())
                assert "heard" in said, said
                taken.append(loop.time() - begins - i * piece / RATE)

        listening = asyncio.create_task(listen())
        for i in range(count):
            await asyncio.sleep(begins + i * piece / RATE - loop.time())
            await client.send(samples[i * piece : (i + 1) * piece].tobytes())
        await asyncio.wait_for(listening, 20)
        await client.send('{"finish": true}')
        return taken, json.loads(await client.recv())["heard"]


async def all_of_them(url: str, streams: int, count: int, piece: int) -> list[tuple[list[float], Any]]:
    """All clients, spread over a piece's time."""
    begins = asyncio.get_running_loop().time() + WARM
    apart = piece / RATE / streams
    return await asyncio.gather(*(speak(url, i, begins + i * apart, count, piece) for i in range(streams)))


def measure(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The row of the table."""
    piece = round(options.piece * RATE)
    count = round(options.seconds / options.piece)
    with server(path, 1, "--length", "100000") as serving:
        before, own = serving.seconds(), time.process_time()
        said = asyncio.run(all_of_them(serving.url, options.streams, count, piece))
        spent, own = serving.seconds() - before, time.process_time() - own
    model, words = load(path), 0
    for number, (_, heard) in enumerate(said[:WATCHED]):
        (expected,) = model.predict([sound(number, count * piece) / np.float32(2**15)])
        assert [word for one in heard for word in one["words"]] == expected["words"], "not that of the whole"
        words += len(expected["words"])
    assert words, "nothing was heard that could be compared"
    taken = np.concatenate([one for one, _ in said]) * 1e3
    return {
        "sounds": options.streams,
        "pieces": len(taken),
        "lost": options.streams * count - len(taken),
        "p50 ms": round(float(np.quantile(taken, 0.5)), 2),
        "p99 ms": round(float(np.quantile(taken, 0.99)), 2),
        "longest ms": round(float(taken.max()), 2),
        "server CPU s": round(spent, 2),
        "client CPU s": round(own, 2),
    }


def main() -> int:
    """Measure, print, write. Exit code 1 where an answer is lost, or the 99th of 100 takes longer than for rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving_sound", description=__doc__)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--piece", type=float, default=0.16, help="seconds of sound in a message")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    options.cores = os.sched_getaffinity(0)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        row = measure(network(Path(folder) / "ear.elman"), options)
    print(row, flush=True)
    if options.out:
        write("serving_sound", options, [row], __doc__ or "")
    return int(row["p99 ms"] > BAR_MS or row["lost"] > 0)


if __name__ == "__main__":
    sys.exit(main())
