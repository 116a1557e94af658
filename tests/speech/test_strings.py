"""The strings of digits on which recognizers are measured, and how late a word is."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.connected_digits import RATE, WORDS, groups, write
from benchmarks.speech import delays_of
from elman.data.audio.symbols import Symbols
from tests.speech.sounds import tones, write_wav


def write_digits(folder: Path) -> None:
    for speaker in ("ann", "bob"):
        for digit in range(10):
            for take in (0, 1, 5, 9):
                sound = tones("abc"[digit % 3], 100 * digit + take)
                write_wav(folder / f"{digit}_{speaker}_{take}.wav", sound)


def test_strings_are_the_same_for_one_seed_and_use_recordings_equally(tmp_path: Path) -> None:
    write_digits(tmp_path / "in")
    sizes = {"train": 6, "valid": 4, "test": 31}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(tmp_path / "in", tmp_path / name, seed, sizes)
    first, second, third = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in sorted((tmp_path / name).rglob("*.*"))
        }
        for name in "abc"
    )
    assert first == second
    assert first.keys() == third.keys()
    assert first != third
    rows = list(csv.DictReader((tmp_path / "a/test.csv").read_text().splitlines()))
    assert len(rows) == 31
    for row in rows:
        words, ends = row["text"].split(), [float(end) for end in row["ends"].split()]
        sound, rate = soundfile.read(str(tmp_path / "a" / row["path"]))
        assert rate == RATE
        assert 3 <= len(words) == len(ends) <= 7
        assert ends == sorted(ends)
        assert ends[-1] <= len(sound) / rate
        assert set(words) <= set(WORDS)


def test_each_recording_comes_equally_often(tmp_path: Path) -> None:
    from benchmarks.connected_digits import digits_in

    write_digits(tmp_path)
    digits = [digit for digit in digits_in(tmp_path) if digit.take < 5]
    strings = list(groups(digits, 80, np.random.default_rng(0)))
    assert {len(string) for string in strings} == {3, 4, 5, 6, 7}
    assert all(len({digit.speaker for digit in string}) == 1 for string in strings)
    for speaker in ("ann", "bob"):
        own = Counter(digit.path for string in strings for digit in string if digit.speaker == speaker)
        assert len(own) == 20
        assert max(own.values()) - min(own.values()) <= 1


def test_how_late_a_word_is_counts_right_words_by_their_last_symbol() -> None:
    symbols = Symbols(tuple(" enotw"))
    row = {"text": "one two", "ends": "1.0 2.0"}
    numbers = symbols.encode("one to")
    # Three symbols are there after the first chunk, two more after the second, the last after the third.
    assert delays_of(symbols, numbers, [0, 3, 5, 6], [0.0, 1.25, 2.5, 3.0], row) == [0.25]
    numbers = symbols.encode("one two")
    assert delays_of(symbols, numbers, [0, 2, 6, 7], [0.0, 1.25, 2.5, 2.125], row) == [1.5, 0.125]
