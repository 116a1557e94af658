"""Recognizers that were never trained, frozen: they write much, and nothing that was said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

import elman
from elman.frozen import export
from elman.nn import Features, Tagger
from elman.runtime.hearing import BestPath, words_of
from elman.runtime.speech import SoundReader

RATE = 8000
MEL = {"rate": RATE, "window": 200, "hop": 80, "bands": 12, "low": 60.0, "high": 3900.0}
SYMBOLS = ("a", "b", "c", " ")


def write_reader(path: Path, *, seed: int = 0, bidirectional: bool = False, **reading: Any) -> Path:
    """A frozen recognizer that is silent about half of the time. reading: normalization, stride, ahead."""
    torch.manual_seed(seed)
    reading = {"normalization": "running", "stride": 2, "ahead": 1} | reading
    size = (reading["stride"] + reading["ahead"]) * MEL["bands"]
    layers = elman.GRU(size, 10, num_layers=1 if bidirectional else 2, bidirectional=bidirectional)
    network = Tagger(Features(size), layers, len(SYMBOLS) + 1)
    with torch.no_grad():
        for weight in layers.parameters():
            weight *= 4
        network.head.weight *= 8
        network.head.bias[0] += 2
    draw = np.random.default_rng(seed)
    statistics = {"mean": draw.uniform(-2, 0, 12).tolist(), "deviation": draw.uniform(1, 2, 12).tolist()}
    codec = {"mel": MEL, "statistics": statistics, "symbols": list(SYMBOLS), "words": False, "classes": []}
    texts = {"task": "speech", "codec": json.dumps(codec), "reading": json.dumps(reading)}
    return export(network, path, texts=texts)


def noise(seed: int, length: int) -> np.ndarray:
    """Sound that swells and fades, in sixteen bits."""
    draw = np.random.default_rng(seed)
    loud = np.abs(np.sin(np.arange(length) / draw.uniform(100, 900))) ** 3
    return np.asarray(np.clip(draw.normal(size=length) * loud * 9000, -32768, 32767), dtype="<i2")


def cuts(draw: np.random.Generator, length: int) -> list[int]:
    """Where a sound is cut: anywhere, also often at neighbouring samples, and twice at the same."""
    places = draw.integers(0, length + 1, draw.integers(0, 12))
    return [0, *sorted([*places, *(places[:2] + 1).clip(max=length)]), length]


def whole(model: SoundReader, samples: np.ndarray) -> dict[str, Any]:
    """What is heard of a whole sound: the oracle, without a stream."""
    (logs,) = model.logs([model.steps(samples)])
    path = BestPath()
    path.read(logs.max(axis=1, initial=-np.inf).tolist(), logs.argmax(axis=1).tolist() if len(logs) else [])
    found = words_of(path.symbols, model.symbols, model.seconds)
    return {"text": found.text, "words": [word.to_json() for word in found.words]}
