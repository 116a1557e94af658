"""Taggers that leave: words by tables, letters and ends; and runs, with the answers of the run itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import elman as package
from command import elman
from elman import nn as en
from elman.frozen import frozen_bytes
from elman.runtime import Frozen, FrozenError, load
from tests.frozen.fuzzing import joined, mutate, parts, try_to_run
from tests.frozen.running import spread
from tests.frozen.test_damage import refusal
from tests.frozen.test_runs import alone
from tests.tagging import names

WORDS, LETTERS, C, K = 9, 7, 5, 4
SPELLERS = {
    "two directions": lambda: (en.LSTM(3, 4, bidirectional=True), "last"),
    "one direction": lambda: (en.GRU(3, 4), "last"),
    "pooled": lambda: (en.GRU(3, 4, bidirectional=True), "last+max+attention"),
    "torch's layers": lambda: (nn.LSTM(3, 4, 2, bidirectional=True), "mean"),
}


def tagger(speller: str, affixes: bool) -> en.Tagger:
    torch.manual_seed(2)
    spelled = en.Speller(en.Embedding(LETTERS, 3), *SPELLERS[speller]()) if speller else None
    ends = en.Affixes(3, count=50) if affixes else None
    words = en.SpelledWords(en.Embedding(WORDS, 4), spelled, ends, dropout=0.2)
    return spread(en.Tagger(words, en.LSTM(words.output_size, 5, bidirectional=True), K)).eval()


def drawn_words(draw: np.random.Generator, T: int, B: int) -> np.ndarray:
    """Words with 0 to C letters, `(T, B, 1 + C)`."""
    found = np.zeros((T, B, 1 + C), np.int64)
    found[..., 0] = draw.integers(WORDS, size=(T, B))
    sizes = draw.integers(0, C + 1, size=(T, B, 1))
    found[..., 1:] = np.where(np.arange(C) < sizes, draw.integers(1, LETTERS, size=(T, B, C)), 0)
    return found


def inputs(frozen: Frozen, x: np.ndarray) -> list[np.ndarray]:
    return [x[..., 0], x[..., 1:]][: len(frozen.inputs)]


@pytest.mark.parametrize("affixes", [False, True])
@pytest.mark.parametrize("speller", ["", *SPELLERS])
def test_words_and_letters(speller: str, affixes: bool) -> None:
    draw = np.random.default_rng(3)
    network = tagger(speller, affixes)
    frozen = Frozen(frozen_bytes(network, example=torch.zeros(1, 1, 1 + C, dtype=torch.int64)))
    assert len(frozen.inputs) == 1 + bool(speller or affixes)
    for T, B in ((1, 1), (6, 4), (3, 2)):
        x = drawn_words(draw, T, B)
        lengths = draw.integers(0, T + 1, size=B)
        for ends in (None, lengths):
            options = {} if ends is None else {"lengths": torch.from_numpy(ends)}
            with torch.no_grad():
                expected = network(torch.from_numpy(x), **options).logits.numpy()
            found = frozen.run(*inputs(frozen, x), lengths=ends, threads=2).y
            for b, n in enumerate(np.full(B, T) if ends is None else ends):
                np.testing.assert_allclose(found[:n, b], expected[:n, b], rtol=2e-5, atol=4e-6)


def test_an_answer_does_not_depend_on_the_words_around() -> None:
    """More words than are spelled at once, bit for bit as each by itself."""
    draw = np.random.default_rng(4)
    network = tagger("two directions", affixes=True)
    frozen = Frozen(frozen_bytes(network, example=torch.zeros(1, 1, 1 + C, dtype=torch.int64)))
    x = drawn_words(draw, 3, 700)
    whole = frozen.run(*inputs(frozen, x)).y
    for b in (0, 341, 699):
        assert np.array_equal(frozen.run(*inputs(frozen, x[:, b : b + 1])).y, whole[:, b : b + 1])


def test_what_is_refused() -> None:
    network = tagger("two directions", affixes=True)
    with pytest.raises(ValueError, match="how many letters of a word it reads"):
        frozen_bytes(network)
    frozen = Frozen(frozen_bytes(network, example=torch.zeros(1, 1, 1 + C, dtype=torch.int64)))
    words, letters = np.ones((2, 1), np.int64), np.ones((2, 1, C), np.int64)
    for name, value in (("words", WORDS), ("letters", LETTERS), ("letters", -1)):
        given = {"words": words.copy(), "letters": letters.copy()}
        given[name].reshape(-1)[1] = value
        with pytest.raises(FrozenError, match=f"{name} has the number {value}, expected 0"):
            frozen.run(given["words"], given["letters"])
    with pytest.raises(FrozenError, match="needs whole sequences"):
        frozen.stream(1)
    only = Frozen(frozen_bytes(tagger("", affixes=True), example=torch.zeros(1, 1, 1 + C, dtype=torch.int64)))
    with pytest.raises(FrozenError, match="letters has the number -1"):
        only.run(words, -letters)


def test_words_come_one_by_one_where_nothing_is_spelled() -> None:
    words = en.SpelledWords(en.Embedding(WORDS, 4), None, en.Affixes(3, count=50))
    network = spread(en.Tagger(words, en.GRU(7, 5), K)).eval()
    frozen = Frozen(frozen_bytes(network, example=torch.zeros(1, 1, 1 + C, dtype=torch.int64)))
    x = drawn_words(np.random.default_rng(5), 4, 2)
    stream = frozen.stream(2)
    steps = [stream(x[t, :, 0], x[t, :, 1:]) for t in range(4)]
    assert np.array_equal(np.stack(steps), frozen.run(x[..., 0], x[..., 1:]).y)


def test_headers_that_lie_crash_nothing() -> None:
    whole = frozen_bytes(tagger("pooled", affixes=True), example=torch.zeros(1, 1, 1 + C, dtype=torch.int64))
    draw = np.random.default_rng(6)
    refused = 0
    for _ in range(250):
        header, model, tensors = parts(whole)
        stage = next(s for s in model["stages"] if s["kind"] == "spell")
        for _ in range(int(draw.integers(1, 4))):
            mutate(model if draw.random() < 0.5 else stage, draw)
        try:
            frozen = Frozen(joined(header, model, tensors))
        except FrozenError as error:
            refused += 1
            assert "\n" not in str(error)
            continue
        sizes = [int(np.prod(a.shape)) for a in (*frozen.inputs, *frozen.outputs, *frozen.states)]
        if max(sizes, default=0) < 1 << 16:
            try_to_run(frozen)
    assert refused > 100

    header, model, tensors = parts(whole)
    stage = next(s for s in model["stages"] if s["kind"] == "spell")
    stage["model"]["stages"].insert(0, json.loads(json.dumps(stage)))
    assert "has another one within" in refusal(joined(header, model, tensors))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taggers")
    names.write(folder / "spans.conll", 120, 0)
    names.write_parts(folder / "plain.txt", 120, 0)
    small = ["--hidden", 8, "--embedding", 6, "--letters", 5, "--letter-embedding", 4, "--batch", 8]
    small += ["--rate", 0.03, "--threads", 1, "--epochs", 2, "--quiet"]
    kinds = {
        "chain": ("spans.conll", ["--output", "crf"]),
        "softmax": ("spans.conll", ["--affixes", 0]),
        "plain": ("plain.txt", ["--letters", 0, "--affixes", 0, "--cell", "gru"]),
    }
    for name, (data, more) in kinds.items():
        done = elman("train", "tagging", "--data", folder / data, "--run", folder / name, *small, *more)
        assert done.code == 0, done.err
    return folder


@pytest.mark.parametrize("kind", ["chain", "softmax", "plain"])
def test_a_run_of_tagging_gives_the_same_answers(folder: Path, kind: str) -> None:
    done = elman("export", folder / kind, "--file", folder / f"{kind}.elman")
    assert done.code == 0, done.err
    trained = package.load(folder / kind)
    draw = np.random.default_rng(7)
    known = [word for own in names.sentences(40, 1) for word, _ in own]
    texts: list = [" ".join(draw.choice(known, size=n)) for n in (1, 2, 30, 7, 7, 12)]
    texts += [
        "Ada Lovelace\u2019s  unheard-of \u2603 word, Antidisestablishmentarianismsandsoon!",
        ["in", "Xa", "ton"],
        "",
        [],
        " \u2003",
    ]
    model = load(folder / f"{kind}.elman")
    found = model.predict(texts)
    for a, b in zip(found, trained.predict(texts), strict=True):
        for group in ("words", "spans"):
            assert (group in a) == (group in b)
            own, other = a.pop(group, []), b.pop(group, [])
            for x, y in zip(own, other, strict=True):
                assert x.pop("probability") == pytest.approx(y.pop("probability"), abs=1e-5)
                assert x == y
        assert a == b
    assert alone(folder / f"{kind}.elman", f"model.predict({texts[:2]!r})") == model.predict(texts[:2])
    assert found[-3:] == [{"error": "empty text"}] * 3
    assert model.predict([]) == []
    assert model.predict([" "]) == [{"error": "empty text"}]
    for wrong, said in (
        ("so", "one text"),
        (["so", 3], "text 1 is neither"),
        ([["so", None]], "text 0 is neither"),
    ):
        with pytest.raises(FrozenError, match=said):
            model.predict(wrong)
