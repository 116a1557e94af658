"""The data of a model of music, without torch: parts, accounts, warnings, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest

from elman.config import UserError, build
from elman.data.music import Keys, Note
from elman.data.music.midi import midi_bytes
from elman.tasks.music import learning
from elman.tasks.music.pieces import Codec, Music, prepare
from elman.tasks.music.settings import Config, ModelSettings, MusicSettings
from tests.music import tunes


def prepared(*paths: Path, **more: object) -> Music:
    values = {"train": [str(path) for path in paths], **more}
    return prepare(Config(data=build(MusicSettings, values)), None)


def write(path: Path, pieces: list[list[list[int]]]) -> Path:
    path.write_text("".join(json.dumps(piece) + "\n" for piece in pieces))
    return path


def test_parts_are_drawn_saved_and_the_same_each_time(tmp_path: Path) -> None:
    path = tunes.write_lines(tmp_path / "a.jsonl", 60)
    first, again = prepared(path), prepared(path)
    assert sum(len(part.pieces) for part in first.parts.values()) == 60
    assert first.facts() == again.facts()
    assert first.facts() != prepared(path, split_seed=1).facts()
    assert first.files()["split.json"].keys() == {"valid", "test"}
    # A piece in another key is the same piece, and is on one side.
    lines = "\n".join(first.lines())
    assert "a piece of the training data" not in lines
    assert Codec.from_json(json.loads(json.dumps(first.codec.to_json()))) == first.codec


def test_parts_of_a_file_and_pieces_on_both_sides(tmp_path: Path) -> None:
    train, valid, test = tunes.tunes(30), tunes.tunes(5, 1), tunes.tunes(5, 2)
    moved = [[[pitch + 3 for pitch in step] for step in train[0]]]
    (tmp_path / "a.json").write_text(json.dumps({"train": train, "valid": valid + moved, "test": test}))
    found = prepared(tmp_path / "a.json")
    assert {name: len(part.pieces) for name, part in found.parts.items()} == {
        "train": 30,
        "valid": 6,
        "test": 5,
    }
    lines = "\n".join(found.lines())
    assert "valid has a piece of the training data, perhaps in another key: " in lines
    assert "warning" in "\n".join(prepared(write(tmp_path / "b.jsonl", train)).lines())


def test_what_is_odd_is_said(tmp_path: Path) -> None:
    notes = [Note(t, t + 1, 60 + step) for t, step in enumerate((0, 2, 4, 5, 7, 9, 11, 12, 7, 4, 0))]
    for number in range(12):
        moved = [note._replace(pitch=note.pitch + number, end=note.end + number / 8) for note in notes]
        low = [Note(0, 1, 5)] if number == 3 else []
        (tmp_path / f"{number}.mid").write_bytes(midi_bytes(moved + low, tempo=5 if number == 4 else 90))
    found = prepared(tmp_path)
    lines = "\n".join(found.lines())
    assert "pieces: 12 of .mid" in lines
    assert "pieces with notes outside of the keys, which are left out: 1 (" in lines
    assert "a tempo below 15 or above 500 quarter notes a minute: 1 (" in lines
    assert found.codec.tempo == 90


def test_percussion_is_dropped_kept_or_all_there_is(tmp_path: Path) -> None:
    notes = [Note(t, t + 1, 60 + t % 5) for t in range(8)] + [
        Note(t, t + 0.5, 36 + t % 3, drum=True) for t in range(8)
    ]
    for number in range(12):
        longer = [note._replace(end=note.end + number / 4) for note in notes]
        (tmp_path / f"{number}.mid").write_bytes(midi_bytes(longer))
    kept = {
        drums: prepared(tmp_path, drums=drums).parts["train"].sequences[0]
        for drums in ("drop", "keep", "only")
    }
    assert {drums: roll.shape[1] for drums, roll in kept.items()} == {"drop": 88, "keep": 135, "only": 47}
    assert np.array_equal(kept["keep"][: len(kept["drop"]), :88], kept["drop"])
    assert np.array_equal(kept["keep"][:, 88:][: len(kept["only"])], kept["only"])
    assert not kept["drop"][:, 15].any()


def test_a_key_that_the_notes_do_not_have(tmp_path: Path) -> None:
    import mido

    notes = [Note(t, t + 1, 60 + step) for t, step in enumerate((0, 2, 4, 5, 7, 9, 11, 12, 7, 4, 0))]
    for number, key in enumerate(["C", "Am", "F#", *["C"] * 9]):
        moved = [note._replace(end=note.end + number / 8) for note in notes]
        (tmp_path / "a.mid").write_bytes(midi_bytes(moved))
        file = mido.MidiFile(tmp_path / "a.mid")
        file.tracks[0].insert(0, mido.MetaMessage("key_signature", key=key))
        (tmp_path / "a.mid").unlink()
        file.save(tmp_path / f"{number:02}.mid")
    lines = "\n".join(prepared(tmp_path).lines())
    assert f"the notes are in another key than the file says: 1 ({tmp_path / '02.mid'})" in lines


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("[[60]]\nwhat\n")
    with pytest.raises(UserError, match="1 of 2 pieces cannot be used: 1 no list of steps"):
        prepared(path)
    path.write_text("[[5]]\n")
    with pytest.raises(UserError, match="no note within the keys"):
        prepared(path)
    with pytest.raises(UserError, match="no piece to learn from"):
        prepared(path, on_bad="skip")
    with pytest.raises(UserError, match="nothing to learn from"):
        prepared()
    with pytest.raises(UserError, match="percussion is not transposed"):
        build(MusicSettings, {"train": ["a"], "drums": "only", "transpose": 3})
    with pytest.raises(UserError, match="--word-dropout"):
        build(ModelSettings, {"word_dropout": 0.1})


def test_batches_are_the_pieces_moved_and_cut(tmp_path: Path) -> None:
    path = tunes.write_lines(tmp_path / "a.jsonl", 14)
    config = Config(data=build(MusicSettings, {"train": [str(path)], "transpose": 6, "crop": 9, "batch": 4}))
    found = prepare(config, None)
    train = found.parts["train"]
    codec = found.codec
    batch, count = learning.batches_of(config, train, codec)
    moves, starts = set(), set()
    for epoch in range(1, 5):
        seen = 0
        for index in range(count):
            one = batch(epoch, index)
            assert (one.inputs[1:] == one.targets[:-1]).all()
            for column, length in enumerate(one.lengths):
                seen += 1
                whole = np.concatenate([one.inputs[:1, column], one.targets[:length, column]])
                assert not one.targets[length:, column].any()
                places = [
                    (by, start)
                    for roll in train.sequences
                    for by in range(-6, 7)
                    for start in range(len(roll) - length)
                    if np.array_equal(codec.transposed(roll, by)[start : start + length + 1], whole)
                ]
                assert places
                moves |= {by for by, _ in places}
                starts |= {start for _, start in places}
        assert seen == len(train.sequences)
    assert len(moves) > 8
    assert max(moves) - min(moves) == 12
    assert {0, 1, 2} <= starts


def test_percussion_is_not_moved() -> None:
    roll = np.zeros((3, 135), dtype=np.uint8)
    roll[:, [30, 60, 90]] = 1
    codec = Codec(Keys(drums=True), 4)
    assert codec.room(roll) == (30, 27)
    moved = codec.transposed(roll, 27)
    assert np.flatnonzero(moved[0]).tolist() == [57, 87, 90]
    assert Codec(Keys(piano=False, drums=True), 4).room(roll[:, 88:]) == (0, 0)
