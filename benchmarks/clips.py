"""Clips that are made: `python -m benchmarks.clips FOLDER`. Twelve tags, six of them on movement.

In each clip (mp4, three seconds, 48 x 48, 10 to 14 frames a second at uneven times, noise of deviation 8):

    a figure (circle, square, triangle) that goes round, once or three times      clockwise: which way; fast: three
    a band of stripes that scrolls                                                rightward: which way
    a lamp that is red for a part of the clip and blue for the other              red first: which of them first
    a pointer that goes to and fro between two ends, turning once or three times  three turns: how often
    a block between small and large, at an even pace                              grows: which way
    tags of one frame: circle, square, triangle; large (the figure), dark (the ground), framed (a border)

Of the six tags on movement both answers show the same frames, in another order or at another speed, so that a frame
of a time that is not known, and the mean of all, say next to nothing. The middle frame of the file does give two of
them away: `benchmarks.single_frame` says how far, and why. Everything is drawn from the seed; the parts have seeds of
their own. Written are train, valid and test as folders of clips with a table `tags.csv` each.
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
MOVING = ("clockwise", "fast", "rightward", "red first", "three turns", "grows")
STILL = ("circle", "square", "triangle", "large", "dark", "framed")
SIZES = {"train": 1200, "valid": 150, "test": 400}
SEEDS = {"train": 1, "valid": 2, "test": 3}
Pixels = npt.NDArray[np.float64]


class Scene(NamedTuple):
    """What a clip shows; phases from 0 to 1."""

    tags: frozenset[str]
    shape: str
    colour: tuple[float, float, float]
    round: float
    stripes: float
    switch: float
    pointer: float
    block: float


def draw_scene(generator: np.random.Generator) -> Scene:
    """A scene: each tag with a chance of one half, and one of three shapes."""
    tags = {name for name in (*MOVING, "large", "dark", "framed") if generator.random() < 0.5}
    shape = ("circle", "square", "triangle")[int(generator.integers(3))]
    red, green, blue = generator.uniform(90, 250, 3).tolist()
    phases = generator.random(5)
    return Scene(
        frozenset({*tags, shape}),
        shape,
        (red, green, blue),
        phases[0],
        phases[1],
        0.35 + 0.3 * phases[2],
        phases[3],
        phases[4],
    )


def picture(scene: Scene, u: float) -> Pixels:
    """The frame `(48, 48, 3)` at the share u of the clip, without noise."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(float)
    frame = np.full((SIDE, SIDE, 3), 40.0 if "dark" in scene.tags else 140.0)
    _stripes(frame, scene, u)
    _lamp(frame, scene, u)
    _pointer(frame, scene, u, x, y)
    _block(frame, scene, u)
    _figure(frame, scene, u, x, y)
    if "framed" in scene.tags:
        frame[[0, -1]] = frame[:, [0, -1]] = 255
    return frame


def _figure(frame: Pixels, scene: Scene, u: float, x: Pixels, y: Pixels) -> None:
    """On a circle about the middle; whole rounds, so that every place is as likely at any speed."""
    rounds = 3 if "fast" in scene.tags else 1
    turn = 2 * math.pi * (scene.round + rounds * u * (1 if "clockwise" in scene.tags else -1))
    across, down = x - (23.5 + 9.5 * math.cos(turn)), y - (25.5 + 9.5 * math.sin(turn))
    size = 5.0 if "large" in scene.tags else 3.2
    inside = {
        "circle": across**2 + down**2 <= size**2,
        "square": np.maximum(abs(across), abs(down)) <= 0.88 * size,
        "triangle": (down <= 0.8 * size) & (down >= 2 * abs(across) - size),
    }[scene.shape]
    frame[inside] = scene.colour


def _stripes(frame: Pixels, scene: Scene, u: float) -> None:
    """At the foot: stripes of 12 pixels, five of which pass in the clip."""
    way = 1 if "rightward" in scene.tags else -1
    waves = np.sin(2 * np.pi * (np.arange(SIDE) / 12 - scene.stripes - way * 5 * u))
    frame[41:47] = (128 + 90 * np.sign(waves))[None, :, None]


def _lamp(frame: Pixels, scene: Scene, u: float) -> None:
    """Top left: red and blue. Of both orders it is red for the same share of the clip."""
    first = u < (scene.switch if "red first" in scene.tags else 1 - scene.switch)
    red = first == ("red first" in scene.tags)
    frame[2:8, 2:8] = (230, 30, 30) if red else (30, 30, 230)


def _pointer(frame: Pixels, scene: Scene, u: float, x: Pixels, y: Pixels) -> None:
    """Top middle: to and fro between two ends; one turn or three, each end and each place between as long."""
    legs = 4 if "three turns" in scene.tags else 2
    along = abs((u * legs + 1) % 2 - 1)
    at = 15 + 17 * (1 - along if scene.pointer < 0.5 else along)
    frame[(abs(x - at) <= 1.5) & (abs(y - 5) <= 3)] = (240, 240, 60)


def _block(frame: Pixels, scene: Scene, u: float) -> None:
    """Top right: from small to large, or from large to small, at an even pace."""
    size = u if "grows" in scene.tags else 1 - u
    half = 1.0 + 3.2 * size
    low, high = round(41.5 - half), round(41.5 + half)
    frame[round(6 - half) : round(6 + half), low:high] = (60, 200, 90)


def draw_times(generator: np.random.Generator) -> Pixels:
    """When the frames of a clip are taken, in seconds."""
    count = int(generator.integers(30, 43))
    times = np.sort((np.arange(count) + generator.uniform(-0.3, 0.3, count)) / count * SECONDS)
    return np.asarray(np.maximum(times - times[0], 0))


def write_clip(path: Path, scene: Scene, generator: np.random.Generator) -> None:
    """Film a scene, at times of uneven distance."""
    import av

    times = draw_times(generator)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=1000)
        stream.width = stream.height = SIDE
        stream.pix_fmt, stream.bit_rate = "yuv420p", 400_000
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        last = -1
        for time in times:
            noise = NOISE * generator.standard_normal((SIDE, SIDE, 3))
            pixels = np.clip(picture(scene, float(time) / SECONDS) + noise, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            last = max(last + 1, round(1000 * float(time)))
            frame.pts, frame.time_base = last, Fraction(1, 1000)
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
