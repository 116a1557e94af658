"""The quick draw has the chances of the slow one, and draws by them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from elman.decoding import Draw, drawing, probabilities

OPTIONS = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 1e-300, 0.3, 1.0, 2.5]),
        "top_k": st.integers(0, 9),
        "top_p": st.sampled_from([1e-9, 0.2, 0.5, 0.93, 1.0]),
        "banned": st.sampled_from([(), (0,), (1, 3)]),
    }
)


@given(st.integers(0, 10**6), st.integers(4, 9), st.integers(1, 3), st.booleans(), OPTIONS)
def test_the_chances_are_those_of_the_oracle(seed, size, rows, equal, options):
    logits = 3 * torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))
    logits = logits.round() if equal else logits
    want = probabilities(logits, **options).numpy()
    found = Draw(size, rows=rows, **options).chances(logits)
    assert np.allclose(found, want, rtol=1e-12, atol=1e-300)
    assert ((found > 0) == (want > 0)).all()


def test_what_is_sorted_of_many_numbers_is_enough(monkeypatch):
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(0)).mul(2).round()
    whole = [Draw(40, rows=3, top_k=k, top_p=0.8).chances(logits) for k in (1, 7, 30)]
    monkeypatch.setattr(drawing, "MANY", 1)
    few = [Draw(40, rows=3, top_k=k, top_p=0.8).chances(logits) for k in (1, 7, 30)]
    assert np.array_equal(few, whole)


@given(st.integers(0, 10**6), st.integers(4, 9), st.integers(1, 3), OPTIONS)
def test_what_is_drawn_is_the_first_whose_sum_exceeds_a_uniform_number(seed, size, rows, options):
    draw = Draw(size, rows=rows, seed=seed, **options)
    uniform = [torch.Generator().manual_seed(seed + row) for row in range(rows)]
    uniform = [torch.rand(256, dtype=torch.float64, generator=own).tolist() for own in uniform]
    generator = torch.Generator().manual_seed(seed)
    for step in range(5):
        logits = torch.randn(rows, size, generator=generator)
        sums = probabilities(logits, **options).cumsum(-1)
        found = draw(logits)
        for row, token in enumerate(found):
            u = uniform[row][step]
            below = float(sums[row, token - 1]) if token else 0.0
            assert below <= u + 1e-12
            assert u < float(sums[row, token]) + 1e-12


def test_rows_draw_from_generators_of_their_own():
    logits = torch.zeros(1, 50)
    alone = [[Draw(50, seed=seed)(logits)[0]] for seed in (5, 6, 7)]
    assert [[n] for n in Draw(50, rows=3, seed=5)(logits.expand(3, -1))] == alone
    assert [[n] for n in Draw(50, rows=3, seed=5)(logits.expand(2, -1), rows=[0, 2])] == [alone[0], alone[2]]
    state = torch.random.get_rng_state()
    assert Draw(10**6)(torch.zeros(1, 10**6)) != Draw(10**6)(torch.zeros(1, 10**6))
    assert torch.equal(state, torch.random.get_rng_state())


def test_frequencies_are_the_probabilities_over_many_blocks_of_numbers():
    logits = torch.tensor([[math.log(p) for p in (0.1, 0.4, 0.2, 0.3)]])
    draw = Draw(4, seed=3)
    drawn = [draw(logits)[0] for _ in range(5000)]
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    # Four standard deviations of a share.
    assert np.allclose(shares, [0.1, 0.4, 0.2, 0.3], atol=4 * math.sqrt(0.25 / 5000))


def test_the_logits_stay_as_they_are():
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        logits = torch.ones(1, 4, dtype=dtype)
        Draw(4, banned=(1,))(logits)
        assert torch.equal(logits, torch.ones(1, 4, dtype=dtype))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_refused(wrong, temperature):
    with pytest.raises(ValueError, match="nothing to draw from"):
        Draw(3, temperature=temperature)(torch.tensor([[0.0, wrong, 1.0]]))


@pytest.mark.parametrize(
    "options", [{"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.5}, {"banned": range(4)}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=r"below 0|outside|banned"):
        Draw(4, **options)
