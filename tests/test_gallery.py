"""The gallery: what its data say of themselves is so, its page names every application, its pictures are small."""

import json
import random
import re
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gallery import __main__ as gallery
from benchmarks.gallery import made, pictures

DOCS = Path(__file__).parent.parent / "docs"
ORDINAL = {word: number for number, word in enumerate(made.ORDINALS, 1)}
MONTHS = [date(2000, month, 1).strftime("%B") for month in range(1, 13)]


def read(text: str) -> str:
    """A date by hand: the year is the last word, the month the one with a month's first letters, the day the rest."""
    words = re.findall(r"[A-Za-z-]+|\d+", text)
    month = next(k for k, name in enumerate(MONTHS, 1) for word in words if word in {name, name[:3]})
    days = [int(w) for w in words[:-1] if w.isdigit()] + [ORDINAL[w] for w in words if w in ORDINAL]
    (day,) = days
    return f"{words[-1]}-{month:02}-{day:02}"


def test_dates_are_right(tmp_path: Path) -> None:
    lines = made.dates(tmp_path, 400).read_text(encoding="utf-8").splitlines()[1:]
    for line in lines:
        source, target = line.split("\t")
        assert read(source) == target, source
    assert {line.split("\t")[1] for line in lines} >= {read(source) for source in made_again(tmp_path)}


def made_again(folder: Path) -> list[str]:
    """The same data for the same seed."""
    return [line.split("\t")[0] for line in made.dates(folder / "b", 400).read_text().splitlines()[1:]]


@pytest.mark.parametrize("number", ["0", "1", "5", "9"])
def test_each_key_has_its_two_tones(number: str) -> None:
    sound = made.dialled(number, random.Random(0))
    power = np.abs(np.fft.rfft(sound)) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / made.RATE)
    for tones, own in ((made.LOW, made.KEYS[number][0]), (made.HIGH, made.KEYS[number][1])):
        loud = {tone: power[np.abs(hertz - tone) < 8].sum() for tone in tones}
        assert max(loud, key=lambda tone: loud[tone]) == own


def test_a_caption_says_what_is_drawn() -> None:
    for seed in range(20):
        pixels, caption = made.scene(random.Random(seed))
        one, other = re.split(" above | left of ", caption)
        axis = 0 if " above " in caption else 1
        half = np.split(pixels.astype(int), 2, axis=axis)
        for part, words in zip(half, (one, other), strict=True):
            colour = np.array(made.COLOURS[words.split()[1]])
            assert (np.abs(part - colour).sum(axis=2) < 40).sum() > 150, (seed, caption)


def test_a_clip_rolls_the_way_its_stretches_say() -> None:
    for seed in range(6):
        frames, stretches = made.film(random.Random(seed))
        bright = np.abs(frames.astype(float) - 45).sum(axis=3) > 90
        place = np.array([np.nonzero(one)[1].mean() for one in bright])
        assert [start for _, start, _ in stretches[1:]] == [end for _, _, end in stretches[:-1]]
        for tag, start, end in stretches:
            if end - start > 3:
                assert (place[end - 1] > place[start]) == (tag == "rightward"), seed


def test_tunes_begin_and_end_at_home(tmp_path: Path) -> None:
    for line in made.tunes(tmp_path, 20).read_text().splitlines():
        piece = json.loads(line)
        assert len(piece) == 64 and all(2 <= len(step) <= 4 for step in piece)
        assert piece[0][0] == piece[-1][0] and (piece[-1][-1] - piece[0][0]) % 12 == 0


def test_each_sentence_has_the_feeling_of_its_main_clause(tmp_path: Path) -> None:
    for line in made.feelings(tmp_path, 200).read_text(encoding="utf-8").splitlines()[1:]:
        text, emotion = line.rsplit(",", 1)
        text = text.strip('"')
        main = text.split(", ", 1)[1] if text.startswith("Although") else text.split(", though")[0]
        assert [known for known, ways in made.WHAT.items() if any(way in main for way in ways)] == [emotion]


def test_pictures_of_answers_are_written(tmp_path: Path) -> None:
    words = [
        {"word": "glad", "start": 5, "end": 9, "weight": 0.5},
        {"word": "I", "start": 0, "end": 1, "weight": -0.1},
    ]
    answer = {"text": "I am glad", "label": "joy", "probabilities": {"joy": 0.9}, "words": words}
    pictures.weighed([answer], tmp_path / "a.svg")
    assert "glad" in (tmp_path / "a.svg").read_text(encoding="utf-8")
    rows = [{"low": 1.0, "median": 2.0, "high": 3.0}] * 4
    pictures.forecast([1.0, 2.0, 3.0], rows, [2.0] * 4, tmp_path / "b.png")
    heard = [{"word": "12", "start": 0.1, "end": 0.3}]
    pictures.sound(made.dialled("12", random.Random(1)), made.RATE, heard, tmp_path / "c.png")
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("a.svg", "b.png", "c.png"))


def test_the_page_has_all_eight_and_their_pictures() -> None:
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert len(gallery.EXHIBITS) == 8
    for exhibit in gallery.EXHIBITS:
        assert f"\n## {exhibit.title}\n" in page and f"$ elman train {exhibit.task} " in page
    files = [*(DOCS / "pictures" / "gallery").iterdir()]
    named = set(re.findall(r"pictures/gallery/([\w.]+)", page))
    assert len(named) == 7 and named <= {file.name for file in files}
    assert all(file.stat().st_size < 150_000 for file in files)
