"""Models of music by the command: trained, measured, asked, written with, reported."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import elman as package
from command import elman
from elman.data.music import Keys, Note, Piece, Reading, midi_bytes, read_collection, read_midi, roll_of
from elman.tasks.music.composing import Kept, Wish, chord_offsets, compose, melody_offsets
from elman.tasks.music.learning import piece_losses
from tests.tolerances import assert_near


@pytest.fixture(params=["run", "nade"])
def run(request: pytest.FixtureRequest, folder: Path) -> Path:
    return folder / request.param


def test_the_likelihood_is_that_of_each_piece_by_itself(run: Path) -> None:
    trained = package.load(run)
    part = trained.prepared.part("test")
    found = piece_losses(trained.model, part.sequences)
    total = steps = first = 0.0
    for roll, losses in zip(part.sequences, found, strict=True):
        v = torch.from_numpy(roll).float()
        with torch.no_grad():
            features = trained.model.features(v[:-1].unsqueeze(1)).logits[:, 0]
            own = -trained.model.log_prob(features, v[1:])
        assert_near(torch.from_numpy(losses).float(), own)
        assert len(losses) == len(roll) - 1
        total, steps, first = total + losses.sum(), steps + len(losses), first + losses[0]
    score = trained.evaluate()
    assert score.value == pytest.approx(total / steps)
    assert score.figures["without_first"] == pytest.approx((total - first) / (steps - len(found)))
    assert score.interval[0] < score.value < score.interval[1]


def test_it_beats_its_baselines_and_says_both_figures(run: Path) -> None:
    trained = package.load(run)
    score = trained.evaluate()
    beside = {known.name: known.score.value for known in trained.baselines() if known.part == "test"}
    assert beside.keys() == {"frequency of notes", "repeat the last step"}
    assert score.value < min(beside.values())
    said = elman("evaluate", run).out
    assert "each piece's first step among them; without it" in said


def test_the_drawing_has_every_parameter(run: Path) -> None:
    trained = package.load(run)
    drawing = trained.task.describe(trained, steps=3)
    assert drawing.parameters == sum(parameter.numel() for parameter in trained.model.parameters())
    names = {weight.name for stack in drawing.stacks for block in stack.blocks for weight in block.weights}
    assert {"E", "D", "A", "C"} <= names or run.name == "run"


def test_baselines_are_likelihoods(folder: Path) -> None:
    """Over all steps of three keys each rule's probabilities sum to one."""
    import itertools

    from elman.tasks.music.pieces import Part
    from elman.tasks.music.scores import frequency, repetition

    rolls = [np.random.default_rng(0).integers(0, 2, (9, 3)).astype(np.uint8) for _ in range(3)]
    for rule in (frequency, repetition):
        costs = rule(Part("train", [], rolls))
        for before in itertools.product([0, 1], repeat=3):
            steps = itertools.product([0, 1], repeat=3)
            total = sum(np.exp(-costs(np.array([before, step], dtype=np.uint8))[0]) for step in steps)
            assert total == pytest.approx(1)


def test_predict_takes_files_lines_and_lists(folder: Path, here: Path) -> None:
    done = elman("compose", folder / "run", "--to", "a.mid", "--seed", "1", "--length", "20")
    assert done.code == 0, done.err
    Path("broken.mid").write_bytes(b"MThd")
    Path("lines.jsonl").write_text("[[60, 64, 67]]\nwhat\n")
    done = elman("predict", folder / "run", "a.mid", "broken.mid", "lines.jsonl", "--json")
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [one["place"] for one in found] == ["a.mid", "broken.mid", "lines.jsonl:1", "lines.jsonl:2"]
    assert found[0]["steps"] > 10
    assert found[0]["next"][0]["probability"] >= found[0]["next"][1]["probability"]
    assert found[1]["error"] == "a MIDI file that ends too early"
    assert found[3]["error"] == "no list of steps"
    trained = package.load(folder / "run")
    assert trained.predict([[[60, 64, 67]]])[0]["nll"] == found[2]["nll"]
    assert trained.predict("[[60, 64, 67]]")["nll"] == found[2]["nll"]
    assert trained.predict(Path("a.mid"))["nll"] == found[0]["nll"]


def test_a_piece_is_the_same_by_its_seed_and_is_written_as_it_is(run: Path, here: Path) -> None:
    trained = package.load(run)
    (first,), (again,) = (trained.compose(length=24, seed=5) for _ in range(2))
    assert np.array_equal(first.sequence, again.sequence)
    assert not np.array_equal(first.sequence, trained.compose(length=24, seed=6)[0].sequence)
    done = elman("compose", run, "--length", "24", "--seed", "5", "--to", "deep/a.mid", "--tempo", "90")
    assert done.out.splitlines()[:3] == ["deep/a.mid", "deep/a.png", "deep/a.svg"]
    assert "longest passage from the training data" in done.out
    (piece,) = read_midi(Path("deep/a.mid").read_bytes(), "a")
    roll, _ = roll_of(piece, trained.codec.keys, trained.codec.resolution)
    own = first.sequence[np.flatnonzero(first.sequence.any(1))[0] :]
    assert np.array_equal(roll, own[: len(roll)])
    assert not own[len(roll) :].any()
    assert piece.tempo[0][1] == pytest.approx(60 / 90)
    names = ("b.mid", "b.musicxml")
    done = elman("compose", run, "--length", "8", "--count", "2", "--to", *names, "--json", "--no-picture")
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [one["files"] for one in found] == [["b-1.mid", "b-1.musicxml"], ["b-2.mid", "b-2.musicxml"]]
    midi, score = (list(read_collection([f"b-1{end}"], Reading()).pieces) for end in (".mid", ".musicxml"))
    spans = [{(note.start, note.end, note.pitch) for note in one[0].piece.notes} for one in (midi, score)]
    assert spans[0] == spans[1]
    assert found[0]["passage"]["steps"] <= 8


def test_pieces_without_a_name_go_into_the_run(folder: Path) -> None:
    for number in (1, 2):
        done = elman("compose", folder / "run", "--length", "4", "--no-picture")
        assert done.out.splitlines()[0] == str(folder / "run" / f"composed-{number}.mid")


def test_a_primer_stands_in_front_and_decides_what_comes(folder: Path) -> None:
    trained = package.load(folder / "run")
    chord = [[50, 54, 57, 66], [50, 54, 57, 69]]
    (found,) = trained.compose(primer=json.dumps(chord), length=1, temperature=0)
    assert len(found.sequence) == 4
    assert sorted(note.pitch for note in found.given if note.start == 0) == [50, 54, 57, 66]
    heard = trained.hear(Piece("chord", steps=[tuple(step) for step in chord]))
    assert np.array_equal(found.sequence[3], heard.p > 0.5)
    (short,) = trained.compose(primer=json.dumps(chord), primer_steps=1, length=1, temperature=0)
    assert len(short.sequence) == 3


def test_a_melody_stays_and_nothing_lies_above_it(run: Path) -> None:
    trained = package.load(run)
    melody = [[64], [67], [], [69, 50], [72]]
    (found,) = trained.compose(melody=json.dumps(melody), seed=1, particles=8)
    assert found.sequence.shape == (6, 88)
    tops = [int(np.flatnonzero(row)[-1]) + 21 if row.any() else None for row in found.sequence[1:]]
    assert [top for t, top in enumerate(tops) if t != 2] == [64, 67, 69, 72]
    assert sorted(note.pitch for note in found.given) == [64, 67, 69, 72]


@pytest.mark.parametrize("name", ["run", "events"])
def test_a_primer_from_the_training_data_is_no_copied_passage(folder: Path, name: str) -> None:
    trained = package.load(folder / name)
    part = trained.prepared.part("train")
    steps = json.dumps(part.pieces[0].piece.steps)
    (found,) = trained.compose(primer=steps, length=2, seed=1)
    assert len(found.sequence) >= len(part.sequences[0]) > 8
    # Two steps, or what two events can hold.
    assert found.passage is not None
    assert found.passage.steps <= 4


def test_which_notes_stay_and_that_they_stay_as_they_are(run: Path, here: Path) -> None:
    """A file's notes off the grid, struck again, of three voices: those that stay have their times and velocities."""
    voices = {
        "highest": [(0, 1, 72), (1, 2, 72), (2, 2.7, 74), (2.7, 4, 71)],
        "lowest": [(0, 2, 48), (2, 3, 43), (3, 4, 43)],
        "middle": [(0, 1.5, 60), (1.5, 4, 62)],
    }
    notes = [Note(*note, velocity=50 + place) for place, own in enumerate(voices.values()) for note in own]
    Path("a.mid").write_bytes(midi_bytes(notes, tempo=90))
    trained = package.load(run)
    wanted = {
        "highest": voices["highest"],
        "lowest": voices["lowest"],
        "outer": voices["highest"] + voices["lowest"],
        "all": [note[:3] for note in notes],
    }
    for kept, own in wanted.items():
        (found,) = trained.compose(melody="a.mid", melody_keep=kept, seed=2, particles=4)
        given = [(round(note.start, 2), round(note.end, 2), note.pitch) for note in found.given]
        assert given == sorted(own), kept
        speeds = {note[:3]: note.velocity for note in notes}
        assert all(note.velocity == speeds[own] for note, own in zip(found.given, given, strict=True))
        assert set(found.given) <= set(found.notes)
        assert found.tempo == 90
        lowest, highest = (
            [min(row), max(row)] for row in zip(*map(bounds, found.sequence[1:9]), strict=True)
        )
        assert kept not in {"highest", "outer"} or highest[1] <= 74
        assert kept not in {"lowest", "outer"} or lowest[0] >= 43
    assert trained.compose(melody="a.mid", particles=2, tempo=70)[0].tempo == 70
    steps = json.dumps([[60], [60]])
    assert trained.compose(melody=steps, particles=2)[0].tempo == trained.codec.tempo


def bounds(row: np.ndarray) -> tuple[int, int]:
    on = np.flatnonzero(row) + 21
    return int(on[0]), int(on[-1])


def test_notes_of_a_melody_that_would_be_lost_are_told(folder: Path, here: Path) -> None:
    Path("low.mid").write_bytes(midi_bytes([Note(0, 1, 12), Note(1, 2, 60)]))
    for flag in ("--melody", "--primer"):
        done = elman("compose", folder / "run", flag, "low.mid")
        assert done.code == 2
        assert f"{flag}: 1 of its notes lie outside of the model's keys and would be lost" in done.err


# Keys from the lowest; what the melody has at each of two steps.
MELODIES: dict[Kept, list[int]] = {"highest": [1, 2], "lowest": [1, 0], "all": [0, 2]}


@pytest.mark.parametrize("kept", ["highest", "lowest", "all"])
def test_harmonies_are_drawn_from_the_conditional_distribution(kept: Kept) -> None:
    """Three keys, two steps, some known: shares of many pieces beside the enumerated p(others | those)."""
    import itertools

    from elman.nn import Features, recurrent_stack
    from elman.tasks.music.network import RollNetwork

    torch.manual_seed(3)
    model = RollNetwork(Features(3), recurrent_stack("lstm", 3, 4), 3, nade=3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=1.5)
    model.eval()
    melody = np.zeros((2, 3), dtype=np.uint8)
    melody[[0, 1], MELODIES[kept]] = 1
    # As wide as a piano of three keys.
    offsets = melody_offsets(melody, Keys(), kept)
    known = np.isinf(offsets)
    fixed = np.isposinf(offsets)
    chances = {}
    for cells in itertools.product([0, 1], repeat=6):
        roll = np.array(cells).reshape(2, 3)
        if not np.array_equal(roll[known], fixed[known]):
            continue
        v = torch.cat([torch.zeros(1, 1, 3), torch.from_numpy(roll).float().unsqueeze(1)])
        with torch.no_grad():
            features = model.features(v[:-1]).logits[:, 0]
            chances[cells] = float(model.log_prob(features, v[1:, 0]).sum().exp())
    assert len(chances) >= 4
    total = sum(chances.values())
    counts = dict.fromkeys(chances, 0)
    generator = torch.Generator().manual_seed(0)
    wish = Wish(2, np.zeros((0, 3), dtype=np.uint8), offsets, particles=32)
    rounds = 300
    for _ in range(rounds):
        roll = compose(model, wish, generator).roll
        counts[tuple(roll.ravel().tolist())] += 1
    for key, chance in chances.items():
        assert abs(counts[key] / rounds - chance / total) < 0.1, key


def test_chords_hold_most_notes(folder: Path) -> None:
    trained = package.load(folder / "run")
    (found,) = trained.compose(chords="C F", chord_steps=4, seed=1, chord_strength=50)
    assert len(found.sequence) == 9
    for t, row in enumerate(found.sequence[1:]):
        tones = {(int(column) + 21) % 12 for column in np.flatnonzero(row)}
        assert tones <= ({0, 4, 7} if t < 4 else {5, 9, 0})
    offsets = chord_offsets([], 4, 0, trained.codec.keys, 1.0)
    assert offsets.shape == (0, 88)


@pytest.mark.parametrize(
    ("kept", "stay", "silent"),
    [
        ("highest", [40], [*range(41, 88)]),
        ("lowest", [20], [*range(20)]),
        ("outer", [20, 40], [*range(20), *range(41, 88)]),
        ("all", [20, 30, 40], []),
    ],
)
def test_melody_offsets(kept: Kept, stay: list[int], silent: list[int]) -> None:
    melody = np.zeros((2, 135), dtype=np.uint8)
    melody[0, [20, 30, 40, 100]] = 1
    found = melody_offsets(melody, Keys(drums=True), kept)
    assert np.isposinf(found[0]).nonzero()[0].tolist() == stay
    assert np.isneginf(found[0]).nonzero()[0].tolist() == silent
    assert not found[1].any()


def test_the_report_shows_rolls_and_figures(run: Path) -> None:
    page = (run / "report.html").read_text()
    for words in (
        "What it writes",
        "written, seed 1",
        "notes a second",
        "longest passage from the training data",
        "range",
    ):
        assert words in page
    assert page.count('role="img"') > 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--primer", "none.mid"], "--primer none.mid: no such file"),
        (["--primer", "[1"], "--primer: no list of steps; expected steps such as"),
        (["--melody", "[[5]]"], "--melody: no note within the keys"),
        (["--melody", "[[60]]", "--primer", "[[60]]"], "leave one out"),
        (["--chords", "H"], "--chords: 'H' is no chord"),
        (["--particles", "3"], "--particles has no effect without --melody"),
        (["--temperature", "0", "--seed", "1"], "--seed has no effect with --temperature 0"),
    ],
)
def test_bad_wishes_are_refused(folder: Path, here: Path, flags: list[str], message: str) -> None:
    done = elman("compose", folder / "run", *flags)
    assert done.code == 2
    assert message in done.err
    assert not list(here.iterdir())
