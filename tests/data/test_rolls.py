"""Piano rolls: from notes and back, from files; what pieces share."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.config import UserError
from elman.data.music import (
    Keys,
    Note,
    Piece,
    Reading,
    key_of,
    note_name,
    notes_of_roll,
    notes_within,
    read_collection,
    roll_of,
)
from elman.data.music.chords import chords_of
from elman.data.music.collection import parts_of_folder
from elman.data.music.copied import Passages, figures_of

ROLLS = st.integers(0, 2**32 - 1).map(
    lambda seed: (np.random.default_rng(seed).random((12, 88)) < 0.08).astype(np.uint8)
)


@settings(max_examples=40, deadline=None)
@given(ROLLS, st.integers(1, 6), st.booleans())
def test_a_roll_comes_back_from_its_notes(roll: np.ndarray, resolution: int, held: bool) -> None:
    notes = notes_of_roll(roll, Keys(), resolution, held=held)
    found, outside = roll_of(Piece("a", notes), Keys(), resolution)
    sounding = np.flatnonzero(roll.any(axis=1))
    assert outside == 0
    expected = roll[sounding[0] : sounding[-1] + 1] if len(sounding) else roll[:0]
    assert np.array_equal(found, expected)


def test_notes_within_chosen_cells() -> None:
    """Whole ones as they are, of others the chosen steps; a voice in unison and a note struck while it sounds."""
    notes = [
        *(Note(0.1, 1.0, 60, 90, voice=3), Note(0.1, 0.5, 60, 70, voice=4), Note(1.0, 2.0, 60, 50)),
        *(Note(0.0, 4.0, 64), Note(1.5, 2.5, 70), Note(2.0, 3.0, 70), Note(0, 1, 10)),
    ]
    piece = Piece("a", notes)
    roll, _ = roll_of(piece, Keys(), 2)
    assert notes_within(piece, roll, Keys(), 2) == [
        *(Note(0.0, 4.0, 64), Note(0.1, 1.0, 60, 90), Note(1.0, 2.0, 60, 50)),
        *(Note(1.5, 2.0, 70), Note(2.0, 3.0, 70)),
    ]
    roll[[0, 1, 4], 43] = 0
    assert [note for note in notes_within(piece, roll[:6], Keys(), 2) if note.pitch == 64] == [
        Note(1.0, 2.0, 64),
        Note(2.5, 3.0, 64),
    ]
    steps = Piece("b", steps=[(60,), (60,)])
    cells, _ = roll_of(steps, Keys(), 2)
    assert notes_within(steps, cells, Keys(), 2) == [Note(0, 1, 60)]
    assert notes_within(steps, cells, Keys(), 2, held=False) == [Note(0, 0.5, 60), Note(0.5, 1, 60)]


def test_notes_are_put_on_the_nearest_step_and_are_never_lost() -> None:
    piece = Piece(
        "a", [Note(1.05, 1.06, 60), Note(2.0, 2.9, 62), Note(2.0, 3.0, 5), Note(2.0, 3.0, 40, drum=True)]
    )
    roll, outside = roll_of(piece, Keys(), 4)
    assert roll.shape == (8, 88)
    assert np.argwhere(roll).tolist() == [[0, 39], *([t, 41] for t in range(4, 8))]
    assert outside == 2
    both, outside = roll_of(piece, Keys(drums=True), 4)
    assert both.shape == (8, 135)
    assert outside == 1
    assert both[4:8, 88 + 5].all()
    assert [Keys(drums=True).note(column) for column in (0, 87, 88, 134)] == [
        (21, False),
        (108, False),
        (35, True),
        (81, True),
    ]


def collection(path: Path) -> object:
    return read_collection([str(path)], Reading())


def test_files_of_rolls(tmp_path: Path) -> None:
    scipy = pytest.importorskip("scipy.io")
    matrix = np.zeros((3, 88), dtype=np.uint8)
    matrix[[0, 1], [39, 43]] = 1
    cell = np.empty((1, 2), dtype=object)
    cell[0, 0], cell[0, 1] = matrix, matrix[:2]
    scipy.savemat(tmp_path / "a.mat", {"traindata": cell, "testdata": cell})
    np.savez(tmp_path / "b.npz", train_0=matrix, valid=np.stack([matrix, matrix]), short=np.zeros((2, 5)))
    (tmp_path / "c.json").write_text(json.dumps({"train": [[[60], [64], [-1]]], "test": [[]]}))
    (tmp_path / "d.jsonl").write_text("[[60], [64], []]\n\nno\n[60, 64, 0]\n")
    steps = [(60,), (64,), ()]
    expected = {
        "a.mat": (["train", "train", "test", "test"], [steps, steps[:2], steps, steps[:2]], []),
        "b.npz": (
            ["train", "valid", "valid"],
            [steps] * 3,
            ["a matrix of 2 x 5, not steps x 88 or x 128 keys"],
        ),
        "c.json": (["train"], [steps], ["an empty piece"]),
        "d.jsonl": (["", ""], [steps, steps], ["no list of steps"]),
    }
    for name, (parts, pieces, faults) in expected.items():
        found = read_collection([str(tmp_path / name)], Reading())
        assert [located.part for located in found.pieces] == parts, name
        assert [located.piece.steps for located in found.pieces] == pieces, name
        assert list(found.account.faults) == faults, name
        assert found.account.used == len(parts)
    places = [
        str(located.place) for located in read_collection([str(tmp_path / "d.jsonl")], Reading()).pieces
    ]
    assert places == [f"{tmp_path / 'd.jsonl'}:1", f"{tmp_path / 'd.jsonl'}:4"]


def test_damaged_files_of_rolls_are_named(tmp_path: Path) -> None:
    pytest.importorskip("scipy.io")
    np.savez(tmp_path / "a.npz", x=np.array([[1], [1, 2]], dtype=object))
    (tmp_path / "b.mat").write_bytes(b"MATLAB 7.3 MAT-file" + b" " * 200)
    (tmp_path / "c.mat").write_bytes(b"what")
    (tmp_path / "d.npz").write_bytes(b"what")
    (tmp_path / "e.txt").write_bytes(b"")
    (tmp_path / "f.json").write_text("{")
    found = read_collection([str(tmp_path)], Reading())
    assert not found.pieces
    reasons = {
        place.file.rsplit("/", 1)[1]: reason for reason, at in found.account.faults.items() for place in at
    }
    assert reasons["a.npz"] == "a NumPy file of pickled objects (save one numeric array a piece)"
    assert reasons["b.mat"] == "a MATLAB file of version 7.3 (save it by -v7)"
    assert reasons["c.mat"].startswith("a damaged MATLAB file")
    assert reasons["d.npz"].startswith("a ")
    assert reasons["e.txt"] == "empty file"
    assert reasons["f.json"].startswith("no JSON")
    with pytest.raises(UserError, match="no such file or folder"):
        read_collection([str(tmp_path / "g.mid")], Reading())


def test_what_is_no_music_in_a_folder_is_set_aside(tmp_path: Path) -> None:
    """Texts, objects and pages beside music cost nothing; named by themselves they are faults."""
    (tmp_path / "a.json").write_text("[[60], [62]]")
    foreign = {
        "README.txt": ("Some words\non this folder.\n", "a text of which no line is a piece"),
        "about.json": ('{"title": "x", "year": 1}', "an object of JSON without lists of pieces"),
        "page.xml": ("<html/>", "no MusicXML"),
    }
    for name, (text, _) in foreign.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "b.txt").write_text("[[60]]\nno piece\n")
    found = read_collection([str(tmp_path)], Reading())
    assert len(found.pieces) == 2
    assert list(found.account.faults) == ["no list of steps"]
    said = "\n".join(found.account.lines())
    for name, (_, reason) in foreign.items():
        assert f"{reason} ({tmp_path / name})" in said
        alone = read_collection([str(tmp_path / name)], Reading()).account
        assert list(alone.faults) == [reason]


def test_cells_of_numbers_are_pieces(tmp_path: Path) -> None:
    import scipy.io

    rolls = (np.random.default_rng(0).random((2, 5, 88)) < 0.1).astype(float)
    rolls[:, 0, 40] = 1
    scipy.io.savemat(tmp_path / "a.mat", {"traindata": rolls.astype(object)})
    found = read_collection([str(tmp_path / "a.mat")], Reading()).pieces
    assert [roll_of(one.piece, Keys(), 1)[0].tolist() for one in found] == rolls.tolist()


def test_parts_by_the_names_of_folders(tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.md").write_text("")
    assert parts_of_folder(tmp_path).keys() == {"train", "valid", "test"}
    (tmp_path / "train").rmdir()
    assert parts_of_folder(tmp_path) == {}


def test_keys_and_names() -> None:
    scale = [Note(t, t + 1, 60 + step) for t, step in enumerate((0, 2, 4, 5, 7, 9, 11, 12, 7, 4, 0))]
    assert key_of(scale)[0] == "C major"
    moved = [note._replace(pitch=note.pitch + 3) for note in scale]
    assert key_of(moved)[0] == "Eb major"
    assert key_of(scale)[1] == pytest.approx(key_of(moved)[1])
    assert key_of([]) == ("", 0.0)
    assert [note_name(pitch) for pitch in (21, 60, 61, 108)] == ["A0", "C4", "C#4", "C8"]


def test_chords() -> None:
    found = chords_of("C Am7 | F/A % N Bbmaj7 F#dim")
    assert [chord.symbol for chord in found] == ["C", "Am7", "F/A", "F/A", "N", "Bbmaj7", "F#dim"]
    assert sorted(found[1].tones) == [0, 4, 7, 9]
    assert found[2].bass == 9
    assert not found[4].tones
    assert sorted(found[5].tones) == [2, 5, 9, 10]
    for bad in ("H", "Cx", "", "c"):
        with pytest.raises(UserError, match="--chords"):
            chords_of(bad)


def longest_by_hand(roll: np.ndarray, others: list[np.ndarray]) -> int:
    """Every pair of places, every transposition."""
    best = 0
    for other in others:
        for i in range(len(roll)):
            for j in range(len(other)):
                for shift in range(-20, 21):
                    n = 0
                    while i + n < len(roll) and j + n < len(other):
                        a, b = np.flatnonzero(roll[i + n]) + shift, np.flatnonzero(other[j + n])
                        if not np.array_equal(a, b):
                            break
                        n += 1
                    best = max(best, n)
    return best


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_the_longest_passage_is_that_of_all_places_and_keys(seed: int) -> None:
    draw = np.random.default_rng(seed)

    def piece() -> np.ndarray:
        roll = np.zeros((draw.integers(2, 9), 88), dtype=np.uint8)
        roll[np.arange(len(roll)), 40 + draw.integers(0, 3, len(roll))] = 1
        return roll

    roll, others = piece(), [piece() for _ in range(3)]
    found = Passages(others).longest(roll)
    by_hand = longest_by_hand(roll, others)
    assert found.steps == (by_hand if by_hand > 1 else 0)
    if found.steps:
        own = roll[found.start : found.start + found.steps]
        there = others[found.piece][found.there : found.there + found.steps]
        assert longest_by_hand(own, [there]) == found.steps


def test_figures() -> None:
    notes = [Note(0, 2, 60), Note(1, 3, 64), Note(5, 6, 72)]
    found = figures_of(notes, 0.5)
    assert (found.notes, found.low, found.high) == (3, 60, 72)
    assert (found.seconds, found.rate, found.together) == (3.0, 1.0, pytest.approx(5 / 4))
    assert figures_of([], 0.5).rows()["notes"] == 0
