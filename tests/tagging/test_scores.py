"""What is measured, on parts made by hand; and that the loss in training is that of the chain which decodes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman as package
from elman.data.account import Place
from elman.data.schemes import spans_of
from elman.data.sentences import Sentence
from elman.data.tokens import Tokenizer
from elman.decoding.chain import Chain, log_partition, score
from elman.tasks.tagging import learning, scores
from elman.tasks.tagging.sentences import Codec, Part, encode
from elman.tasks.tagging.settings import SentenceSettings

TAGS = ("O", "B-X", "I-X", "B-Y", "I-Y")


def part(rows: list[str], apart: str = "") -> tuple[Codec, Part]:
    """Sentences as `word/TAG`; every word but `new` is in the table."""
    sentences = []
    for number, row in enumerate(rows, 1):
        words, tags = zip(*(piece.split("/") for piece in row.split()), strict=True)
        sentences.append(Sentence(words, tags, Place("a", number)))
    known = tuple(sorted({word.lower() for s in sentences for word in s.words} - {"new"}))
    codec = Codec(TAGS, "bio", known, ("a",), lower=True, digits=True, longest=9, tokenizer=Tokenizer())
    settings = SentenceSettings(apart=apart)
    return codec, encode("valid", sentences, codec, settings, None)  # type: ignore[arg-type]


def numbers(rows: list[str]) -> list[np.ndarray]:
    return [np.array([TAGS.index(tag) for tag in row.split()], dtype=np.int64) for row in rows]


def test_spans_words_and_unknown_words() -> None:
    codec, own = part(["a/B-X b/I-X c/O new/B-Y", "a/O new/O"])
    found = scores.score_of(codec, own, numbers(["B-X I-X O O", "B-Y O"]))
    assert found.value == pytest.approx(2 * 1 / (2 + 2))
    assert found.figures["precision"] == found.figures["recall"] == 0.5
    assert found.figures["accuracy"] == pytest.approx(4 / 6)
    assert found.figures["accuracy_of_unknown_words"] == 0.5
    assert (found.figures["spans"], found.figures["words"], found.figures["sentences"]) == (2, 6, 2)
    assert "total_span_F1" not in found.figures


def test_apart_is_left_out_and_the_total_stands_beside() -> None:
    rows = ["@/B-X a/B-X b/B-Y", "c/O d/B-X"]
    codec, own = part(rows, r"@ \S+")
    said = numbers(["B-X O B-Y", "O O"])
    found = scores.score_of(codec, own, said)
    assert found.value == pytest.approx(2 * 1 / (1 + 2))
    assert found.figures["total_span_F1"] == pytest.approx(2 * 2 / (2 + 4))
    assert (found.figures["spans"], found.figures["total_spans"]) == (2, 4)
    assert found.figures["accuracy"] == pytest.approx(2 / 3)


def test_measures_of_kinds_are_those_of_their_spans() -> None:
    codec, own = part(["a/B-X b/I-X c/O d/B-Y", "a/B-Y"])
    rows = scores.by_kind(codec, own, numbers(["B-X I-X O B-Y", "B-X"]))
    assert rows == [("X", 0.5, 1.0, pytest.approx(2 / 3), 1), ("Y", 1.0, 0.5, pytest.approx(2 / 3), 2)]
    found = scores.with_interval(scores.score_of(codec, own, own.truth), codec, own, own.truth)
    assert found.interval == (1.0, 1.0)


def free(codec: Codec) -> Chain:
    rule = codec.allowed
    return Chain(*(np.where(one, 0.0, -np.inf) for one in (rule.pairs, rule.first, rule.last)))


def test_what_is_added_for_o_is_what_is_best_on_the_validation_data() -> None:
    codec, own = part(["a/B-X b/O c/O", "d/O a/B-Y"] * 20)
    draw = np.random.default_rng(0)
    rows = []
    for truth in own.truth:
        # The network answers too often: O lies 1.5 below where it should.
        row = draw.normal(0, 0.3, (len(truth), len(TAGS)))
        row[np.arange(len(truth)), truth] += 1.5
        row[:, 0] -= 1.5
        rows.append(row)
    offset = scores.tune_outside(codec, own, rows, free(codec))
    plain, tuned = (
        scores.score_of(codec, own, learning.best_tags(learning.shifted(rows, by), free(codec))).value
        for by in (0.0, offset)
    )
    assert offset % scores.STEP == 0
    assert 1.0 <= offset <= 2.0
    assert tuned > plain + 0.1
    nothing = [
        np.full((len(truth), len(TAGS)), -9.0) + 99 * (np.arange(len(TAGS)) == 0) for truth in own.truth
    ]
    assert scores.tune_outside(codec, own, nothing, free(codec)) == 0.0


@pytest.mark.parametrize("output", ["run of spans", "run of tags"])
def test_the_loss_in_training_is_that_of_what_decodes(output: str, folder: Path, plain: Path) -> None:
    trained: Any = package.load((folder if "spans" in output else plain) / "run")
    own = trained.prepared.part("valid")
    rows = learning.emissions_of(trained.model, own.numbers)
    chain = learning.chain_of(trained.model, trained.codec)
    with torch.no_grad():
        batch = learning.batch_of(own.numbers, own.truth)
        total = float(learning.loss_of(trained.model.eval(), batch, 0.0))
    by_hand = 0.0
    for row, truth in zip(rows, own.truth, strict=True):
        log_z = log_partition(row[:, None], np.array([len(row)]), chain)[0]
        by_hand += log_z - score(row, truth, chain)
    words = int(batch.lengths.sum())
    assert total == pytest.approx(by_hand, rel=1e-4, abs=1e-3)
    assert scores.loss_figure(own, rows, chain) == pytest.approx(by_hand / words)


def test_documents_stay_on_one_side(here: Path) -> None:
    from elman.tasks.base import configure, find

    blocks = [f"-DOCSTART- O\n\n{'a X' if n % 2 else 'b Y'}\n\nc{n} X\n" for n in range(30)]
    Path("data.txt").write_text("\n".join(blocks))
    task = find("tagging")
    prepared: Any = task.prepare(configure(task, {"data.train": ("data.txt",), "data.documents": True}), None)
    groups = [{s.group for s in prepared.part(name).sentences} for name in ("train", "valid", "test")]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 30
    assert sum(len(prepared.part(name).sentences) for name in ("train", "valid", "test")) == 60


def test_spans_of_every_scheme_are_learned_alike(here: Path) -> None:
    from elman.tasks.base import configure, find

    task = find("tagging")
    Path("data.txt").write_text("a I-X\nb I-X\nc B-X\n\nd O\na I-X\n\n" * 20)
    found = {}
    for scheme in ("bio", "bioes", "bilou"):
        config = configure(
            task, {"data.train": ("data.txt",), "data.scheme": scheme, "data.valid": ("data.txt",)}
        )
        prepared: Any = task.prepare(config, None)
        own = prepared.part("train")
        found[scheme] = [spans_of(s.tags) for s in own.sentences], own.spans
        assert "IOB1" in " ".join(prepared.lines())
        assert all((row >= 0).all() for row in own.truth)
    assert found["bio"] == found["bioes"] == found["bilou"]
