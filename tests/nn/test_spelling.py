"""Words and their letters as vectors."""

import pytest
import torch

from elman.nn import GRU, LSTM, Affixes, Embedding, SpelledWords, Speller


def speller(*, bidirectional: bool = True, pooling: str = "last") -> Speller:
    torch.manual_seed(0)
    return Speller(Embedding(9, 4), LSTM(4, 3, bidirectional=bidirectional), pooling)


def numbers(*words: list[int]) -> torch.Tensor:
    wide = max(map(len, words)) + 2
    return torch.tensor([word + [0] * (wide - len(word)) for word in words])


@pytest.mark.parametrize("pooling", ["last", "max", "last+mean", "attention"])
def test_a_word_is_spelled_as_if_it_were_alone(pooling: str) -> None:
    own = speller(pooling=pooling)
    words = [[1, 2, 3], [4], [5, 6, 7, 8, 1], [4], []]
    found = own(numbers(*words))
    assert found.shape == (5, own.output_size)
    for word, vector in zip(words[:4], found, strict=False):
        torch.testing.assert_close(own(torch.tensor([word]))[0], vector, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[1], found[3], rtol=0, atol=0)


def test_the_last_of_each_direction() -> None:
    own = speller()
    _, (h, _) = own.recurrent(own.letters(torch.tensor([[1], [2], [3]])))
    torch.testing.assert_close(own(torch.tensor([[1, 2, 3]]))[0], torch.cat([h[0, 0], h[1, 0]]))


def test_table_and_letters_side_by_side_and_nothing_from_the_padding() -> None:
    words = Embedding(5, 6)
    both = SpelledWords(words, speller())
    x = torch.tensor([[[1, 2, 3], [0, 4, 0]], [[2, 5, 0], [4, 8, 8]]])
    found = both(x, torch.tensor([2, 1]))
    assert found.shape == (2, 2, both.output_size) == (2, 2, 12)
    torch.testing.assert_close(found[0, 0, :6], words.weight[1])
    changed = x.clone()
    changed[1, 1] = torch.tensor([1, 7, 7])
    torch.testing.assert_close(both(changed, torch.tensor([2, 1]))[:, 0], found[:, 0])
    alone = SpelledWords(words, None)
    torch.testing.assert_close(alone(x), words(x[..., 0]))


def test_a_dropped_word_is_still_spelled() -> None:
    words = Embedding(5, 6, word_dropout=0.999999, unknown=0)
    both = SpelledWords(words, Speller(Embedding(9, 4), GRU(4, 3)))
    x = torch.tensor([[[1, 2, 3]], [[2, 5, 0]]])
    found = both.train()(x)
    torch.testing.assert_close(found[:, 0, :6], words.weight[[0, 0]])
    torch.testing.assert_close(found[..., 6:], both.eval()(x)[..., 6:])


def test_all_parameters_have_gradients() -> None:
    both = SpelledWords(
        Embedding(5, 6), speller(pooling="last+max"), Affixes(2, count=50), dropout=0.1, sequence_dropout=True
    )
    both(torch.tensor([[[1, 2, 3]], [[2, 5, 0]]]), torch.tensor([2])).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in both.parameters())


def test_affixes_are_the_first_and_the_last_letters() -> None:
    ends = Affixes(3, count=1 << 14, longest=3)
    words = [[1, 2, 3, 4], [1, 2, 9, 3, 4], [4], [4, 4]]
    letters = numbers(*words)
    found = ends.numbers(letters)
    assert found.shape == (4, 6)
    first, second = found[0], found[1]
    # The same one and two letters at both ends, and then others.
    assert torch.equal(first[[0, 1, 3, 4]], second[[0, 1, 3, 4]])
    assert not (first[[2, 5]] == second[[2, 5]]).any()
    # One letter is both the first and the last, and the sides are told apart.
    assert found[2, 0] != found[2, 3]
    assert len(set(found[3].tolist())) == 6
    vectors = ends(letters)
    torch.testing.assert_close(vectors, ends.weight[found].sum(1))
    wider = ends.numbers(numbers(*words, [1] * 12))
    assert torch.equal(wider[:4], found)
