"""A corpus in files is the corpus in memory, token for token; and what goes wrong on the way leaves nothing broken."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.config import UserError
from elman.data import corpus, mapped, text, token_files, vocabulary
from elman.data.batching import training_streams, whole_text
from elman.data.corpus import Corpus, CorpusSettings, read_corpus, read_part
from elman.data.documents import Shuffled, ends_of
from elman.data.ngrams import bigram_loss, unigram_loss
from elman.data.pieces import Piece, recut, split
from elman.data.watching import watched
from elman.training.progress import Reading, Silent
from tests.command import SOURCE, verse

LETTERS = st.text("ab1'é😀 \t\n\r\x0b\x1c\x85\u2028.", max_size=60)
KINDS = st.sampled_from(["joined", "files", "lines", "separated", "records"])


def in_files(given: CorpusSettings, folder: Path, tokenizer: vocabulary.Tokenizer | None = None) -> Corpus:
    """Read as a large corpus is read, a few bytes at a time."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(corpus, "HELD", -1))
        stack.enter_context(patch.object(text, "BLOCK", 7))
        return read_corpus(replace(given, cache=str(folder)), tokenizer)


def assert_same(one: Corpus, other: Corpus) -> None:
    assert vocabulary.to_json(one.tokenizer) == vocabulary.to_json(other.tokenizer)
    for a, b in zip(one.parts, other.parts, strict=True):
        assert a.tokens.tolist() == b.tokens.tolist()
        assert a.characters == b.characters
        assert a.unknown(one.tokenizer) == b.unknown(one.tokenizer)
    assert one.facts() == other.facts()
    assert one.lines() == other.lines()


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(LETTERS, min_size=1, max_size=30),
    kind=KINDS,
    tokens=st.sampled_from(["characters", "bytes", "words", "bpe"]),
    shares=st.sampled_from([(0.05, 0.05), (0.3, 0.2), (0.0, 0.0), (0.0, 0.4)]),
    valid=st.booleans(),
    lines=st.booleans(),
    limits=st.sampled_from([(0, 1), (300, 2)]),
)
def test_tokens_in_files_are_those_in_memory(
    texts: list[str],
    kind: str,
    tokens: str,
    shares: tuple[float, float],
    valid: bool,
    lines: bool,
    limits: tuple[int, int],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        for number, words in enumerate([*texts, "a b. "]):
            (folder / "data" / f"{number:02}.txt").write_text(words, encoding="utf-8", newline="")
        if lines:
            rows = "".join(json.dumps({"text": words}) + "\n" for words in texts)
            (folder / "data" / "all.jsonl").write_text(rows)
        (folder / "valid.txt").write_text("b a\n1 é?\n\nb")
        asked = CorpusSettings(
            train=(str(folder / "data"),),
            valid=(str(folder / "valid.txt"),) if valid else (),
            valid_share=shares[0],
            test_share=shares[1],
            documents=kind,
            record="^a" if kind == "records" else "",
            separator=". ",
            tokens=tokens,
            vocabulary=limits[0],
            min_count=limits[1],
            batch=1,
            steps=1,
        )
        try:
            held = read_corpus(asked)
        except UserError as error:
            with pytest.raises(UserError) as again:
                in_files(asked, folder / "cache")
            assert str(again.value) == str(error)
            return
        for tokenizer in (None, None, held.tokenizer):
            found = in_files(asked, folder / "cache", tokenizer)
            assert_same(held, found)
        assert len({part.tokens.dtype for part in found.parts}) == 1
        assert found.train.tokens.dtype == mapped.smallest(held.tokenizer.size)
        assert not list((folder / "cache").glob("*.part"))
        apart = held.tokenizer.mark if asked.apart else None
        assert_same_batches(held, found, apart)


def assert_same_batches(one: Corpus, other: Corpus, mark: int | None) -> None:
    streams = []
    for own in (one, other):
        tokens = own.train.tokens
        if mark is not None:
            tokens = Shuffled(tokens, ends_of(tokens, mark), 3, 2)
        both = [training_streams(tokens, 1, 1, mark), whole_text(own.train.tokens, 3, 4, mark)]
        streams.append([batch for stream in both for batch in map(stream.__getitem__, range(len(stream)))])
    for a, b in zip(*streams, strict=True):
        assert all(
            x is y is None or (np.array_equal(x, y) and x.dtype == y.dtype) for x, y in zip(a, b, strict=True)
        )


@given(st.lists(st.text("ab-", max_size=5), max_size=9), st.sampled_from(["-", "--", "-a", "a-a"]))
def test_a_text_in_chunks_is_split_as_the_whole(chunks: list[str], separator: str) -> None:
    assert list(split(chunks, separator)) == "".join(chunks).split(separator)


@given(LETTERS.filter(bool), st.integers(1, 9), st.sampled_from(sorted(vocabulary.KINDS)))
def test_pieces_have_the_numbers_of_the_whole(words: str, size: int, kind: str) -> None:
    words = words.replace("\r", "\n")
    tokenizer = vocabulary.learn(kind, [words * 3], size=300, min_count=1, marked=True)
    pieces = [Piece(words[at : at + size], last=at + size >= len(words)) for at in range(0, len(words), size)]
    found = [tokenizer.encode_piece(piece) for piece in recut(pieces, tokenizer.cut)]
    assert np.concatenate(found).tolist() == tokenizer.encode_documents([words]).tolist()


def one_file(folder: Path, words: str, **given: object) -> CorpusSettings:
    (folder / "a.txt").write_text(words)
    return CorpusSettings(train=(str(folder / "a.txt"),), batch=2, steps=5, **given)  # type: ignore[arg-type]


def test_what_is_kept_is_taken_while_all_of_it_is_there_and_made_anew_else(tmp_path: Path) -> None:
    asked, cache = one_file(tmp_path, verse()), tmp_path / "cache"
    first = read_corpus(asked)
    assert_same(first, in_files(asked, cache))
    with patch.object(token_files, "_encoded", side_effect=AssertionError):
        assert_same(first, in_files(asked, cache))
        assert_same(first, in_files(asked, cache, first.tokenizer))
    [tokens] = cache.glob("*.train")
    whole = tokens.read_bytes()
    for damage in (lambda: tokens.write_bytes(whole[:-1]), tokens.unlink):
        damage()
        assert_same(first, in_files(asked, cache))
        assert tokens.read_bytes() == whole
    (tmp_path / "a.txt").write_text(verse() + "and more\n")
    assert in_files(asked, cache).facts() != first.facts()
    assert in_files(replace(asked, valid_share=0.2), cache).facts() != first.facts()


def test_an_interrupted_reading_leaves_nothing_broken(tmp_path: Path) -> None:
    asked, cache = one_file(tmp_path, verse()), tmp_path / "cache"

    for place in itertools.product(("reading", "counting", "encoding"), (False, True)):

        def stop(what: str, done: float, place: object = place) -> None:
            if (what, done > 0.5) == place:
                raise KeyboardInterrupt

        with watched(stop), pytest.raises(KeyboardInterrupt):
            in_files(asked, cache)
        assert {path.suffix for path in cache.iterdir()} <= {".json", ".lock"}
        for learnt in cache.glob("*.json"):
            learnt.unlink()
    assert_same(read_corpus(asked), in_files(asked, cache))


def test_a_text_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    asked, cache = one_file(tmp_path, verse()), tmp_path / "cache"

    def change(what: str, done: float) -> None:
        if what == "encoding":
            os.utime(tmp_path / "a.txt", ns=(1, 1))

    with watched(change), pytest.raises(UserError, match="has changed while it was read"):
        in_files(asked, cache)
    assert_same(read_corpus(asked), in_files(asked, cache))


def test_no_room_names_the_file_its_size_and_the_way_out(tmp_path: Path) -> None:
    asked = one_file(tmp_path, verse(4000))
    program = (
        "import resource, sys; from pathlib import Path; from elman.data import corpus;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); corpus.HELD = 0\n"
        "try: corpus.read_corpus(corpus.CorpusSettings(train=(sys.argv[1],), cache=sys.argv[2]))\n"
        "except corpus.UserError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, asked.train[0], str(tmp_path / "cache")],
        env=os.environ | {"PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no room for" in done.stdout, done.stderr
    assert ".train (" in done.stdout
    assert "give another folder by --cache" in done.stdout
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".json", ".lock"}
    full = type("Full", (), {"free": 10})
    with patch("shutil.disk_usage", return_value=full), pytest.raises(UserError, match=r"no room for .*MB"):
        in_files(asked, tmp_path / "other")


def test_a_cache_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    asked = one_file(tmp_path, verse())
    with pytest.raises(UserError, match=r"cannot keep tokens in .*--cache"):
        in_files(asked, tmp_path / "a.txt" / "cache")


def test_a_text_of_its_own_may_be_large_too(tmp_path: Path) -> None:
    asked = replace(one_file(tmp_path, verse()), cache=str(tmp_path / "cache"))
    tokenizer = read_corpus(asked).tokenizer
    held = read_part(asked.train, asked, tokenizer)
    with patch.object(corpus, "HELD", 0):
        found = read_part(asked.train, asked, tokenizer)
    assert np.array_equal(held.tokens, found.tokens)
    assert found.account is not None
    assert held.account is not None
    assert found.account.lines() == held.account.lines()


def test_rules_of_counts_go_over_a_text_in_parts(tmp_path: Path) -> None:
    found = in_files(one_file(tmp_path, verse(300)), tmp_path / "cache")
    train, size = found.train.tokens, found.tokenizer.size
    whole = [rule(train, train, size) for rule in (unigram_loss, bigram_loss)]
    with patch("elman.data.ngrams.SPAN", 100), patch.object(mapped.blocks, "__defaults__", (100,)):
        parts = [rule(train, train, size) for rule in (unigram_loss, bigram_loss)]
    assert parts == pytest.approx(whole, rel=1e-12)


def test_pages_that_are_let_go_of_are_read_again(tmp_path: Path) -> None:
    asked = one_file(tmp_path, verse(300))
    held, found = read_corpus(asked), in_files(asked, tmp_path / "cache")
    with patch("elman.data.batching.LET_GO", 0):
        assert_same_batches(held, found, None)


def test_a_display_is_opened_when_there_is_something_to_show(tmp_path: Path) -> None:
    seen: list[str] = []

    class Shown(Silent):
        def open(self) -> None:
            seen.append("open")

        def show(self, glance: object) -> None:
            seen.append(glance.epoch)  # type: ignore[attr-defined]

        def close(self) -> None:
            seen.append("close")

    asked = one_file(tmp_path, verse())
    for read in (read_corpus, lambda asked: in_files(asked, tmp_path / "cache")):
        with Reading(Shown()) as reading, watched(reading):
            read(asked)
    texts = list(dict.fromkeys(seen))
    assert texts == ["open", "reading the text", "counting the text", "encoding the text", "close"]
