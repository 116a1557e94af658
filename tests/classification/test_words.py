"""Words and their places."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from elman.data.words import Lexicon

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
