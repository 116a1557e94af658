"""Sentences to numbers and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.data.subwords import FIRST, UNKNOWN, Unit, Vocabulary, learn_vocabulary, pieces

SENTENCES = [
    "ein hund läuft , sagt er &apos;s .",
    "Ein Hund, der läuft: 5.30 Uhr!",
    "the dog_house isn't über-all",
    "ein hund ein hund ein hund",
]
UNITS: list[Unit] = ["bpe", "words", "characters"]
WORDS = st.lists(
    st.text(st.characters(exclude_categories=("Cs", "Zs", "Zl", "Zp", "Cc")), min_size=1), max_size=6
)


def learnt(unit: Unit, **options: int) -> Vocabulary:
    return learn_vocabulary(
        SENTENCES, unit=unit, size=options.get("size", 0), min_count=options.get("least", 1)
    )


@pytest.fixture(scope="module")
def pairs() -> Vocabulary:
    return learnt("bpe")


@pytest.mark.parametrize("unit", UNITS)
def test_known_sentences_come_back_as_they_were(unit: Unit) -> None:
    vocabulary = learnt(unit)
    for sentence, numbers in zip(SENTENCES, vocabulary.encode(SENTENCES), strict=True):
        assert vocabulary.decode(numbers) == sentence
        if unit != "bpe":  # whose tokens may be parts of a character
            assert "".join(vocabulary.cut(sentence)).strip() == sentence
        assert len(vocabulary.cut(sentence)) == len(numbers)
        assert min(numbers) >= FIRST and max(numbers) < vocabulary.size


@given(words=WORDS)
def test_byte_pairs_spell_everything(pairs: Vocabulary, words: list[str]) -> None:
    sentence = " ".join(" ".join(words).split())
    numbers = pairs.encode([sentence])[0]
    assert pairs.decode(numbers) == sentence
    assert UNKNOWN not in numbers


@given(words=WORDS)
def test_pieces_written_together_are_the_sentence(words: list[str]) -> None:
    sentence = " ".join(" ".join(words).split())
    assert "".join(pieces(sentence)).strip() == sentence


@pytest.mark.parametrize("unit", UNITS)
def test_a_saved_vocabulary_is_the_same(unit: Unit) -> None:
    vocabulary = learnt(unit)
    again = Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert (again.size, again.texts) == (vocabulary.size, vocabulary.texts)
    for one, other in zip(again.encode(SENTENCES), vocabulary.encode(SENTENCES), strict=True):
        assert one.tolist() == other.tolist()


def test_sizes_and_counts_are_kept() -> None:
    assert learnt("words", size=5).size == 5
    assert learnt("bpe", size=300).size <= 300
    assert set(learnt("words", least=3).texts) == {" ein", " hund"}
    assert learn_vocabulary(["Ab AB"], unit="words", size=0, lower=True).texts == (" ab",)


@pytest.mark.parametrize("unit", ["bpe", "words"])
def test_capitals_and_references_are_seen(unit: Unit) -> None:
    small = learn_vocabulary(["größere hunde &apos;s", "größere hunde &apos;s"], unit=unit, size=0)
    assert (small.capitals, small.references) == (False, True)
    assert learn_vocabulary(["Größere Hunde", "Größere Hunde"], unit=unit, size=0).capitals
    assert not learn_vocabulary(["a's", "a's"], unit=unit, size=0).references


def test_the_unknown_is_copied_where_it_is_said_what_it_stands_for() -> None:
    vocabulary = learnt("words")
    numbers = vocabulary.encode(["ein zebra läuft"])[0].tolist()
    assert numbers[1] == UNKNOWN
    assert vocabulary.decode(numbers) == "ein <unk> läuft"
    assert vocabulary.decode(numbers, {1: " Zebra"}) == "ein Zebra läuft"
    assert vocabulary.encode(["", "  "])[0].tolist() == []
    assert vocabulary.decode([]) == ""
