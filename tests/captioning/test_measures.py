"""The measures by hand and by their properties."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.tasks.captioning.measures import bleu, cider_d, exact, rouge_l, words_of

WORDS = st.lists(st.sampled_from("abcde"), min_size=1, max_size=7)
PART = st.lists(st.lists(WORDS, min_size=1, max_size=3), min_size=2, max_size=5)


def test_words() -> None:
    assert words_of("A dog's t-shirt, isn't it?") == ["a", "dog", "'s", "t-shirt", "is", "n't", "it"]
    assert words_of("keycap #") == ["keycap"]


@given(PART)
def test_a_reference_itself_is_the_best_there_is(references: list[list[list[str]]]) -> None:
    answers = [own[0] for own in references]
    assert exact(answers, references).all()
    assert rouge_l(answers, references) == pytest.approx(100)
    assert bleu(answers, references)[0] == pytest.approx(100)
    assert (cider_d(answers, references) <= 10 + 1e-9).all()


@given(PART)
def test_what_shares_no_word_is_worth_nothing(references: list[list[list[str]]]) -> None:
    answers = [["z", "y"]] * len(references)
    assert max(cider_d(answers, references)) == max(rouge_l(answers, references)) == 0
    assert max(bleu(answers, references)) < 1e-3


def test_cider_d_by_hand() -> None:
    references = [[["a", "b"]], [["a", "c"]]]
    # Of single words `a` weighs nothing, b and c log 2; the pair `a b` weighs log 2; there are no longer ones.
    assert cider_d([["a", "b"], ["a", "b"]], references) == pytest.approx([10 * 2 / 4, 0])
    shorter = math.exp(-1 / 72)
    assert cider_d([["b"], ["c"]], references) == pytest.approx([10 / 4 * shorter] * 2)


def test_bleu_by_hand() -> None:
    # 3 of 4 words, 1 of 3 pairs; the closest reference has 5 words.
    found = bleu([["a", "b", "x", "c"]], [[["a", "b", "c", "d", "e"], ["a"] * 9]])
    brevity = math.exp(1 - 5 / 4)
    assert found[:2] == pytest.approx([75 * brevity, 100 * brevity * math.sqrt(3 / 4 / 3)], rel=1e-6)


def test_rouge_l_by_hand() -> None:
    precision, recall = 2 / 3, 2 / 4
    right = 100 * 2.44 * precision * recall / (recall + 1.44 * precision)
    assert rouge_l([["a", "x", "c"]], [[["a", "b", "c", "d"]]]) == pytest.approx([right])


RECORDED = json.loads(Path(__file__).with_name("measures.json").read_text())


@pytest.mark.parametrize("one", RECORDED, ids=range(len(RECORDED)))
def test_the_measures_are_those_of_pycocoevalcap(one: dict[str, Any]) -> None:
    given = one["answers"], one["references"]
    assert cider_d(*given) == pytest.approx(one["cider_d"], abs=1e-9)
    assert bleu(*given) == pytest.approx(one["bleu"], abs=1e-9)
    assert rouge_l(*given) == pytest.approx(one["rouge_l"], abs=1e-9)
