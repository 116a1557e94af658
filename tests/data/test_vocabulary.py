"""Tokenizers: nothing is lost, numbers are dense, the saved form is the same one."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.config import UserError
from elman.data import vocabulary
from elman.data.pieces import Piece
from elman.data.vocabulary import Bytes, Characters, Tokenizer, Words

SAMPLE = ["the cat sat on the mat\nthe dog saw the cat\n", "naïve café 😀 \u0000 end\n"]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
BYTE_PAIRS = {
    marked: vocabulary.learn("bpe", [*SAMPLE, "the " * 50], size=300, min_count=1, marked=marked)
    for marked in (False, True)
}


def every_kind(*, marked: bool) -> list[Tokenizer]:
    return [vocabulary.learn(kind, SAMPLE, size=0, min_count=1, marked=marked) for kind in vocabulary.KINDS]


@given(TEXTS, st.booleans())
def test_bytes_lose_nothing(text: str, marked: bool) -> None:
    tokenizer = Bytes(marked=marked)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(TEXTS, st.booleans())
def test_byte_pairs_lose_nothing_even_of_text_they_never_saw(text: str, marked: bool) -> None:
    tokenizer = BYTE_PAIRS[marked]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(TEXTS, st.booleans())
def test_characters_lose_nothing_of_the_text_they_learnt(text: str, marked: bool) -> None:
    tokenizer = Characters.learn([Piece(text)], size=0, min_count=1, marked=marked)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.lists(st.lists(st.text("abc.<>", min_size=1), min_size=1), min_size=1))
def test_words_keep_words_and_lines(lines: list[list[str]]) -> None:
    text = "".join(" ".join(words) + "\n" for words in lines)
    tokenizer = Words.learn([Piece(text)], size=0, min_count=1)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(TEXTS)
def test_one_by_one_gives_the_same_text_as_at_once(text: str) -> None:
    tokenizer = BYTE_PAIRS[False]
    stream = tokenizer.stream()
    pieces = [stream.push(int(token)) for token in tokenizer.encode(text)]
    assert "".join(pieces) + stream.close() == text
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces) or "\N{REPLACEMENT CHARACTER}" in text


@pytest.mark.parametrize("marked", [False, True])
def test_numbers_are_dense_and_the_saved_form_reads_back(marked: bool) -> None:
    for tokenizer in every_kind(marked=marked):
        tokens = tokenizer.encode_documents(SAMPLE)
        assert tokens.dtype == np.int32
        assert tokens.min() >= 0
        assert tokens.max() < tokenizer.size
        again = vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json(tokenizer))))
        assert type(again) is type(tokenizer)
        assert again.size == tokenizer.size
        assert again.mark == tokenizer.mark
        assert np.array_equal(again.encode_documents(SAMPLE), tokens)
        assert again.decode(tokens) == tokenizer.decode(tokens)
        assert len(again.decode(range(tokenizer.size))) >= tokenizer.size - 128 - 5


def test_a_mark_stands_behind_each_document() -> None:
    for tokenizer in every_kind(marked=True):
        if tokenizer.kind == "words":
            continue
        tokens = tokenizer.encode_documents(["the", "cat"])
        assert tokenizer.mark is not None
        assert (tokens == tokenizer.mark).sum() == 2
        assert tokens[-1] == tokenizer.mark == tokenizer.start
        assert tokenizer.decode(tokens) == "the\n\ncat\n\n"


def test_characters_by_hand() -> None:
    tokenizer = Characters.learn([Piece("abba"), Piece("c")], size=0, min_count=1, marked=True)
    assert tokenizer.encode("abcd").tolist() == [2, 3, 4, 0]
    assert tokenizer.size == 5
    rare = Characters.learn([Piece("abba"), Piece("c")], size=0, min_count=2, marked=False)
    assert rare.encode("abc").tolist() == [1, 2, 0]
    small = Characters.learn([Piece("aaabbc")], size=3, min_count=1, marked=False)
    assert small.encode("abc").tolist() == [1, 2, 0]
    assert small.decode([0, 1]) == "\N{REPLACEMENT CHARACTER}a"


def test_words_are_read_as_penn_treebank_is() -> None:
    text = " a b b \n b <unk> \n"
    tokenizer = Words.learn([Piece(text)], size=0, min_count=1)
    assert tokenizer.words == ["b", "<eos>", "<unk>", "a"]
    assert tokenizer.encode_documents([text]).tolist() == [3, 0, 0, 1, 0, 2, 1]
    assert tokenizer.encode_documents([text.rstrip("\n")]).tolist() == [3, 0, 0, 1, 0, 2, 1]
    assert tokenizer.encode("b zebra").tolist() == [0, 2]
    assert tokenizer.start == 1


def test_words_beyond_the_limit_are_unknown() -> None:
    tokenizer = Words.learn([Piece("a a a b b c\n")], size=4, min_count=1)
    assert tokenizer.words == ["a", "b", "<eos>", "<unk>"]
    rare = Words.learn([Piece("a a a b b c\n")], size=0, min_count=2)
    assert rare.words == ["a", "b", "<eos>", "<unk>"]


def test_words_go_on_from_a_prompt_with_a_space() -> None:
    tokenizer = Words.learn([Piece("a b\n")], size=0, min_count=1)
    for prompt, expected in (("a", " b"), ("a ", "b"), ("a\n", "b"), ("", "b")):
        assert tokenizer.stream(prompt).push(int(tokenizer.encode("b")[0])) == expected


def test_byte_pairs_need_room_for_the_bytes() -> None:
    with pytest.raises(UserError, match="--vocabulary 100 is too small"):
        vocabulary.learn("bpe", SAMPLE, size=100, min_count=1, marked=False)
    assert BYTE_PAIRS[True].size <= 300
    assert len(BYTE_PAIRS[True].encode("the the the")) < 11


def test_half_a_character_is_refused() -> None:
    for tokenizer in every_kind(marked=False):
        if tokenizer.kind != "words":
            with pytest.raises(UserError, match="lone surrogate"):
                tokenizer.encode("a\ud800")


@pytest.mark.parametrize(
    "saved", [{}, {"kind": "runes"}, {"kind": "words", "words": ["a"]}, {"kind": "characters"}]
)
def test_a_damaged_saved_form_is_refused(saved: dict[str, object]) -> None:
    with pytest.raises((KeyError, ValueError, TypeError)):
        vocabulary.from_json(saved)
