"""Runs of speech that leave: features, texts and classes as the run itself has them, from numpy alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman as package
from command import elman
from elman.data.audio.mel import LogMel, Mel
from elman.runtime import FrozenError, load
from elman.runtime.speech import WholeLogMel
from elman.tasks.speech import hearing, learning
from tests.frozen.test_runs import alone
from tests.speech.sounds import RATE, texts, tones, write_table, write_wav

SMALL = [
    *(
        "--hidden",
        16,
        "--layers",
        1,
        "--batch",
        8,
        "--rate",
        0.03,
        "--stride",
        2,
        "--bands",
        20,
        "--speeds",
        1,
    ),
    *("--dropout", 0, "--threads", 1, "--quiet", "--engine", "torch"),
]
KINDS: dict[str, list[Any]] = {
    "forward": ["--no-bidirectional", "--epochs", 20],
    "both": ["--epochs", 2, "--ahead", 1],
    "classes": ["--target", "class", "--label", "speaker", "--epochs", 1],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        write_table(folder, texts(60))
        for name, more in KINDS.items():
            done = elman(
                "train", "speech", "--data", folder / "data.csv", "--run", folder / name, *SMALL, *more
            )
            assert done.code == 0, done.err
    return folder


def exported(folder: Path, name: str) -> Path:
    done = elman("export", folder / name, "--file", folder / f"{name}.elman")
    assert done.code == 0, done.err
    return folder / f"{name}.elman"


@pytest.mark.parametrize("window", [128, 200])
def test_features_are_those_of_torch(window: int) -> None:
    mel = Mel(RATE, window, 64, 16, 60, 3800)
    draw = np.random.default_rng(0)
    for N in (0, 1, window - 1, window, window + 1, 5000):
        x = (draw.normal(size=N) * draw.uniform(0, 0.5)).astype(np.float32)
        expected = LogMel(mel)(x)
        found = WholeLogMel(mel)(x)
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("name", KINDS)
def test_a_run_of_speech_gives_the_same_answers(folder: Path, name: str) -> None:
    path, trained = exported(folder, name), package.load(folder / name)
    sounds = [tones(text, 100 + i) for i, text in enumerate([*texts(8, 5), ""])]
    sounds.append(tones("a", 99)[500:550])  # shorter than a window
    files = [str(write_wav(folder / "new" / f"{i}.wav", sound)) for i, sound in enumerate(sounds)]
    model = load(path)
    assert model.rate == RATE
    from elman.data.audio import read_sound

    samples = [read_sound(Path(file), RATE)[0] for file in files]
    found = model.predict(samples)
    expected = [dict(one) for one in trained.predict(files)]
    for own, other in zip(found, expected, strict=True):
        other.pop("recording")
        assert own.keys() == other.keys()
        if name == "classes":
            assert own["label"] == other["label"]
            assert own["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
            continue
        assert own["text"] == other["text"]
        assert own["confidence"] == pytest.approx(other["confidence"], abs=2e-4)
        for a, b in zip(own["words"], other["words"], strict=True):
            assert a.pop("confidence") == pytest.approx(b.pop("confidence"), abs=2e-4)
            assert a == b
    if name == "forward":
        assert sum(bool(own["text"]) for own in found) > 5
        told = alone(path, "model.predict([numpy.sin(numpy.arange(4000) * 0.3) * 0.3])")
        assert told == model.predict([np.sin(np.arange(4000) * 0.3) * 0.3])
    steps = [model.steps(s) for s in samples]
    own = model.logs(steps)
    if name == "classes":
        np.testing.assert_allclose(
            np.exp(np.concatenate(own)), learning.probabilities(trained.model, steps), atol=1e-5
        )
    else:
        for a, b in zip(own, learning.outputs(trained.model, steps), strict=True):
            np.testing.assert_allclose(a, b.numpy(), atol=1e-4)
    assert model.predict([]) == []


def test_drawn_paths_are_read_as_by_the_run(folder: Path) -> None:
    model, trained = load(exported(folder, "forward")), package.load(folder / "forward")
    draw = np.random.default_rng(1)
    for T in (0, 1, 5, 60):
        logs = torch.from_numpy(draw.normal(size=(T, len(model.symbols.names) + 1)) * 3).log_softmax(-1)
        expected = hearing.heard(logs, trained.codec, trained.config.features) if T else hearing.Heard("", [])
        found = model._heard(logs.numpy())
        assert found["text"] == expected.text
        assert found["words"] == [word.to_json() for word in expected.words]


def test_what_is_refused(folder: Path) -> None:
    model = load(exported(folder, "both"))
    with pytest.raises(FrozenError, match=r"sound 0 has the shape \(4, 2\)"):
        model.predict([np.zeros((4, 2))])
    with pytest.raises(FrozenError, match="sound 1 has samples that are no numbers"):
        model.predict([np.zeros(9), np.array([0.0, np.nan])])
