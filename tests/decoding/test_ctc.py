"""CTC: the likeliest labelling, held to torch's own sum over all paths and to a search through every labelling."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from elman.decoding import ctc_beam_search, ctc_greedy
from tests.decoding.models import Model

Labels = tuple[int, ...]


def frames(seed: int, T: int, B: int = 1, V: int = 3, sharp: float = 2.0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (sharp * torch.randn(T, B, V, generator=draw, dtype=torch.float64)).log_softmax(-1)


def log_p(table: Tensor, labels: Labels, blank: int) -> float:
    """log p of a labelling by torch's loss, which sums over all paths."""
    T = len(table)
    target = torch.tensor([labels], dtype=torch.int64).reshape(1, -1)
    loss = torch.nn.functional.ctc_loss(
        table.unsqueeze(1),
        target,
        torch.tensor([T]),
        torch.tensor([len(labels)]),
        blank=blank,
        reduction="sum",
    )
    return -float(loss)


def labellings(T: int, V: int, blank: int) -> list[Labels]:
    symbols = [v for v in range(V) if v != blank]
    return [s for n in range(T + 1) for s in itertools.product(symbols, repeat=n)]


@given(
    seed=st.integers(0, 10_000),
    T=st.integers(1, 5),
    blank=st.integers(0, 2),
    bonus=st.sampled_from([0.0, 0.7]),
)
def test_a_wide_beam_finds_the_likeliest_labelling(seed: int, T: int, blank: int, bonus: float) -> None:
    table = frames(seed, T)
    scored = {s: log_p(table[:, 0], s, blank) for s in labellings(T, 3, blank)}
    expected = sorted(scored, key=lambda s: -(scored[s] + bonus * len(s)))
    found = ctc_beam_search(table, [T], blank=blank, beam=500, n_best=3, bonus=bonus)[0]
    for labelling, symbols in zip(found, expected, strict=False):
        assert labelling.symbols == symbols
        assert labelling.log_probability == pytest.approx(scored[symbols], abs=1e-9)
        assert labelling.score == pytest.approx(scored[symbols] + bonus * len(symbols), abs=1e-9)


@given(seed=st.integers(0, 10_000), weight=st.sampled_from([0.3, 1.0]))
def test_a_language_model_is_fused_in(seed: int, weight: float) -> None:
    T, model, table = 4, Model(seed, vocabulary=3), frames(seed + 1, 4)

    def fluency(symbols: Labels) -> float:
        state, total, last = model.state(0), 0.0, 0
        for symbol in symbols:
            logits, state = model.step(torch.tensor([last]), state)
            total += float(logits.log_softmax(-1)[0, symbol])
            last = symbol
        return total

    scored = {s: log_p(table[:, 0], s, 0) + weight * fluency(s) for s in labellings(T, 3, 0)}
    best = max(scored, key=lambda s: scored[s])
    found = ctc_beam_search(
        table, [T], beam=500, language_model=model.step, first=0, state=model.state(0), weight=weight
    )[0][0]
    assert found.symbols == best
    assert found.score == pytest.approx(scored[best], abs=1e-9)


@given(seed=st.integers(0, 10_000), T=st.integers(0, 12))
def test_greedy_merges_repeats_and_drops_blanks(seed: int, T: int) -> None:
    table = frames(seed, T, B=2, V=4)
    found = ctc_greedy(table, [T, T])
    for b in range(2):
        path = table[:, b].argmax(-1).tolist()
        assert found[b].symbols == tuple(s for s, _ in itertools.groupby(path) if s != 0)
        assert [path[t] for t in found[b].frames] == list(found[b].symbols)
        assert found[b].log_probability == pytest.approx(float(table[:, b].amax(-1).sum()))


def test_repeats_need_a_blank_between() -> None:
    path = [1, 1, 0, 1, 2, 2, 0, 0, 2]
    table = torch.full((len(path), 1, 3), -20.0).scatter(2, torch.tensor(path).reshape(-1, 1, 1), -1e-6)
    assert ctc_greedy(table, [len(path)])[0].symbols == (1, 1, 2, 2)
    assert ctc_greedy(table, [len(path)])[0].frames == (0, 3, 4, 8)
    assert ctc_beam_search(table, [len(path)])[0][0].symbols == (1, 1, 2, 2)


def test_padding_is_not_read() -> None:
    table = frames(4, 9, B=3, V=5)
    lengths = [9, 0, 4]
    spoiled = table.clone()
    spoiled[4:, 2], spoiled[:, 1] = math.nan, math.nan
    for decode in (ctc_greedy, ctc_beam_search):
        call: Any = decode
        assert call(spoiled, lengths) == call(table, lengths)
        assert call(table[:4, 2:], [4])[0] == call(table, lengths)[2]
    assert ctc_greedy(table, lengths)[1].symbols == ()


def test_a_cutoff_leaves_out_the_unlikely() -> None:
    table = torch.tensor([[[0.0, 0.595, 0.4, 0.005]]]).log()
    kept = {labelling.symbols for labelling in ctc_beam_search(table, [1], n_best=16)[0]}
    assert kept == {(1,), (2,), (3,)}
    cut = {labelling.symbols for labelling in ctc_beam_search(table, [1], n_best=16, cutoff=0.01)[0]}
    assert cut == {(1,), (2,)}


@pytest.mark.parametrize(
    ("lengths", "options"),
    [([9], {}), ([3, 3], {}), ([-1], {}), ([3], {"beam": 0}), ([3], {"n_best": 20}), ([3], {"cutoff": 1.0})],
)
def test_arguments_out_of_range_are_refused(lengths: list[int], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"lengths are|expected 1 <= n_best|outside"):
        ctc_beam_search(frames(1, 4), lengths, **options)
