"""Small clips: a dot that goes up or down, as features and as films; and films of flat colours at given times."""

import csv
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SIDE = 32
RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 220)


def way_of(number: int) -> str:
    return "up" if number % 2 else "down"


def walk(number: int) -> npt.NDArray[np.float64]:
    """`(T, 2)`: a place beside noise; it begins anywhere, so that one frame says nothing."""
    draw = np.random.default_rng(number)
    size = int(draw.integers(6, 12))
    step = 0.5 if way_of(number) == "up" else -0.5
    return np.stack((draw.uniform(-3, 3) + step * np.arange(size), draw.normal(0, 0.3, size)), axis=1)


def write_features(folder: Path, count: int) -> list[str]:
    """Files 0.csv, 1.csv, ...; which way each of them goes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        np.savetxt(folder / f"{number}.csv", walk(number), delimiter=",", fmt="%.4f")
    return [way_of(number) for number in range(count)]


def write_frames(path: Path, count: int) -> None:
    """One table for all: clip, frame, person, x, y, label."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("clip", "frame", "person", "x", "y", "label"))
        for number in range(count):
            for frame, (x, y) in enumerate(walk(number)):
                writer.writerow((f"c{number}", frame, number % 10, f"{x:.4f}", f"{y:.4f}", way_of(number)))


def write_film(
    path: Path, pictures: Sequence[npt.NDArray[np.uint8]], times: Sequence[float], codec: str = "mpeg4"
) -> None:
    """A film whose pictures begin at these times, in seconds."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=100 if codec == "gif" else 1000)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        base = Fraction(1, 100 if codec == "gif" else 1000)
        stream.codec_context.time_base = stream.time_base = base
        for pixels, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(time / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def flat(colour: tuple[int, int, int], height: int = SIDE, width: int = SIDE) -> npt.NDArray[np.uint8]:
    return np.full((height, width, 3), colour, dtype=np.uint8)


def dot(at: float) -> npt.NDArray[np.uint8]:
    picture = flat((20, 20, 20))
    row = int(np.clip(at, 3, SIDE - 4))
    picture[row - 3 : row + 4, 12:20] = (240, 240, 240)
    return picture


def write_films(folder: Path, count: int) -> None:
    """A folder up and one down, of films of a second in which a dot goes so."""
    for number in range(count):
        draw = np.random.default_rng(number)
        start, way = draw.uniform(8, 20), -1.2 if way_of(number) == "up" else 1.2
        home = folder / way_of(number)
        home.mkdir(parents=True, exist_ok=True)
        times = np.arange(8) / 8
        write_film(home / f"{number}.mp4", [dot(start + way * k) for k in range(8)], times.tolist())


def write_sound(path: Path) -> None:
    """A file of a video's form that holds sound alone."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def turned(path: Path) -> None:
    """Write into an mp4 that it is to be turned by a quarter, clockwise: the matrix of its track header."""
    whole = bytearray(path.read_bytes())
    at = whole.index(b"tkhd") + 4
    # Version 0: flags, two times, track, reserved, duration (24 bytes), then 16 of layer and volume, then the matrix.
    matrix = [0, 0x10000, 0, 0xFFFF0000, 0, 0, 32 << 16, 0, 0x40000000]
    place = at + 24 + 16
    whole[place : place + 36] = b"".join(value.to_bytes(4, "big") for value in matrix)
    path.write_bytes(whole)
