"""A model of events by the command: trained, measured, asked, written with."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import elman as package
from command import elman
from elman.data.music import FaultError, read_midi
from elman.data.music.events import END, FIRST, START
from elman.tasks.music.events import EventWish, write_events
from elman.tasks.music.learning import piece_losses
from elman.tasks.music.pieces import Part
from elman.tasks.music.scores import event_rules
from tests.tolerances import assert_near


def test_the_likelihood_is_that_of_each_piece_by_itself(folder: Path) -> None:
    trained = package.load(folder / "events")
    part = trained.prepared.part("test")
    found = piece_losses(trained.model, part.sequences)
    for events, losses in zip(part.sequences, found, strict=True):
        e = torch.from_numpy(events)
        with torch.no_grad():
            logits = trained.model(e[:-1].unsqueeze(1)).logits[:, 0]
        own = -logits.log_softmax(-1).gather(1, e[1:].unsqueeze(1)).squeeze(1)
        assert_near(torch.from_numpy(losses).float(), own)
    score = trained.evaluate()
    assert score.name == "NLL an event"
    assert score.value == pytest.approx(sum(map(sum, found)) / sum(map(len, found)))
    assert score.value < min(known.score.value for known in trained.baselines() if known.part == "test")


def test_rules_of_events_are_likelihoods() -> None:
    events = np.array([0, 3, 2, 3, 4, 1])
    for rule in event_rules(Part("train", [], [events]), 5):
        for before in range(5):
            assert sum(np.exp(-rule(np.array([before, after]))[0]) for after in range(5)) == pytest.approx(1)


def test_the_stream_draws_what_the_whole_sequence_says(folder: Path) -> None:
    """At temperature 0 each event is the likeliest that makes sense, by logits of the piece read at once."""
    trained = package.load(folder / "events")
    words = trained.codec.words
    wish = EventWish(60, temperature=0.0)
    events = write_events(trained.model, words, wish, torch.Generator())
    assert len(events) == 61
    with torch.no_grad():
        logits = trained.model(torch.tensor(events).unsqueeze(1)).logits[:, 0].numpy()
    sounding: set[int] = set()
    for place, event in enumerate(events[1:]):
        best = float(logits[place].max())
        if logits[place][event] < best - 1e-4:
            likeliest = int(logits[place].argmax())
            senseless = (
                likeliest in {START, END}
                or (FIRST <= likeliest < words.ends and likeliest - FIRST in sounding)
                or (words.ends <= likeliest < words.waits and likeliest - words.ends not in sounding)
                or (likeliest >= words.loudness and events[place] >= words.loudness)
            )
            assert senseless, place
        if FIRST <= event < words.ends:
            assert event - FIRST not in sounding
            sounding.add(event - FIRST)
        elif words.ends <= event < words.waits:
            sounding.remove(event - words.ends)


def test_draws_have_the_chances_of_the_softmax(folder: Path) -> None:
    trained = package.load(folder / "events")
    words = trained.codec.words
    generator = torch.Generator().manual_seed(0)
    primer = [START, words.loudness + 10, FIRST + 39]
    with torch.no_grad():
        logits = trained.model(torch.tensor(primer).unsqueeze(1)).logits[-1, 0].double().numpy() / 0.7
    allowed = np.ones(words.size, dtype=bool)
    allowed[[START, END, primer[2]]] = False
    allowed[words.ends : words.waits] = False
    allowed[words.ends + 39] = True
    p = np.where(allowed, np.exp(logits - logits.max()), 0)
    p /= p.sum()
    wish = EventWish(1, primer, temperature=0.7)
    found = [write_events(trained.model, words, wish, generator)[-1] for _ in range(400)]
    shares = np.bincount(found, minlength=words.size) / 400
    assert np.abs(shares - p).max() < 0.1
    assert not shares[~allowed].any()


def test_pieces_end_by_themselves_or_after_so_many_events(folder: Path) -> None:
    trained = package.load(folder / "events")
    with torch.no_grad():
        trained.model.head.bias[END] += 3
    (found,) = trained.compose(seed=1)
    assert 2 <= len(found.sequence) < 2000
    assert np.array_equal(found.sequence, trained.compose(seed=1)[0].sequence)
    (longer,) = trained.compose(seed=1, length=3000)
    assert len(longer.sequence) == 3001
    assert np.array_equal(longer.sequence[:2], found.sequence[:2])
    assert longer.passage is not None


def test_chords_and_primers(folder: Path) -> None:
    trained = package.load(folder / "events")
    (found,) = trained.compose(chords="C F", chord_steps=8, chord_strength=1000, length=80, seed=2)
    assert len(found.notes) > 5
    for note in found.notes:
        chord = {0, 4, 7} if int(note.start * trained.codec.resolution) // 8 % 2 == 0 else {5, 9, 0}
        assert note.pitch % 12 in chord
    primer = [[60, 64, 67], [60, 64, 67], [65, 69]]
    (found,) = trained.compose(primer=json.dumps(primer), length=10, seed=1)
    assert sorted(note.pitch for note in found.given) == [60, 64, 65, 67, 69]
    (found,) = trained.compose(primer=json.dumps(primer), primer_steps=2, length=1, seed=1)
    assert [note.pitch for note in found.given] == [60]


def test_the_command(folder: Path, here: Path) -> None:
    done = elman("compose", folder / "events", "--seed", "3", "--to", "a.mid", "--length", "60")
    assert done.code == 0, done.err
    assert read_midi(Path("a.mid").read_bytes(), "a")
    done = elman("predict", folder / "events", "a.mid", "--json")
    found = json.loads(done.out)
    assert found["next"][0].keys() == {"event", "probability"}
    trained = package.load(folder / "events")
    with pytest.raises(FaultError):
        trained.hear(read_nothing())
    for flags, message in (
        (["--melody", "[[60]]"], "--melody: "),
        (["--no-held"], "--no-held: events say themselves"),
    ):
        done = elman("compose", folder / "events", *flags)
        assert (done.code, message in done.err) == (2, True)
    done = elman("train", "music", "--data", "a.mid", "--clock", "seconds")
    assert (done.code, "--kind events" in done.err) == (2, True)


def read_nothing() -> object:
    from elman.data.music import Piece

    return Piece("nothing", steps=[(5,)])
