"""Clips that are made: `python -m benchmarks.clips FOLDER`. Twelve tags, six of them on movement.

In each clip (mp4, three seconds, 48 x 48, 10 to 14 frames a second at uneven times, noise of deviation 8):

    a figure (circle, square, triangle) that goes round, once or three times        clockwise: which way; fast: three
    a band of stripes that scrolls                                                  rightward: which way
    a lamp that is red, blue and white by turns                                     red to blue: what follows red
    a pointer that goes to and fro between two ends, turning twice or four times    four turns: how often
    a block between small and large, at an even pace; at its end it starts anew     grows: which way
    tags of one frame: circle, square, triangle; large (the figure), dark (the ground), framed (a border)

No single frame shows one of the six tags on movement. Each of the five movements is a phase that begins anywhere and
makes whole rounds in the clip, and a frame is drawn from the phases of its moment alone: at any moment every phase is
as likely whatever the tags, and over a clip both answers show the same frames, in another order or at another speed.
The times of frames and the noise know nothing of the tags, and each frame is compressed by itself, with one quantizer.
`benchmarks.single_frame` asks trees how much a frame gives away. Everything is drawn from the seed; the parts have
seeds of their own. Written are train, valid and test as folders of clips with a table `tags.csv` each.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

SIDE, SECONDS, NOISE = 48, 3.0, 8.0
MOVING = ("clockwise", "fast", "rightward", "red to blue", "four turns", "grows")
STILL = ("circle", "square", "triangle", "large", "dark", "framed")
SIZES = {"train": 1200, "valid": 150, "test": 400}
SEEDS = {"train": 1, "valid": 2, "test": 3}
LAMP = ((230, 30, 30), (30, 30, 230), (230, 230, 230))
QUANTIZER = 3
Pixels = npt.NDArray[np.float64]


class Phases(NamedTuple):
    """Where each movement is, from 0 to 1; or by how many rounds it goes on in the clip."""

    figure: float
    stripes: float
    lamp: float
    pointer: float
    block: float


class Scene(NamedTuple):
    """What a clip shows; start: the phases at its beginning."""

    tags: frozenset[str]
    shape: str
    colour: tuple[float, float, float]
    start: Phases


def draw_scene(generator: np.random.Generator) -> Scene:
    """A scene: each tag with a chance of one half, one of three shapes, and movements that begin anywhere."""
    tags = {name for name in (*MOVING, "large", "dark", "framed") if generator.random() < 0.5}
    shape = ("circle", "square", "triangle")[int(generator.integers(3))]
    red, green, blue = generator.uniform(90, 250, 3).tolist()
    return Scene(frozenset({*tags, shape}), shape, (red, green, blue), Phases(*generator.random(5).tolist()))


def rounds(tags: frozenset[str]) -> Phases:
    """Whole ones, of each movement; this is all that the tags on movement say."""

    def way(name: str) -> int:
        return 1 if name in tags else -1

    return Phases(
        figure=way("clockwise") * (3 if "fast" in tags else 1),
        stripes=5 * way("rightward"),
        lamp=way("red to blue"),
        pointer=2 if "four turns" in tags else 1,
        block=way("grows"),
    )


def phases_at(scene: Scene, u: float) -> Phases:
    """The phases at the share u of the clip."""
    return Phases(*((start + n * u) % 1 for start, n in zip(scene.start, rounds(scene.tags), strict=True)))


def picture(scene: Scene, u: float) -> Pixels:
    """The frame `(48, 48, 3)` at the share u of the clip, without noise."""
    return drawn(scene.tags & set(STILL), scene.shape, scene.colour, phases_at(scene, u))


def drawn(tags: frozenset[str], shape: str, colour: tuple[float, float, float], at: Phases) -> Pixels:
    """The frame of some phases; of the tags it sees those of one frame."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(float)
    frame = np.full((SIDE, SIDE, 3), 40.0 if "dark" in tags else 140.0)
    frame[41:47] = (128 + 90 * np.sign(np.sin(2 * np.pi * (np.arange(SIDE) / 12 - at.stripes))))[
        None, :, None
    ]
    frame[2:8, 2:8] = LAMP[int(3 * at.lamp)]
    # To and fro: each place between the ends is as likely, and each way to go on from it.
    frame[(abs(x - 15 - 17 * abs(2 * at.pointer - 1)) <= 1.5) & (abs(y - 5) <= 3)] = (240, 240, 60)
    half = 1.0 + 3.2 * at.block
    frame[round(6 - half) : round(6 + half), round(41.5 - half) : round(41.5 + half)] = (60, 200, 90)
    frame[_figure(shape, 5.0 if "large" in tags else 3.2, at.figure, x, y)] = colour
    if "framed" in tags:
        frame[[0, -1]] = frame[:, [0, -1]] = 255
    return frame


def _figure(shape: str, size: float, phase: float, x: Pixels, y: Pixels) -> npt.NDArray[np.bool_]:
    """Where it is: on a circle about the middle."""
    turn = 2 * math.pi * phase
    across, down = x - (23.5 + 9.5 * math.cos(turn)), y - (25.5 + 9.5 * math.sin(turn))
    inside: npt.NDArray[np.bool_] = {
        "circle": across**2 + down**2 <= size**2,
        "square": np.maximum(abs(across), abs(down)) <= 0.88 * size,
        "triangle": (down <= 0.8 * size) & (down >= 2 * abs(across) - size),
    }[shape]
    return inside


def draw_shares(generator: np.random.Generator) -> Pixels:
    """Which shares of the clip its frames show: one of each equal part, at any time in the midst of it."""
    count = int(generator.integers(30, 43))
    return np.asarray((np.arange(count) + 0.5 + generator.uniform(-0.3, 0.3, count)) / count)


def times_of(shares: Pixels) -> Pixels:
    """When the file shows these frames, in seconds from the first, to a thousandth."""
    return np.asarray(np.round((shares - shares[0]) * SECONDS, 3))


def write_clip(path: Path, scene: Scene, generator: np.random.Generator) -> None:
    """Film a scene, at times of uneven distance."""
    import av

    shares = draw_shares(generator)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=1000)
        stream.width = stream.height = SIDE
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", 1
        stream.codec_context.qmin = stream.codec_context.qmax = QUANTIZER
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for u, time in zip(shares, times_of(shares), strict=True):
            noise = NOISE * generator.standard_normal((SIDE, SIDE, 3))
            pixels = np.clip(picture(scene, float(u)) + noise, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(1000 * float(time)), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write(folder: Path, sizes: dict[str, int] = SIZES) -> None:
    """All parts; a part that is there as a whole is not made again."""
    for part, count in sizes.items():
        home = folder / part
        if (home / "tags.csv").is_file():
            continue
        (home / "clips").mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(SEEDS[part])
        rows = []
        for number in range(count):
            scene = draw_scene(generator)
            name = f"clips/{number:04}.mp4"
            write_clip(home / name, scene, generator)
            rows.append((name, ";".join(tag for tag in (*MOVING, *STILL) if tag in scene.tags)))
        with (home / "tags.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("path", "tags"), *rows])


def main(arguments: list[str] | None = None) -> int:
    """Write the clips."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clips", description=__doc__)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    write(options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
