"""Runs of tiny language models, made once."""

from pathlib import Path

import pytest

from command import TINY, elman, verse


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each kind of token, of the layers of elman.nn, learnt from several documents."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "texts").mkdir()
    for number in range(25):
        (folder / "texts" / f"{number:02}.txt").write_text(verse(3 + number % 4) + "Ende: Äpfel 😀\n")
    for kind in ("characters", "bytes", "words", "bpe"):
        flags = [*TINY, "--engine", "elman", "--tokens", kind, "--rate", 0.02]
        flags += ["--vocabulary", 270] if kind == "bpe" else []
        done = elman("train", "language-model", "--data", folder / "texts", "--run", folder / kind, *flags)
        assert done.code == 0, done.err
    return folder
