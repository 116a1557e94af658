"""Sound that comes in pieces, heard by a frozen recognizer: every number is that of the whole recording."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.runtime import FrozenError, load
from elman.runtime.listening import Utterances
from tests.speech.untrained import cuts, noise, whole, write_reader

SEEDS = st.integers(0, 2**32 - 1)
KINDS: dict[str, dict[str, Any]] = {
    "running": {},
    "global": {"normalization": "global", "stride": 3, "ahead": 0},
    "ahead": {"stride": 1, "ahead": 4},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("readers")
    return {name: load(write_reader(folder / name, **reading)) for name, reading in KINDS.items()}


def sound_of(seed: int) -> tuple[np.random.Generator, np.ndarray]:
    draw = np.random.default_rng(seed)
    length = int(draw.choice([0, 1, 150, 199, 200, 201, draw.integers(1, 16_000)]))
    return draw, (noise(seed % 1000, length) / 2**15).astype(np.float32)


@settings(max_examples=60)
@given(SEEDS, st.sampled_from(sorted(KINDS)))
def test_steps_are_those_of_the_whole(models: dict[str, Any], seed: int, name: str) -> None:
    """Bit for bit, with the state taken out, written down and put in anywhere between."""
    model, (draw, sound) = models[name], sound_of(seed)
    places, steps = cuts(draw, len(sound)), model.sound_steps()
    found = []
    for a, b in itertools.pairwise(places):
        found.append(steps(sound[a:b]))
        if draw.random() < 0.3:
            kept = json.loads(json.dumps(steps.state()))
            steps = model.sound_steps()
            steps.put_state(kept)
    found.append(steps.finish())
    np.testing.assert_array_equal(np.concatenate(found), model.steps(sound))


@settings(max_examples=40)
@given(SEEDS, st.sampled_from(sorted(KINDS)), st.sampled_from([0.0, 0.03, 0.1, 0.4]))
def test_what_is_heard_is_that_of_the_whole(
    models: dict[str, Any], seed: int, name: str, endpoint: float
) -> None:
    model, (draw, sound) = models[name], sound_of(seed)
    heard = []
    for places in (cuts(draw, len(sound)), [0, len(sound)]):
        listener, updates = model.listen(endpoint=endpoint), []
        for a, b in itertools.pairwise(places):
            updates += listener(sound[a:b])
            assert listener.utterances.text == listener.utterances.going_on.heard.text
            if draw.random() < 0.3:
                listener.utterances.forget()
        updates += listener.finish()
        heard.append([update.heard for update in updates if update.final and update.heard.text])
    assert heard[0] == heard[1]
    expected = whole(model, sound)
    assert " ".join(one.text for one in heard[0]).split() == expected["text"].split() or endpoint
    if not endpoint:
        assert [word.to_json() for one in heard[0] for word in one.words] == expected["words"]
        assert expected["text"] == model.predict([sound])[0]["text"]


def test_much_is_heard(models: dict[str, Any]) -> None:
    """Else the properties above would say little."""
    sound = (noise(5, 16_000) / 2**15).astype(np.float32)
    ended = 0
    for model in models.values():
        assert len(model.predict([sound])[0]["text"]) > 10
        listener = model.listen(endpoint=0.03)
        ended += sum(update.final for update in [*listener(sound), *listener.finish()])
    assert ended > 10


@settings(max_examples=60)
@given(SEEDS, st.sampled_from([0.0, 0.03, 0.2]))
def test_utterances_that_were_kept_go_on(models: dict[str, Any], seed: int, endpoint: float) -> None:
    """Drawn paths, cut anywhere, kept and forgotten: the utterances of a path that was read at once."""
    model, draw = models["running"], np.random.default_rng(seed)
    numbers = draw.choice([0, 0, 0, 1, 2, 3, 4, 4], draw.integers(1, 80)).repeat(draw.integers(1, 4))
    values = -draw.random(len(numbers))
    one, other = (Utterances(model.symbols, 0.02, endpoint) for _ in range(2))
    expected = [*one.read(values.tolist(), numbers.tolist()), one.finish()]
    found, places = [], cuts(draw, len(numbers))
    for a, b in itertools.pairwise(places):
        found += other.read(values[a:b].tolist(), numbers[a:b].tolist())
        if draw.random() < 0.5:
            kept = json.loads(json.dumps(other.state()))
            other = Utterances(model.symbols, 0.02, endpoint)
            other.put_state(kept)
        assert other.length <= len(numbers)
    found.append(other.finish())
    said = [[update.heard for update in updates if update.heard.text] for updates in (found, expected)]
    assert said[0] == said[1]


def test_states_that_are_none(models: dict[str, Any]) -> None:
    """Each part of a state put to what it never is."""
    model = models["running"]
    steps, utterances = model.sound_steps(), Utterances(model.symbols, 0.02, 0.5)
    steps((noise(3, 777) / 2**15).astype(np.float32))
    utterances.read([-0.1] * 6, [1, 1, 0, 2, 4, 4])
    wrong: dict[str, list[Any]] = {
        "rest": ["%", "AAA", "AAAA" * 400, None, "AADAfw=="],
        "before": ["a", float("nan"), [1]],
        "frames": ["AAAAAA==", "AADAfw==" * 12, 3],
        "total": [[], [0.0] * 11, [float("inf")] * 12, "a"],
        "count": [-1, None, "x"],
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(FrozenError, match="the state does not hold"):
                model.sound_steps().put_state(steps.state() | {name: value})
    wrong = {
        "path": [
            [[5, 0, 0, -0.1]],
            [[1, 3, 2, -0.1]],
            [[1, 0, 0]],
            [[1, 0, 99, -1.0]],
            [[1, 0, 0, 1.0]],
            3,
            [[2, 0, 0, -1]],
        ],
        "steps": [0, None],
        "last": [5, -1, 1],
        "begun": [-1, 9],
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(FrozenError, match="the state does not hold"):
                Utterances(model.symbols, 0.02, 0.5).put_state(utterances.state() | {name: value})


def test_networks_that_cannot(tmp_path: Path) -> None:
    both = load(write_reader(tmp_path / "both", bidirectional=True))
    level = load(write_reader(tmp_path / "level", normalization="recording"))
    with pytest.raises(FrozenError, match="it reads from both ends"):
        both.listen()
    with pytest.raises(FrozenError, match="it is normalized by recording"):
        level.listen()


def test_samples_that_are_none_are_not_heard(models: dict[str, Any]) -> None:
    model, sound = models["running"], (noise(4, 4000) / 2**15).astype(np.float32)
    listener = model.listen(endpoint=0)
    listener(sound[:1600])
    for bad in (np.nan, np.inf, 1e10):
        with pytest.raises(FrozenError, match=r"0\.20 s from its start the sound has samples that are no"):
            listener(np.array([0.5, bad]))
    listener(sound[1600:])
    assert listener.finish()[-1].heard.text == model.predict([sound])[0]["text"]
