"""One real output of each of the eight applications: `python -m benchmarks.gallery`, or `make gallery`.

The data are Python's own standard library and what benchmarks/gallery/made.py draws; each model is small and trained
for a minute or some, with one seed; the first output counts. A model that stands in the folder of `--runs` is not
trained again. Written are `gallery.md` and its pictures, into `--out`.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import trainings
from benchmarks.gallery import made, pictures

SEEN_DAYS, AHEAD = 84, 28
SPEAKING = (
    "At first I was terrified when the lights went out, though everybody here cheered.",
    "Although our neighbour slammed the door, the old man could not stop smiling on the way home.",
    "She missed the dog all evening long.",
)
DATES = ("the twenty-first of March 1985", "Sunday, 3 Sep 1967", "July the fourth, 2031")


class Output(NamedTuple):
    """What an application has made: the command with its text, or a picture's file, or both."""

    typed: str
    said: str = ""
    picture: str = ""


class Exhibit(NamedTuple):
    """An application: its word, what it learns from, how it is trained, what it shows."""

    task: str
    title: str
    about: str
    data: Callable[[Path], Path] | None
    flags: Sequence[str]
    show: Callable[[Room], Iterator[Output]]


class Room(NamedTuple):
    """Where an exhibit is made: its data, its run, and the folder of the pictures."""

    data: Path
    run: Path
    pictures: Path

    def elman(self, *words: object, given: str = "") -> str:
        """What a command writes."""
        done = subprocess.run(
            [sys.executable, "-m", "elman", *map(str, words)],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        if done.returncode:
            sys.exit(f"elman {' '.join(map(str, words))}: {done.stderr}")
        return done.stdout.rstrip("\n")


# What each of them shows


def language_model(room: Room) -> Iterator[Output]:
    """Python, as it is written."""
    said = room.elman(
        *("generate", room.run, "--prompt", "def ", "--length", 420, "--temperature", 0.6, "--seed", 4)
    )
    typed = 'elman generate runs/language-model --prompt "def " --length 420 --temperature 0.6 --seed 4'
    yield Output(typed, said)


def translation(room: Room) -> Iterator[Output]:
    """Dates, and where each sign was read."""
    import elman
    from elman.plots.heat import heat_map
    from elman.tasks.translation import learning

    said = room.elman("predict", room.run, "-", given="\n".join(DATES))
    yield Output(_echoed(DATES, "translation"), said)
    model = elman.load(room.run)
    tokens = model.codec.source.encode([DATES[0]])
    best = learning.translate(model.model, tokens, learning.Search(banned=model.banned))[0][0]
    weights = learning.alignments(model.model, tokens, [best.tokens])[0]
    rows = [*(model.codec.target.text(token).replace(" ", "␣") for token in best.tokens), "(end)"]
    columns = [model.codec.source.text(int(token)).replace(" ", "␣") for token in tokens[0]]
    heat_map(
        weights.tolist(),
        room.pictures / "translation.svg",
        title="Where each sign of the date was read",
        rows=rows,
        columns=columns,
        x="read",
        y="written",
    )
    yield Output("", "", "translation.svg")


def _echoed(lines: Sequence[str], name: str) -> str:
    return (
        f"printf '%s\\n' {' '.join(chr(34) + line + chr(34) for line in lines)} | elman predict runs/{name} -"
    )


def speech(room: Room) -> Iterator[Output]:
    """A call that is not in the data."""
    call = room.data.parent / "call.wav"
    said = room.elman("transcribe", room.run, call, "--format", "words")
    found = json.loads(room.elman("transcribe", room.run, call, "--format", "json"))
    samples = np.frombuffer(call.read_bytes()[44:], dtype="<i2") / 32768
    pictures.sound(samples, made.RATE, found["words"], room.pictures / "speech.png")
    yield Output("elman transcribe runs/speech call.wav --format words", said, "speech.png")


def captioning(room: Room) -> Iterator[Output]:
    """A picture that is not in the data, and where each word looked."""
    folder = room.data.parent / "looks"
    for old in folder.glob("*.png"):
        old.unlink()
    said = room.elman("predict", room.run, room.data.parent / "picture.png", "--attention", folder)
    (room.pictures / "captioning.png").write_bytes((folder / "picture.png").read_bytes())
    yield Output("elman predict runs/captioning picture.png --attention looks", said, "captioning.png")


def video(room: Room) -> Iterator[Output]:
    """A clip that is not in the data: frames, and which way it rolls."""
    folder = room.data.parent / "sheets"
    said = room.elman("predict", room.run, room.data.parent / "clip.mp4")
    room.elman("sheet", room.run, room.data.parent / "clip.mp4", "--to", folder)
    (room.pictures / "video_tagging.png").write_bytes((folder / "clip.png").read_bytes())
    yield Output("elman predict runs/video-tagging clip.mp4", said)
    yield Output("elman sheet runs/video-tagging clip.mp4 --to sheets", "", "video_tagging.png")


def emotion(room: Room) -> Iterator[Output]:
    """Sentences, and the words that weighed."""
    given = "\n".join(SPEAKING)
    found = room.elman("predict", room.run, "-", "--json", "--words", 30, given=given)
    pictures.weighed([json.loads(line) for line in found.splitlines()], room.pictures / "emotion.svg")
    yield Output(_echoed(SPEAKING[:1], "emotion"), room.elman("predict", room.run, "-", given=SPEAKING[0]))
    yield Output("", "", "emotion.svg")


def series(room: Room) -> Iterator[Output]:
    """The last four weeks, from the days before them."""
    with room.data.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    seen = room.data.parent / "seen.csv"
    seen.write_text("\n".join(",".join(row) for row in rows[:-AHEAD]) + "\n", encoding="utf-8")
    found = json.loads(room.elman("predict", room.run, seen, "--json", "--interval", 90))
    values = [float(row[1]) for row in rows[1:]]
    ahead = next(iter(found["forecast"].values()))
    pictures.forecast(
        values[-AHEAD - SEEN_DAYS : -AHEAD], ahead, values[-AHEAD:], room.pictures / "series.png"
    )
    shown = io.StringIO()
    for row in ahead[:5]:
        shown.write(f"{row['time']}  {row['median']:.0f} ({row['low']:.0f} to {row['high']:.0f})\n")
    yield Output(
        "elman predict runs/series seen.csv --json --interval 90", f"{shown.getvalue()}...", "series.png"
    )


def music(room: Room) -> Iterator[Output]:
    """A piece from nothing, as notes and as its picture."""
    target = room.pictures / "music.mid"
    said = room.elman(
        "compose", room.run, "--seed", 3, "--temperature", 0.6, "--length", 64, "--tempo", 60, "--to", target
    )
    target.with_suffix(".png").unlink(missing_ok=True)
    lines = [line for line in said.splitlines() if str(target.parent) not in line]
    yield Output(
        "elman compose runs/music --seed 3 --temperature 0.6 --length 64 --tempo 60 --to music.mid",
        "\n".join(lines),
        "music.svg",
    )


EXHIBITS = (
    Exhibit(
        "language-model",
        "Language model",
        "Characters of Python's own standard library; the model has never heard of a word.",
        None,
        (
            "--config",
            "configs/language_model/demo.toml",
            "--hidden",
            "256",
            "--minutes",
            "8",
            "--max-steps",
            "1200",
        ),
        language_model,
    ),
    Exhibit(
        "translation",
        "Translation",
        "5,000 dates, said in five manners, to ISO 8601. The picture shows where the network looked for each sign.",
        made.dates,
        (
            *(
                "--tokens",
                "characters",
                "--embedding",
                "32",
                "--hidden",
                "96",
                "--dropout",
                "0",
                "--smoothing",
                "0",
            ),
            *("--rate", "0.004", "--schedule", "cosine", "--epochs", "8"),
        ),
        translation,
    ),
    Exhibit(
        "speech",
        "Speech",
        "400 calls, dialled by hand: the tones of a telephone's keys, over noise and a hum. The transcript is all "
        "it is told. This call is '0171 426 85', and not one of them: the second blank is missed.",
        made.speech,
        (
            # Another speed, or a band that is missing, would be another key.
            *("--speeds", "1", "--equalizer", "0", "--band-masks", "0", "--time-masks", "0", "--stride", "2"),
            *(
                "--hidden",
                "48",
                "--layers",
                "1",
                "--dropout",
                "0",
                "--rate",
                "0.01",
                "--batch",
                "16",
                "--epochs",
                "24",
            ),
        ),
        speech,
    ),
    Exhibit(
        "captioning",
        "Captioning",
        "1,600 pictures of two figures, drawn at random. Behind the picture it stands once more for each word, bright "
        "where the network looked.",
        made.captions,
        (
            *("--size", "48", "--channels", "16", "32", "64", "--hidden", "96", "--dropout", "0.1"),
            *("--grid-dropout", "0", "--smoothing", "0.05", "--batch", "32", "--rate", "0.003"),
            *("--schedule", "cosine", "--epochs", "12"),
        ),
        captioning,
    ),
    Exhibit(
        "video-tagging",
        "Video tagging",
        "300 clips of a ball that rolls, and turns round now and then, with the times of each way. Below "
        "the frames: what the network, which sees no frame before its time, says at each.",
        made.clips,
        (
            *(
                "--target",
                "steps",
                "--no-bidirectional",
                "--size",
                "32",
                "--fps",
                "8",
                "--channels",
                "8",
                "16",
            ),
            *("--encoded", "32", "--hidden", "48", "--dropout", "0.1", "--batch", "16", "--rate", "0.004"),
            *("--epochs", "14"),
        ),
        video,
    ),
    Exhibit(
        "emotion",
        "Emotion",
        "3,000 made sentences in which two people feel something: what counts is the main clause.",
        made.feelings,
        ("--hidden", "48", "--epochs", "4"),
        emotion,
    ),
    Exhibit(
        "series",
        "Series",
        "Visitors of a swimming pool that there is not, a row a day. The last 28 days were in no training.",
        made.series,
        ("--horizon", str(AHEAD), "--hidden", "48", "--epochs", "12"),
        series,
    ),
    Exhibit(
        "music",
        "Music",
        "300 made pieces: a melody that walks through the chords below it. Two pieces after Bach's chorales stand in "
        "[the page on music](music.md).",
        made.tunes,
        ("--hidden", "96", "--batch", "16", "--rate", "0.005", "--epochs", "12"),
        music,
    ),
)


# The page

HEAD = """# Gallery

One output of each of the eight applications, made by `make gallery`: small models, trained for a minute or some, one
seed each, and what they say, right or wrong. The data are Python's standard library and what `benchmarks/gallery` draws
from a seed; flags and inputs were chosen until each model learnt something in that time, outputs were not.
"""


def page(shown: Sequence[tuple[Exhibit, str, Sequence[Output]]]) -> str:
    """gallery.md."""
    parts = [HEAD]
    for exhibit, score, outputs in shown:
        train = f"elman train {exhibit.task} {' '.join(exhibit.flags)}"
        where = f" --data {exhibit.task}" if exhibit.data else ""
        parts.append(f"\n## {exhibit.title}\n\n{exhibit.about}\n\n```console\n")
        parts.append(f"$ {train}{where} --run runs/{exhibit.task}\n{score}\n")
        for output in outputs:
            parts += [f"$ {output.typed}\n"] * bool(output.typed) + [f"{output.said}\n"] * bool(output.said)
        parts.append("```\n")
        for output in outputs:
            if output.picture:
                about = f"{exhibit.title}: {exhibit.show.__doc__}"
                parts.append(f"\n![{about}](pictures/gallery/{output.picture})\n")
    return "".join(parts)


def score_of(lines: Sequence[str]) -> str:
    """What a training said of the test data."""
    return next((line for line in lines if line.startswith("test: ")), "")


def main(arguments: list[str] | None = None) -> int:
    """Make the data, train, show, write."""
    options = _options(arguments)
    folder = options.out / "pictures" / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    shown: list[tuple[Exhibit, str, list[Output]]] = []
    for exhibit in EXHIBITS:
        if exhibit.task not in options.only:
            continue
        print(f"{exhibit.title} ...", flush=True)
        home, run = options.runs / "data" / exhibit.task, options.runs / exhibit.task
        data = exhibit.data(home) if exhibit.data else home
        flags = [*exhibit.flags, *(["--data", str(data)] if exhibit.data else []), "--threads", "1"]
        lines = trainings.trained(exhibit.task, flags, run, {"RUNS": options.runs})
        room = Room(data.resolve(), run.resolve(), folder.resolve())
        outputs = list(exhibit.show(room))
        for output in outputs:
            if output.said:
                print(f"$ {output.typed}\n{output.said}\n", flush=True)
        shown.append((exhibit, score_of(lines), outputs))
    (options.out / "gallery.md").write_text(page(shown), encoding="utf-8")
    print(f"the page is {options.out / 'gallery.md'}, its pictures lie in {folder}")
    return 0


def _options(arguments: list[str] | None) -> Any:
    names = [exhibit.task for exhibit in EXHIBITS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="applications (default: all)")
    parser.add_argument("--runs", type=Path, default=Path("runs/gallery"), help="folder of data and runs")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/gallery"), help="folder of the page and the pictures"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
