"""Beam search: exhaustive search where the beam is wide, a batch as each sentence alone, always an answer."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from elman.decoding import Hypothesis, beam_search, greedy, rows_along, score_targets
from tests.decoding.models import END, Model, State, exhaustive, read

WIDE = 200
FIRST = torch.ones(1, dtype=torch.int64)


def search(model: Model, *sentences: int, **options: Any) -> list[list[Hypothesis]]:
    state = model.state(*sentences)
    return beam_search(model.step, FIRST.expand(len(sentences)), state, end=END, **options)


def ngrams(tokens: tuple[int, ...], n: int) -> list[tuple[int, ...]]:
    return [tokens[i : i + n] for i in range(len(tokens) - n + 1)]


def assert_best(found: list[Hypothesis], expected: list[tuple[tuple[int, ...], float, float]]) -> None:
    assert len(found) == min(len(found), len(expected)) > 0
    for hypothesis, (tokens, total, score) in zip(found, expected, strict=False):
        assert hypothesis.tokens == tokens
        assert hypothesis.log_probability == pytest.approx(total, abs=1e-9)
        assert hypothesis.score == pytest.approx(score, abs=1e-9)


@given(
    seed=st.integers(0, 10_000),
    alpha=st.sampled_from([0.0, 0.6, 1.0, 2.0]),
    beta=st.sampled_from([0.0, 0.3]),
    least=st.integers(0, 2),
    n=st.sampled_from([0, 1, 2]),
    banned=st.sampled_from([(), (2,)]),
    prefix=st.sampled_from([(), (3,), (3, 3)]),
)
def test_a_wide_beam_is_exhaustive_search(
    seed: int, alpha: float, beta: float, least: int, n: int, banned: tuple[int, ...], prefix: tuple[int, ...]
) -> None:
    model, P = Model(seed), len(prefix)

    def allowed(tokens: tuple[int, ...]) -> bool:
        free = tokens[P:]
        once = not n or all(gram not in ngrams(tokens[: i + n - 1], n) for i, gram in enumerate(ngrams(tokens, n))
                            if i + n > P)  # fmt: skip
        return tokens[:P] == prefix and len(tokens) >= least and not set(free) & set(banned) and once

    def score(total: float, length: int, weights: Tensor) -> float:
        covered = weights.sum(0).clamp(max=1).log().sum()
        return total / ((5 + length) / 6) ** alpha + beta * float(covered)

    expected = exhaustive(model, 0, 4, allowed=allowed, score=score)
    found = search(
        model, 0, beam=WIDE, n_best=5, max_length=4, length_penalty=alpha, coverage_penalty=beta,
        attention=lambda state: state.weights, min_length=least, no_repeat_ngram=n, banned=banned, prefix=[prefix],
    )  # fmt: skip
    # Where every way on is barred a hypothesis ends early, and says so.
    assert_best(
        [h for h in found[0] if h.ended or allowed(h.tokens)][:3], [e for e in expected if allowed(e[0])]
    )


@given(seed=st.integers(0, 10_000), beam=st.integers(1, 4), alpha=st.sampled_from([0.0, 0.8]))
def test_a_batch_is_each_sentence_alone(seed: int, beam: int, alpha: float) -> None:
    model, sentences = Model(seed, vocabulary=6), (3, 0, 7, 7, 2)
    longest = torch.tensor([5, 9, 2, 0, 7])
    options: dict[str, Any] = {"beam": beam, "n_best": beam, "length_penalty": alpha, "no_repeat_ngram": 2}
    prefixes: list[tuple[int, ...]] = [(), (2, 3), (4,), (), (5,)]
    together = search(model, *sentences, max_length=longest, prefix=prefixes, **options)
    for i, sentence in enumerate(sentences):
        alone = search(model, sentence, max_length=int(longest[i]), prefix=[prefixes[i]], **options)
        assert together[i] == alone[0]


@given(seed=st.integers(0, 10_000))
def test_a_beam_of_one_takes_the_likeliest_at_each_step(seed: int) -> None:
    model = Model(seed, vocabulary=7)
    tokens, state, last = [], model.state(4), 1
    for _ in range(12):
        logits, state = model.step(torch.tensor([last]), state)
        last = int(logits.argmax())
        if last == END:
            break
        tokens.append(last)
    found = greedy(model.step, FIRST, model.state(4), end=END, max_length=12)[0]
    assert found.tokens == tuple(tokens)
    assert found.ended == (last == END)
    assert found.log_probability == pytest.approx(read(model, 4, found.tokens)[0], abs=1e-9)


@given(seed=st.integers(0, 10_000), beam=st.integers(2, 5))
def test_stopping_early_loses_nothing(seed: int, beam: int) -> None:
    """The best of a search that stops where nothing can overtake it is the best of one that goes on to the limit."""
    model = Model(seed, vocabulary=5)
    short = search(model, 1, beam=beam, max_length=8, length_penalty=0.6)[0][0]
    totals = [h.score for h in search(model, 1, beam=beam, n_best=beam, max_length=8, length_penalty=0.6)[0]]
    assert short.score == pytest.approx(max(totals), abs=1e-12)


def test_sentences_that_are_done_are_not_computed_any_more() -> None:
    model = Model(11, vocabulary=5)
    search(model, 0, 1, 2, beam=2, max_length=torch.tensor([1, 1, 20]), min_length=1)
    few = model.rows
    model.rows = 0
    search(model, 0, 1, 2, beam=2, max_length=20, min_length=20)
    assert few < model.rows / 2


def test_scores_of_targets_are_those_of_the_hypotheses() -> None:
    model = Model(3, vocabulary=6)
    found = search(model, *range(6), beam=4, n_best=1, max_length=torch.tensor([0, 1, 3, 5, 9, 9]))
    targets = [h[0].tokens for h in found]
    scores = score_targets(model.step, FIRST.expand(6), model.state(*range(6)), targets, end=END)
    assert scores == pytest.approx([h[0].log_probability for h in found], abs=1e-9)
    assert scores == pytest.approx([read(model, i, t)[0] for i, t in enumerate(targets)], abs=1e-9)


def test_states_of_torchs_layout_are_picked_along_their_batch_axis() -> None:
    torch.manual_seed(5)
    lstm, table, head = torch.nn.LSTM(4, 6, num_layers=2), torch.nn.Embedding(7, 4), torch.nn.Linear(6, 7)

    def step(tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        y, state = lstm(table(tokens).unsqueeze(0), state)
        return 3 * head(y[0]), state

    def step_rows_first(tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        h, c = (part.transpose(0, 1).contiguous() for part in state)
        logits, state = step(tokens, (h, c))
        return logits, tuple(part.transpose(0, 1) for part in state)

    first, start = torch.ones(3, dtype=torch.int64), (torch.randn(2, 3, 6), torch.randn(2, 3, 6))
    options: dict[str, Any] = {"end": END, "beam": 3, "n_best": 3, "max_length": 10}
    ours = beam_search(step, first, start, pick=rows_along(1), **options)
    turned = beam_search(step_rows_first, first, tuple(s.transpose(0, 1) for s in start), **options)
    assert [[h.tokens for h in row] for row in ours] == [[h.tokens for h in row] for row in turned]


def never_ending(tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    logits = torch.full((len(tokens), 3), -5.0)
    logits[:, END], logits[:, 1] = -1e4, 5.0
    return logits, state


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({"max_length": 6}, (1,) * 6),
        ({"max_length": 0}, ()),
        ({"max_length": 6, "banned": [1, 2]}, ()),
        ({"max_length": 6, "no_repeat_ngram": 1}, (1, 2)),
        ({"max_length": 6, "min_length": 6, "banned": [1, 2]}, ()),
    ],
)
def test_there_is_always_an_answer(options: dict[str, Any], tokens: tuple[int, ...]) -> None:
    for beam in (1, 3):
        found = beam_search(
            never_ending, FIRST.expand(2), torch.zeros(2), end=END, beam=beam, length_penalty=1.0, **options
        )
        assert [row[0].tokens for row in found] == [tokens, tokens]
        assert all(math.isfinite(row[0].log_probability) for row in found)


def test_a_hypothesis_that_the_limit_ends_says_so() -> None:
    found = beam_search(
        never_ending, FIRST, torch.zeros(1), end=END, length_penalty=1.0, max_length=4, n_best=5
    )[0]
    assert {len(h.tokens): h.ended for h in found} == {4: False}
    longer = beam_search(never_ending, FIRST, torch.zeros(1), end=END, max_length=9, beam=9, n_best=9)[0]
    assert all(h.ended == (len(h.tokens) < 9) for h in longer)


def test_repetition_costs_what_the_paper_says() -> None:
    logits = torch.tensor([[-9.0, 2.0, 1.5, -1.0]])

    def step(tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return logits.expand(len(tokens), -1), state

    found = greedy(step, FIRST, torch.zeros(1), end=END, max_length=2, repetition_penalty=1.5)[0]
    assert found.tokens == (1, 2)  # 2 / 1.5 < 1.5
    second = torch.tensor([-9.0, 2 / 1.5, 1.5, -1.0]).log_softmax(-1)[2]
    third = torch.tensor([-9.0, 2 / 1.5, 1.0, -1.0]).log_softmax(-1)[END]
    expected = float(logits.log_softmax(-1)[0, 1] + second + third)
    assert found.log_probability == pytest.approx(expected, abs=1e-5)


def test_coverage_counts_the_positions_that_are_there() -> None:
    model = Model(8)
    attended = torch.tensor([[True, True, False]])
    options: dict[str, Any] = {
        "coverage_penalty": 0.5,
        "attention": lambda state: state.weights,
        "max_length": 5,
    }
    found = search(model, 2, attended=attended, **options)[0][0]
    total, weights = read(model, 2, found.tokens)
    covered = weights.sum(0)[:2].clamp(max=1).log().sum()
    assert found.score == pytest.approx(total + 0.5 * float(covered), abs=1e-9)


def test_padding_without_attention_does_not_make_a_score_infinite() -> None:
    def padded(state: State) -> Tensor:
        return torch.nn.functional.pad(state.weights, (0, 2))

    attended = torch.tensor([[True, True, True, False, False]])
    found = search(Model(8), 2, coverage_penalty=0.5, attention=padded, attended=attended, max_length=5)
    plain = search(Model(8), 2, coverage_penalty=0.5, attention=lambda state: state.weights, max_length=5)
    assert found[0][0].score == plain[0][0].score


def test_no_sentences() -> None:
    assert beam_search(never_ending, FIRST[:0], torch.zeros(0), end=END) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 0}, "beam is 0"),
        ({"beam": 2, "n_best": 3}, "n_best 3 is more than beam 2"),
        ({"max_length": -1}, "max_length is -1"),
        ({"length_penalty": -0.5}, "length_penalty is -0.5"),
        ({"length_penalty": math.nan}, "length_penalty is nan"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"banned": [END]}, "the end"),
        ({"prefix": [(1,), (2,)]}, "2 prefixes for 1 sentences"),
        ({"prefix": [(1, END)]}, "holds the end"),
        ({"prefix": [(1, 2)], "max_length": 1}, "longer than max_length"),
        ({"coverage_penalty": 0.1}, "needs attention"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        beam_search(never_ending, FIRST, torch.zeros(1), end=END, **options)


def test_all_hypotheses_of_a_sentence_differ() -> None:
    found = search(Model(21, vocabulary=6), 0, beam=8, n_best=8, max_length=6)[0]
    assert len({h.tokens for h in found}) == len(found) == 8
    assert all(a.score >= b.score for a, b in itertools.pairwise(found))
