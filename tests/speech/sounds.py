"""Small recordings: each letter is a tone, a space is silence, over a little noise."""

from __future__ import annotations

import csv
import random
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

RATE = 8000
TONES = {"a": 400.0, "b": 900.0, "c": 1500.0}


def tones(text: str, seed: int = 0, *, seconds: float = 0.09) -> npt.NDArray[np.float32]:
    """The sound of a text."""
    draw = np.random.default_rng(seed)
    pieces = []
    for letter in text:
        t = np.arange(int(draw.uniform(0.9, 1.1) * seconds * RATE)) / RATE
        tone = 0.3 * np.sin(2 * np.pi * TONES[letter] * t) if letter != " " else 0.0 * t
        pieces += [tone, np.zeros(int(0.02 * RATE))]
    sound = np.concatenate([np.zeros(400), *pieces, np.zeros(400)])
    return (sound + 0.003 * draw.standard_normal(len(sound))).astype(np.float32)


def write_wav(path: Path, samples: npt.NDArray[np.float32], rate: int = RATE) -> Path:
    """A WAV file of 16 bits; `(N,)` or `(N, channels)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = samples if samples.ndim == 2 else samples[:, None]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(whole.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(whole, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def texts(count: int, seed: int = 0) -> list[str]:
    """Texts of one to three words of one or two letters."""
    draw = random.Random(seed)
    return [
        " ".join("".join(draw.choices("abc", k=draw.randint(1, 2))) for _ in range(draw.randint(1, 3)))
        for _ in range(count)
    ]


def write_table(folder: Path, said: Sequence[str], name: str = "data.csv") -> Path:
    """Recordings in `sounds`, and a table of them with a speaker each."""
    rows = []
    for number, text in enumerate(said):
        write_wav(folder / "sounds" / f"{number}.wav", tones(text, number))
        rows.append({"path": f"sounds/{number}.wav", "text": text, "speaker": f"s{number % 4}"})
    with (folder / name).open("w", newline="") as file:
        table = csv.DictWriter(file, ["path", "text", "speaker"])
        table.writeheader()
        table.writerows(rows)
    return folder / name
