"""Sampling: what is drawn from, and that it is drawn so."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from elman.decoding import probabilities, sample

LOGITS = torch.tensor([[math.log(p) for p in (0.1, 0.4, 0.2, 0.3)]])


def chances(**options: Any) -> list[float]:
    return [round(p, 6) for p in probabilities(LOGITS, **options)[0].tolist()]


def test_temperature() -> None:
    assert chances() == [0.1, 0.4, 0.2, 0.3]
    squares = [p * p for p in (0.1, 0.4, 0.2, 0.3)]
    assert chances(temperature=0.5) == [round(p / sum(squares), 6) for p in squares]
    assert chances(temperature=0) == [0, 1, 0, 0]
    assert chances(temperature=1e-300) == [0, 1, 0, 0]


def test_top_k() -> None:
    assert chances(top_k=2) == [0, round(4 / 7, 6), 0, round(3 / 7, 6)]
    assert chances(top_k=1) == [0, 1, 0, 0]
    assert chances(top_k=0) == chances(top_k=4) == chances(top_k=9) == [0.1, 0.4, 0.2, 0.3]


def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    assert chances(top_p=0.3) == [0, 1, 0, 0]
    assert chances(top_p=0.65) == [0, round(4 / 7, 6), 0, round(3 / 7, 6)]
    assert chances(top_p=0.75) == [0, round(4 / 9, 6), round(2 / 9, 6), round(3 / 9, 6)]
    assert chances(top_p=1.0) == [0.1, 0.4, 0.2, 0.3]


def test_top_p_counts_after_top_k() -> None:
    assert chances(top_k=2, top_p=0.5) == [0, 1, 0, 0]
    assert chances(top_k=2, top_p=0.6) == [0, round(4 / 7, 6), 0, round(3 / 7, 6)]


def test_exactly_k_stay_among_equals() -> None:
    found = probabilities(torch.zeros(1, 5), top_k=2)[0]
    assert sorted(found.tolist()) == [0, 0, 0, 0.5, 0.5]


def test_banned_numbers_have_no_chance_and_rows_do_not_mix() -> None:
    assert chances(banned=[1]) == [round(1 / 6, 6), 0, round(2 / 6, 6), 0.5]
    assert chances(banned=[1], temperature=0) == [0, 0, 0, 1]
    both = probabilities(torch.cat([LOGITS, LOGITS.flip(-1)]), top_k=2)
    assert torch.equal(both[1], both[0].flip(-1))


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1},
        {"temperature": math.nan},
        {"top_k": -1},
        {"top_p": 0},
        {"top_p": 1.5},
        {"banned": range(4)},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"below 0|outside|banned"):
        chances(**options)


def counting(tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """A model of 4 numbers that nearly always says the one after the last, and counts its steps."""
    return 50 * torch.nn.functional.one_hot((tokens + 1) % 4, 4).double(), state + 1


def test_each_token_is_given_back_to_the_model() -> None:
    drawn = list(sample(counting, torch.tensor([3, 1]), torch.zeros(2), length=6))
    assert torch.stack(drawn).T.tolist() == [[0, 1, 2, 3, 0, 1], [2, 3, 0, 1, 2, 3]]
    assert drawn[0].dtype == torch.int64


def test_a_token_is_yielded_before_the_next_step_is_taken() -> None:
    asked = []

    def step(tokens: Tensor, state: None) -> tuple[Tensor, None]:
        asked.append(tokens.tolist())
        return torch.zeros(1, 2), state

    drawn = sample(step, torch.tensor([0]), None, length=3)
    next(drawn)
    assert asked == [[0]]


def test_frequencies_are_the_probabilities() -> None:
    def step(tokens: Tensor, state: None) -> tuple[Tensor, None]:
        return LOGITS.expand(len(tokens), -1), state

    generator = torch.Generator().manual_seed(5)
    rows = 2000
    drawn = torch.cat(
        list(sample(step, torch.zeros(rows, dtype=torch.int64), None, length=10, generator=generator))
    )
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    # Four standard deviations of a share over 20,000 draws.
    assert torch.allclose(shares, LOGITS.exp()[0], atol=4 * math.sqrt(0.25 / (10 * rows)))


def test_a_seed_makes_the_draw_repeatable() -> None:
    def draw(seed: int) -> list[int]:
        def step(tokens: Tensor, state: None) -> tuple[Tensor, None]:
            return LOGITS, state

        generator = torch.Generator().manual_seed(seed)
        return [int(token) for token in sample(step, torch.tensor([0]), None, length=30, generator=generator)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
