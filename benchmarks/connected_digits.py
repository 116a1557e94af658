"""Strings of spoken digits from single ones: `python -m benchmarks.connected_digits FSDD_FOLDER OUT_FOLDER`.

The Free Spoken Digit Dataset (CC BY-SA 4.0) has 3,000 recordings of single digits by six speakers. A string joins three
to seven of one speaker, with pauses of .05 to .4 s between them and .1 to .4 s around, under noise 15 to 30 dB below
the speech; the noise is white, filtered by a first-order pole drawn for each string. Recordings 0 to 4 of each digit
and speaker, the official test set, make 500 test strings, each recording used equally often (to within one); 5 to 7
make the validation strings, the others the training strings. Written are FOLDER/{train,valid,test}/NAME.wav and a
table for each part, with the transcript in words and the end of each word in seconds. One seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE = 8000
SHORTEST, LONGEST = 3, 7
# Strings of each part, and the numbers of the recordings that they are made of.
PARTS = {"train": (3000, range(8, 50)), "valid": (200, range(5, 8)), "test": (500, range(5))}

Floats = npt.NDArray[np.float64]


class Digit(NamedTuple):
    """A recording."""

    digit: int
    speaker: str
    take: int
    path: Path


class String(NamedTuple):
    """Digits that are said one after another, with the sample at which each ends."""

    samples: npt.NDArray[np.int16]
    digits: list[Digit]
    ends: list[int]


def digits_in(folder: Path) -> list[Digit]:
    """The recordings of a folder, in the order of their names."""
    found = []
    for path in sorted(folder.glob("*.wav")):
        digit, speaker, take = path.stem.split("_")
        found.append(Digit(int(digit), speaker, int(take), path))
    return found


def groups(digits: Sequence[Digit], count: int, generator: np.random.Generator) -> Iterator[list[Digit]]:
    """`count` strings of one speaker each; every recording comes equally often, to within one."""
    speakers = sorted({digit.speaker for digit in digits})
    decks: dict[str, list[Digit]] = {speaker: [] for speaker in speakers}
    for number in range(count):
        speaker = speakers[number % len(speakers)]
        deck = decks[speaker]
        size = int(generator.integers(SHORTEST, LONGEST + 1))
        while len(deck) < size:
            own = [digit for digit in digits if digit.speaker == speaker]
            deck += [own[i] for i in generator.permutation(len(own))]
        yield [deck.pop(0) for _ in range(size)]


def joined(digits: list[Digit], sounds: dict[Path, Floats], generator: np.random.Generator) -> String:
    """The digits with pauses, under noise."""
    pieces = [_pause(generator, 0.1)]
    ends = []
    for place, digit in enumerate(digits):
        pieces.append(sounds[digit.path])
        ends.append(sum(map(len, pieces)))
        pieces.append(_pause(generator, 0.05 if place < len(digits) - 1 else 0.1))
    clean = np.concatenate(pieces)
    power = float(np.mean(np.concatenate([sounds[digit.path] for digit in digits]) ** 2))
    noise = _noise(len(clean), generator)
    noise *= np.sqrt(power * 10 ** (-generator.uniform(15, 30) / 10) / np.mean(noise**2))
    loud = clean + noise
    loud *= min(1.0, 0.99 / np.abs(loud).max())
    return String(np.round(loud * 32767).astype(np.int16), digits, ends)


def _pause(generator: np.random.Generator, least: float) -> Floats:
    return np.zeros(round(generator.uniform(least, 0.4) * RATE))


def _noise(count: int, generator: np.random.Generator) -> Floats:
    """White noise through y_n = x_n + a y_{n−1}, by the first 200 terms of its response."""
    pole = generator.uniform(0, 0.9)
    white = generator.standard_normal(count + 200)
    return np.convolve(white, pole ** np.arange(200), mode="full")[200 : 200 + count]


def write(folder: Path, out: Path, seed: int, sizes: dict[str, int]) -> None:
    """All parts."""
    import soundfile

    digits = digits_in(folder)
    if not digits:
        raise SystemExit(f"{folder} holds no recordings called DIGIT_SPEAKER_INDEX.wav")
    sounds: dict[Path, Floats] = {}
    for digit in digits:
        samples, rate = soundfile.read(str(digit.path))
        assert rate == RATE
        sounds[digit.path] = samples - samples.mean()
    for part, (count, takes) in PARTS.items():
        generator = np.random.default_rng([seed, list(PARTS).index(part)])
        own = [digit for digit in digits if digit.take in takes]
        home = out / part
        home.mkdir(parents=True, exist_ok=True)
        rows = []
        for number, chosen in enumerate(groups(own, sizes.get(part) or count, generator)):
            string = joined(chosen, sounds, generator)
            name = f"{part}/{number:04d}.wav"
            soundfile.write(str(out / name), string.samples, RATE, subtype="PCM_16")
            rows.append(_row(name, string))
        with (out / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)


def _row(name: str, string: String) -> dict[str, Any]:
    return {
        "path": name,
        "text": " ".join(WORDS[digit.digit] for digit in string.digits),
        "speaker": string.digits[0].speaker,
        "ends": " ".join(f"{end / RATE:.4f}" for end in string.ends),
    }


def main(arguments: list[str] | None = None) -> int:
    """Write the strings."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.connected_digits", description=__doc__)
    parser.add_argument("folder", type=Path, help="the recordings of single digits")
    parser.add_argument("out", type=Path, help="where the strings are written")
    parser.add_argument("--seed", type=int, default=1)
    for part, (count, _) in PARTS.items():
        parser.add_argument(f"--{part}", type=int, default=0, help=f"strings to make (default: {count})")
    options = parser.parse_args(arguments)
    sizes = {part: getattr(options, part) for part in PARTS}
    write(options.folder, options.out, options.seed, sizes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
