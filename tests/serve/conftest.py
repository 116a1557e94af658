"""Frozen models to serve, made in a moment."""

import json
from pathlib import Path

import pytest
import torch

import elman as package
from command import elman
from elman.data import vocabulary
from elman.frozen import export
from elman.nn import Embedding
from elman.nn.networks import LanguageModel, SequenceClassifier
from tests.classification import moods
from tests.speech.untrained import write_reader
from tests.translation import small_language

CHARACTERS = "abcdefghijklmnopqrstuvwxyz ,.\n"


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A writer of characters and one of words, a classifier, a layer: by name."""
    folder = tmp_path_factory.mktemp("frozen")
    torch.manual_seed(3)
    texts = {
        "book": vocabulary.Characters(CHARACTERS, marked=False),
        "words": vocabulary.Words(["<eos>", "the", "sea", "and", "a", "ship", "<unk>"]),
    }
    for name, tokenizer in texts.items():
        told = {"kind": tokenizer.kind, **tokenizer.to_json()}
        export(
            LanguageModel(tokenizer.size, 6, 12),
            folder / f"{name}.elman",
            texts={"task": "language model", "tokenizer": json.dumps(told)},
        )
    export(package.LSTM(5, 7, num_layers=2), folder / "layer.elman")
    words = ("so", "happy", "sad", "angry", "and", "news")
    codec = {
        "lexicon": {"words": list(words), "unit": "words", "lower": True},
        "labels": ["joy", "anger", "fear"],
        "several": False,
        "longest": 9,
        "thresholds": [0.5, 0.5, 0.5],
    }
    network = SequenceClassifier(Embedding(len(words) + 2, 5), package.LSTM(5, 6), 3)
    texts = {"task": "classification", "codec": json.dumps(codec)}
    export(network, folder / "reviews.elman", texts=texts)
    return {name: folder / f"{name}.elman" for name in ("book", "words", "reviews", "layer")}


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recognizer that hears sound as it comes."""
    return write_reader(tmp_path_factory.mktemp("reader") / "ear.elman")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a classifier."""
    folder = tmp_path_factory.mktemp("runs")
    moods.write(folder / "moods.csv", 60, 0)
    small = [
        "--hidden",
        6,
        "--embedding",
        5,
        "--batch",
        16,
        "--threads",
        1,
        "--epochs",
        1,
        "--engine",
        "torch",
    ]
    done = elman(
        "train", "emotion", "--data", folder / "moods.csv", "--run", folder / "moods", *small, "--quiet"
    )
    assert done.code == 0, done.err
    return folder / "moods"


@pytest.fixture(scope="session")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a translator, trained for a moment: what it writes differs from line to line, and is often wrong."""
    folder = tmp_path_factory.mktemp("translator")
    small_language.write(folder, 300)
    done = elman(
        *("train", "translation", "--data", folder / "train", "--from", "de", "--to", "en"),
        *("--run", folder / "de-en", "--tokens", "words", "--min-count", 1, "--hidden", 16, "--batch", 16),
        *("--epochs", 6, "--rate", 0.03, "--dropout", 0, "--threads", 1, "--engine", "torch", "--quiet"),
    )
    assert done.code == 0, done.err
    return folder / "de-en"
