"""Words and their places."""

import json
import zlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from elman.data.words import Lexicon, pieces_of

texts = st.text(max_size=60)


@given(texts, st.sampled_from(["words", "characters"]))
def test_words_stand_where_they_say_and_nothing_is_lost(text: str, unit: str) -> None:
    lexicon = Lexicon((), unit)
    spans = lexicon.spans(text)
    assert [text[span.start : span.end] for span in spans] == [span.word for span in spans]
    assert len(spans) == len(lexicon.split(text))
    between, at = [], 0
    for span in spans:
        between.append(text[at : span.start])
        at = span.end
    assert not "".join([*between, text[at:]]).strip()


def test_contractions_come_apart_as_in_treebanks() -> None:
    split = Lexicon(()).split
    assert split("I DON\u2019T think it's bad, you'll see!") == [
        *("i", "do", "n't", "think", "it", "'s", "bad", ",", "you", "'ll", "see", "!")
    ]
    assert split("I do n't think it 's bad") == split("I don't think it's bad")
    assert Lexicon((), lower=False).split("So") == ["So"]
    assert Lexicon((), "characters").split("A \n b") == ["a", " ", "b"]


@given(st.lists(texts, max_size=6), st.integers(1, 3), st.integers(0, 5), st.booleans())
def test_a_lexicon_is_learnt_kept_and_applied(drawn: list[str], count: int, size: int, lower: bool) -> None:
    lexicon = Lexicon.learn(drawn, lower=lower, size=size, min_count=count)
    assert Lexicon.from_json(json.loads(json.dumps(lexicon.to_json()))) == lexicon
    assert lexicon.size == len(lexicon.words) + 1
    assert not size or lexicon.size <= size + 1
    encode = lexicon.encoder()
    for text in drawn:
        numbers = encode(text)
        words = lexicon.split(text)
        assert numbers.dtype == np.int32
        known = {word: number for number, word in enumerate(lexicon.words, 1)}
        assert numbers.tolist() == [known.get(word, 0) for word in words]


def test_words_that_look_alike_share_pieces() -> None:
    assert len(pieces_of("real", 1000)) == 4 + 3 + 2
    assert pieces_of("a", 1000) == [zlib.crc32(b"<a>") % 1000]
    whole, other = (set(pieces_of(word, 10**9)) for word in ("reading", "reader"))
    # <re rea ead <rea read <read
    assert len(whole & other) == 6


@given(st.lists(texts, max_size=6), st.integers(1, 50))
def test_pieces_lie_word_by_word(drawn: list[str], count: int) -> None:
    lexicon = Lexicon.learn(drawn, subwords=count)
    assert Lexicon.from_json(json.loads(json.dumps(lexicon.to_json()))) == lexicon
    pieces, starts = lexicon.pieces()
    assert (starts[0], starts[1], starts[-1]) == (0, 0, len(pieces))
    for number, word in enumerate(lexicon.words, 1):
        assert pieces[starts[number] : starts[number + 1]].tolist() == pieces_of(word, count)
        assert len(pieces_of(word, count)) >= 1
