"""The data of the gallery, drawn from a seed: nothing is fetched, nothing comes from elsewhere."""

from __future__ import annotations

import csv
import json
import math
import random
import wave
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "RATE",
    "captions",
    "clips",
    "dates",
    "dialled",
    "feelings",
    "series",
    "speech",
    "tunes",
]

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


def table(path: Path, rows: Iterable[Sequence[object]]) -> Path:
    """A CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


# Translation: dates as they are said, to ISO 8601

ORDINALS = [
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    *("eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth"),
    *("eighteenth", "nineteenth", "twentieth"),
]
ORDINALS += [f"twenty-{word}" for word in ORDINALS[:9]] + ["thirtieth", "thirty-first"]


def said(day: date, draw: random.Random) -> str:
    """A date in one of five manners."""
    month, ordinal = day.strftime("%B"), ORDINALS[day.day - 1]
    return draw.choice(
        (
            f"the {ordinal} of {month} {day.year}",
            f"{month} the {ordinal}, {day.year}",
            f"{day.day} {month} {day.year}",
            f"{month[:3]} {day.day}, {day.year}",
            f"{day.strftime('%A')}, {day.day} {month[:3]} {day.year}",
        )
    )


def dates(folder: Path, count: int = 5000) -> Path:
    """`dates.tsv`: a date as it is said, and as ISO 8601 has it."""
    draw = random.Random(1)
    days = [date(1900, 1, 1) + timedelta(days=draw.randrange(47000)) for _ in range(count)]
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["source\ttarget", *(f"{said(day, draw)}\t{day.isoformat()}" for day in days)]
    (folder / "dates.tsv").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return folder / "dates.tsv"


# Speech: the tones of a telephone's keys

RATE = 8000
LOW, HIGH = (697, 770, 852, 941), (1209, 1336, 1477)
KEYS = {
    key: (LOW[row], HIGH[column])
    for row, keys in enumerate(("123", "456", "789", "*0#"))
    for column, key in enumerate(keys)
}


def dialled(number: str, draw: random.Random) -> Floats:
    """The sound of a number that is dialled by hand, a gap for a blank, over noise and a hum of 50 Hz."""
    pieces = [np.zeros(int(RATE * draw.uniform(0.05, 0.2)))]
    for key in number:
        if key == " ":
            pieces.append(np.zeros(int(RATE * draw.uniform(0.25, 0.45))))
            continue
        t = np.arange(int(RATE * draw.uniform(0.07, 0.2))) / RATE
        pieces += [
            0.2 * np.sin(2 * np.pi * np.outer(KEYS[key], t)).sum(axis=0),
            np.zeros(int(RATE * draw.uniform(0.04, 0.1))),
        ]
    sound = np.concatenate([*pieces, np.zeros(int(RATE * draw.uniform(0.05, 0.2)))])
    noise = np.random.default_rng(draw.randrange(1 << 30)).standard_normal(len(sound))
    return sound + 0.03 * noise + 0.05 * np.sin(2 * np.pi * 50 * np.arange(len(sound)) / RATE)


def write_wav(path: Path, sound: Floats) -> Path:
    """A WAV file of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def speech(folder: Path, count: int = 400) -> Path:
    """`calls.csv` and the recordings it names: numbers in two or three groups of digits."""
    draw = random.Random(2)
    rows: list[Sequence[object]] = [("path", "text")]
    for place in range(count):
        groups = (
            "".join(draw.choices("0123456789", k=draw.randint(2, 4))) for _ in range(draw.randint(2, 3))
        )
        number = " ".join(groups)
        write_wav(folder / f"calls/{place}.wav", dialled(number, draw))
        rows.append((f"calls/{place}.wav", number))
    write_wav(folder / "call.wav", dialled("0171 426 85", draw))
    return table(folder / "calls.csv", rows)


# Captioning: two figures, one above or beside the other

COLOURS = {"red": (214, 48, 49), "green": (39, 152, 84), "blue": (41, 98, 214), "yellow": (244, 190, 38)}
FIGURES = ("circle", "square", "triangle", "star")
SIDE = 96


def figure(pen: Any, name: str, colour: str, box: tuple[float, float, float, float]) -> None:
    """Draw a figure into a box."""
    left, top, right, bottom = box
    fill = COLOURS[colour]
    if name == "circle":
        pen.ellipse(box, fill=fill)
    elif name == "square":
        pen.rectangle(box, fill=fill)
    else:
        corners = 3 if name == "triangle" else 10
        x, y, r = (left + right) / 2, (top + bottom) / 2, (right - left) / 2
        radii = [r] * 3 if name == "triangle" else [r, 0.45 * r] * 5
        turn = [2 * math.pi * k / corners for k in range(corners)]
        pen.polygon(
            [(x + s * math.sin(a), y - s * math.cos(a)) for s, a in zip(radii, turn, strict=True)], fill=fill
        )


def scene(draw: random.Random) -> tuple[Pixels, str]:
    """A picture `(96, 96, 3)` and what it shows."""
    from PIL import Image, ImageDraw

    scale = 3
    ground = tuple(draw.randint(225, 255) for _ in range(3))
    image = Image.new("RGB", (scale * SIDE, scale * SIDE), ground)
    pen = ImageDraw.Draw(image)
    above = draw.random() < 0.5
    chosen = [(draw.choice([*COLOURS]), draw.choice(FIGURES)) for _ in range(2)]
    for place, (colour, name) in enumerate(chosen):
        size = draw.uniform(26, 40)
        first, second = draw.uniform(3, 8) + 48 * place, draw.uniform(4, SIDE - size - 4)
        x, y = (second, first) if above else (first, second)
        figure(pen, name, colour, (scale * x, scale * y, scale * (x + size), scale * (y + size)))
    (first_one, second_one) = (f"a {colour} {name}" for colour, name in chosen)
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    return pixels, f"{first_one} {'above' if above else 'left of'} {second_one}"


def captions(folder: Path, count: int = 1600) -> Path:
    """`captions.csv` and the pictures it names; and `picture.png`, which is not in it."""
    from PIL import Image

    draw = random.Random(3)
    rows: list[Sequence[object]] = [("picture", "caption")]
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for place in range(count):
        pixels, caption = scene(draw)
        Image.fromarray(pixels).save(folder / f"pictures/{place}.png")
        rows.append((f"pictures/{place}.png", caption))
    Image.fromarray(scene(random.Random(33))[0]).save(folder / "picture.png")
    return table(folder / "captions.csv", rows)


# Video tagging: a ball that rolls, and turns round now and then

FRAMES, PER_SECOND, SMALL = 24, 8, 48


def film(draw: random.Random) -> tuple[Pixels, list[tuple[str, int, int]]]:
    """The frames `(24, 48, 48, 3)` of a clip; and which way it rolls from which frame to which."""
    noise = np.random.default_rng(draw.randrange(1 << 30))
    turns = sorted(draw.sample(range(5, FRAMES - 4), draw.randint(0, 2)))
    edges, way = [0, *turns, FRAMES], draw.choice((1, -1))
    steps, stretches = np.zeros(FRAMES), []
    for start, end in pairwise(edges):
        steps[start:end] = way
        stretches.append(("rightward" if way > 0 else "leftward", start, end))
        way = -way
    place = draw.uniform(20, 28) + draw.uniform(0.7, 0.9) * steps.cumsum()
    y, x = np.mgrid[0:SMALL, 0:SMALL]
    row, size = draw.uniform(14, 34), draw.uniform(4, 6)
    colour = [draw.uniform(150, 250), draw.uniform(60, 200), draw.uniform(20, 120)]
    frames = np.full((FRAMES, SMALL, SMALL, 3), 45.0) + 6 * noise.standard_normal((FRAMES, SMALL, SMALL, 3))
    for frame, at in zip(frames, place, strict=True):
        frame[np.hypot(x - at, y - row) <= size] = colour
    return np.clip(frames, 0, 255).astype(np.uint8), stretches


def write_film(path: Path, frames: Pixels) -> Path:
    """An mp4 file."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=Fraction(PER_SECOND))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.bit_rate = 500_000
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def clips(folder: Path, count: int = 300) -> Path:
    """`stretches.csv` and the clips it names; and `clip.mp4`, which is not in it."""
    draw = random.Random(4)
    rows: list[Sequence[object]] = [("path", "tag", "start", "end")]
    for place in range(count):
        frames, stretches = film(draw)
        write_film(folder / f"clips/{place}.mp4", frames)
        for tag, start, end in stretches:
            rows.append((f"clips/{place}.mp4", tag, start / PER_SECOND, end / PER_SECOND))
    write_film(folder / "clip.mp4", film(random.Random(44))[0])
    return table(folder / "stretches.csv", rows)


# Emotion: sentences that say how somebody feels, or that they do not feel so

WHO = [
    "I",
    "my sister",
    "the old man",
    "our neighbour",
    "everybody here",
    "the new teacher",
    "she",
    "the whole team",
]
WHAT = {
    "joy": (
        "was delighted",
        "laughed out loud",
        "could not stop smiling",
        "felt wonderful",
        "cheered",
        "danced with joy",
    ),
    "anger": (
        "was furious",
        "slammed the door",
        "shouted at us",
        "felt cheated",
        "was fed up",
        "swore under their breath",
    ),
    "fear": (
        "was terrified",
        "trembled",
        "hid under the table",
        "felt uneasy",
        "panicked",
        "dared not breathe",
    ),
    "sadness": (
        "wept",
        "felt lonely",
        "was heartbroken",
        "missed the dog",
        "sat in silence",
        "was close to tears",
    ),
}
WHEN = [
    *("when the letter came", "after the match", "because of the noise", "as the train left"),
    *("when the lights went out", "in the end", "all evening long", "when the results were read"),
    *("on the way home", "at the news"),
]
HOW = ("", "", "really ", "at first ", "for once ", "suddenly ", "as usual ")


def feelings(folder: Path, count: int = 3000) -> Path:
    """`feelings.csv`: sentences with a feeling each; what only seemed so, or was before, does not count."""
    draw = random.Random(5)
    rows: list[Sequence[object]] = [("text", "emotion")]
    for _ in range(count):
        emotion, other = draw.sample([*WHAT], 2)
        who, when = draw.choice(WHO), draw.choice(WHEN)
        text = f"{draw.choice(HOW)}{who} {draw.choice(WHAT[emotion])} {when}"
        if draw.random() < 0.4:
            text += f", though {draw.choice(WHO)} {draw.choice(WHAT[other])}"
        elif draw.random() < 0.4:
            text = f"although {draw.choice(WHO)} {draw.choice(WHAT[other])}, {text}"
        rows.append((f"{text[0].upper()}{text[1:]}.", emotion))
    return table(folder / "feelings.csv", rows)


# Series: visitors of a swimming pool, a row a day


def series(folder: Path, days: int = 1400) -> Path:
    """`pool.csv`: date and visitors; more at weekends and in summer, fewer while it rains, which lasts some days."""
    draw = np.random.default_rng(6)
    start, weather, rows = date(2021, 1, 1), 0.0, [("date", "visitors")]
    for number in range(days):
        day = start + timedelta(days=number)
        weather = 0.75 * weather + 0.25 * draw.standard_normal()
        summer = math.sin(2 * math.pi * (day.timetuple().tm_yday - 105) / 365.25)
        weekend = {5: 0.55, 6: 0.7}.get(day.weekday(), 0.0)
        level = 5.2 + 0.6 * summer + weekend + (0.5 + 0.4 * summer) * weather + 0.06 * draw.standard_normal()
        rows.append((day.isoformat(), str(round(math.exp(level)))))
    return table(folder / "pool.csv", rows)


# Music: a melody that walks through the chords below it

CHORDS = {"I": (0, 4, 7), "IV": (5, 9, 12), "V": (7, 11, 14), "vi": (9, 12, 16), "ii": (2, 5, 9)}
NEXT = {
    "I": ["I", "IV", "V", "vi"],
    "IV": ["I", "V", "ii"],
    "V": ["I", "I", "vi"],
    "vi": ["IV", "ii", "V"],
    "ii": ["V", "V"],
}
SCALE = (0, 2, 4, 5, 7, 9, 11)


def tune(draw: random.Random, bars: int = 8) -> list[list[int]]:
    """A piece in eighth notes: a bass, two voices and a melody, which ends where it began."""
    key, name, found = 48 + draw.randint(0, 5), "I", []
    tones = [key + 12 + 12 * octave + tone for octave in range(2) for tone in SCALE]
    at = draw.choice([4, 7, 9])
    for bar in range(bars):
        name = "I" if bar in {0, bars - 1} else "V" if bar == bars - 2 else draw.choice(NEXT[name])
        chord = [key + tone for tone in CHORDS[name]]
        for eighth in range(8):
            if bar == bars - 1 and eighth >= 4:
                at = 7
            elif eighth % 2 == 0 or draw.random() < 0.4:
                near = [k for k in range(max(0, at - 3), min(len(tones), at + 4)) if k != at]
                own = [k for k in near if (tones[k] - chord[0]) % 12 in {(c - chord[0]) % 12 for c in chord}]
                at = (
                    draw.choice(own or near)
                    if eighth % 4 == 0
                    else draw.choice([k for k in near if abs(k - at) < 2])
                )
            found.append(sorted({chord[0] - 12, *chord[1:], tones[at]}))
    return found


def tunes(folder: Path, count: int = 300) -> Path:
    """`tunes.jsonl`: a piece a line."""
    draw = random.Random(7)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(tune(draw)) for _ in range(count)]
    (folder / "tunes.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return folder / "tunes.jsonl"
