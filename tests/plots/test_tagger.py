"""A tagger as it is drawn: words, letters, the chain, each weight once."""

import pytest

from elman.nn import (
    GRU,
    LSTM,
    Affixes,
    Embedding,
    GRUCell,
    LinearChain,
    Recurrent,
    SpelledWords,
    Speller,
    Tagger,
)
from elman.plots.modules import blocks_of


@pytest.mark.parametrize("layers", ["lstm", "gru", "own", "none"])
def test_words_and_letters(layers: str) -> None:
    made = {"lstm": lambda: LSTM(4, 3, bidirectional=True), "gru": lambda: GRU(4, 3, num_layers=2)}
    made["own"] = lambda: Recurrent(GRUCell, 4, 3, bidirectional=True)  # type: ignore[assignment, return-value]
    speller = Speller(Embedding(9, 4), made[layers]()) if layers != "none" else None
    words = SpelledWords(
        Embedding(7, 5, word_dropout=0.25, unknown=0),
        speller,
        Affixes(2, count=11) if speller else None,
        dropout=0.1,
    )
    model = Tagger(words, LSTM(words.output_size, 6), 3)
    model.chain = LinearChain(3)  # type: ignore[assignment]
    drawn = blocks_of([model])
    assert [block.name for block in drawn] == [
        "words and letters",
        "dropout 0.1",
        "LSTM",
        "dense",
        "linear chain",
    ]
    assert sum(block.parameters for block in drawn) == sum(p.numel() for p in model.parameters())
    first, chain = drawn[0], drawn[-1]
    names = [weight.name for weight in first.weights]
    assert len(set(names)) == len(names)
    assert first.output_size == words.output_size
    assert ("E_c" in names) == ("F" in names) == (speller is not None)
    assert "25 % of the words" in first.remarks[0]
    assert {weight.name for weight in chain.weights} == {"A", "a", "e"}
