"""Beam search over a recurrent state: the K likeliest beginnings of each sentence go on, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from elman.decoding.constraints import ban_repeated_ngrams, only, penalize_repetition, prefix_table
from elman.decoding.step import Pick, Step, rows_along

__all__ = ["Hypothesis", "beam_search", "greedy", "score_targets"]


class Hypothesis(NamedTuple):
    """An answer: its tokens without start and end.

    log_probability: log p of the tokens and of the end behind them, in nats. score: what hypotheses are ordered by.
    ended: whether the model ended it; false where the limit or the constraints left nothing but the end.
    """

    tokens: tuple[int, ...]
    log_probability: float
    score: float
    ended: bool


@dataclass(frozen=True)
class _Rules:
    """The arguments of `beam_search` that stay the same over the search."""

    end: int
    beam: int
    n_best: int
    min_length: int
    max_length: Tensor  # (B,)
    length_penalty: float
    coverage_penalty: float
    no_repeat_ngram: int
    repetition_penalty: float
    banned: tuple[int, ...]
    prefix: Tensor  # (B, P)
    prefix_lengths: Tensor  # (B,)

    def normalizer(self, length: Any) -> Any:
        """lp(Y) for |Y| tokens, the end among them."""
        return ((5 + length) / 6) ** self.length_penalty


@dataclass
class _Search:
    """Where a search stands: n sentences that still go on, K rows of each, R = n·K.

    sentences `(n,)`: which of the batch they are. history `(R, t)`. totals `(n, K)`: log p, -inf where a row stands
    for nothing. coverage `(R, S)`: sums of attention, where it is looked at.
    """

    sentences: Tensor
    history: Tensor
    totals: Tensor
    state: Any
    coverage: Tensor | None = None
    found: list[list[Hypothesis]] = field(default_factory=list)

    @property
    def owners(self) -> Tensor:
        """The sentence of each row `(R,)`."""
        return self.sentences.repeat_interleave(self.totals.shape[1])


def beam_search(
    step: Step,
    first: Tensor,
    state: Any,
    *,
    end: int,
    beam: int = 5,
    n_best: int = 1,
    max_length: int | Tensor = 100,
    min_length: int = 0,
    length_penalty: float = 0.0,
    coverage_penalty: float = 0.0,
    attention: Callable[[Any], Tensor] | None = None,
    attended: Tensor | None = None,
    no_repeat_ngram: int = 0,
    repetition_penalty: float = 1.0,
    banned: Sequence[int] = (),
    prefix: Sequence[Sequence[int]] | None = None,
    pick: Pick | None = None,
) -> list[list[Hypothesis]]:
    """The `n_best` best hypotheses of each of B sentences, best first; there is always at least one.

        score(Y) = log p(Y) / lp(Y) + cp(Y)                    Wu et al., arXiv 1609.08144, equation 14
        lp(Y) = ((5 + |Y|) / 6) ^ length_penalty               |Y| counts the end
        cp(Y) = coverage_penalty * sum_i log min(sum_t a_t,i, 1)

    At each step the K = `beam` likeliest continuations of a sentence's K rows are kept; those that end leave the beam.
    A sentence is done when K have ended, or when no row can overtake its n_best best any more. A sentence gives the
    same hypotheses in any batch, as far as `step` computes the same for it.

    first: `(B,)` tokens that the model reads first. state: B rows, before that token; `pick` picks rows of it (default:
    along axis 0 of each tensor). max_length: most tokens before the end, for all or `(B,)`; a hypothesis that gets
    there can only end. min_length: fewest tokens before the end. attention: state -> `(R, S)` weights of the last
    step, for the coverage, summed over the source positions where `attended` `(B, S)` is true.
    no_repeat_ngram: n of the n-grams that a hypothesis holds at most once (0: any number). repetition_penalty: see
    `elman.decoding.constraints.penalize_repetition`. banned: numbers that never come out. prefix: B beginnings that are
    forced, other constraints or not. Probabilities are not scaled anew over what is left by bans.

    Raises ValueError for arguments out of range.
    """
    rules = _rules(first, end, beam, n_best, max_length, min_length, length_penalty, coverage_penalty,
                   no_repeat_ngram, repetition_penalty, banned, prefix)  # fmt: skip
    if coverage_penalty and attention is None:
        raise ValueError("coverage_penalty needs attention=, which finds the weights in a state")
    pick = pick or rows_along(0)
    search = _begin(rules, first, state, pick)
    tokens = first.repeat_interleave(beam)
    while len(search.sentences):
        with torch.no_grad():
            logits, search.state = step(tokens, search.state)
            if coverage_penalty and attention is not None:
                weights = attention(search.state).to(torch.float64)
                search.coverage = weights if search.coverage is None else search.coverage + weights
            tokens = _advance(search, rules, logits, attended, pick)
    return [sorted(found, key=lambda h: -h.score)[:n_best] for found in search.found]


def greedy(step: Step, first: Tensor, state: Any, **options: Any) -> list[Hypothesis]:
    """The likeliest token at each step: `beam_search` with a beam of one. options: those of `beam_search`."""
    return [found[0] for found in beam_search(step, first, state, beam=1, **options)]


def score_targets(
    step: Step, first: Tensor, state: Any, targets: Sequence[Sequence[int]], *, end: int
) -> list[float]:
    """log p of given targets and of the end behind each, in nats: one sentence and one target a row."""
    if len(targets) != len(first):
        raise ValueError(f"{len(targets)} targets for {len(first)} sentences; expected one each")
    T = 1 + max((len(target) for target in targets), default=0)
    table = torch.full((len(targets), T), end)
    for i, target in enumerate(targets):
        table[i, : len(target)] = torch.tensor(list(target), dtype=torch.int64)
    table = table.to(first.device)
    counted = torch.arange(T) <= torch.tensor([len(target) for target in targets]).unsqueeze(1)
    total, tokens = torch.zeros(len(targets), dtype=torch.float64), first
    with torch.no_grad():
        for t in range(T):
            logits, state = step(tokens, state)
            tokens = table[:, t]
            said = logits.gather(1, tokens.unsqueeze(1)).squeeze(1) - logits.logsumexp(-1)
            total += torch.where(counted[:, t], said.cpu().to(torch.float64), 0.0)
    return [float(value) for value in total]


def _rules(
    first: Tensor,
    end: int,
    beam: int,
    n_best: int,
    max_length: int | Tensor,
    min_length: int,
    length_penalty: float,
    coverage_penalty: float,
    no_repeat_ngram: int,
    repetition_penalty: float,
    banned: Sequence[int],
    prefix: Sequence[Sequence[int]] | None,
) -> _Rules:
    longest = torch.as_tensor(max_length).expand(len(first)).to("cpu", torch.int64)
    if prefix is not None and len(prefix) != len(first):
        raise ValueError(f"{len(prefix)} prefixes for {len(first)} sentences; expected one each, () for none")
    for name, value, least in (
        ("beam", beam, 1),
        ("n_best", n_best, 1),
        ("min_length", min_length, 0),
        ("max_length", int(longest.min()) if len(longest) else 0, 0),
        ("length_penalty", length_penalty, 0),
        ("coverage_penalty", coverage_penalty, 0),
        ("no_repeat_ngram", no_repeat_ngram, 0),
    ):
        if not value >= least:
            raise ValueError(f"{name} is {value}; expected {least} or more")
    if n_best > beam:
        raise ValueError(f"n_best {n_best} is more than beam {beam}, which is as many as are found")
    if not repetition_penalty > 0:
        raise ValueError(
            f"repetition_penalty is {repetition_penalty}; expected more than 0; 1 changes nothing"
        )
    if end in banned:
        raise ValueError(f"the end ({end}) is banned; a search could only stop at max_length")
    table, lengths = prefix_table(prefix if prefix is not None else [()] * len(first), end)
    if bool((lengths > longest).any()):
        raise ValueError(f"a prefix of {int(lengths.max())} tokens is longer than max_length")
    return _Rules(end, beam, n_best, min_length, longest, length_penalty, coverage_penalty, no_repeat_ngram,
                  repetition_penalty, tuple(banned), table, lengths)  # fmt: skip


def _begin(rules: _Rules, first: Tensor, state: Any, pick: Pick) -> _Search:
    B = len(first)
    rows = torch.arange(B).repeat_interleave(rules.beam)
    totals = torch.full((B, rules.beam), -torch.inf, dtype=torch.float64)
    totals[:, 0] = 0  # the rows of a sentence are equal still: one of them counts
    history = torch.zeros(B * rules.beam, 0, dtype=torch.int64)
    return _Search(
        torch.arange(B), history, totals, pick(state, rows.to(first.device)), None, [[] for _ in range(B)]
    )


def _advance(search: _Search, rules: _Rules, logits: Tensor, attended: Tensor | None, pick: Pick) -> Tensor:
    """Take the best continuations of each sentence; returns the tokens of the rows that go on."""
    if logits.shape[-1] < 2:
        raise ValueError("the model knows one token; a search needs the end and at least one more")
    device, logits = logits.device, logits.detach().cpu()
    n, K = search.totals.shape
    values, words, forced = _choices(search, rules, logits)
    k = values.shape[-1]
    sums = (search.totals.reshape(-1, 1) + values).reshape(n, K * k)
    best, places = sums.topk(min(2 * K, K * k), dim=-1)
    parents = places // k + torch.arange(n).unsqueeze(1) * K
    words = words.reshape(n, K * k).gather(1, places)
    ends = words == rules.end
    _collect(search, rules, best, parents, ends, forced, attended)
    # The first K that do not end, in their order.
    order = torch.sort(ends.to(torch.int8), dim=-1, stable=True).indices[:, :K]
    best, parents, words = (table.gather(1, order) for table in (best, parents, words))
    going = torch.tensor([not _done(search, rules, i, best[i]) for i in range(n)], dtype=torch.bool)
    rows, tokens = parents[going].flatten(), words[going].flatten()
    search.history = torch.cat((search.history[rows], tokens.unsqueeze(1)), 1)
    search.totals, search.sentences = best[going], search.sentences[going]
    search.coverage = None if search.coverage is None else search.coverage[rows.to(search.coverage.device)]
    if len(rows):
        search.state = pick(search.state, rows.to(device))
    return tokens.to(device)


def _choices(search: _Search, rules: _Rules, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The likeliest continuations of each row: log p `(R, k)` in float64, -inf where barred, and which they are.

    Third: the rows that were left nothing but the end. No pass over all the logits is made that can be made over these.
    """
    t, owners = search.history.shape[1], search.owners
    if rules.repetition_penalty != 1 and t:
        logits = penalize_repetition(logits, search.history, rules.repetition_penalty)
    normalizer = logits.logsumexp(-1, keepdim=True)
    free = logits
    if rules.no_repeat_ngram:
        free = ban_repeated_ngrams(free, search.history, rules.no_repeat_ngram, rules.end)
    in_prefix = t < rules.prefix_lengths[owners]
    if bool(in_prefix.any()):
        column = rules.prefix[owners, min(t, rules.prefix.shape[1] - 1)]
        free = torch.where(in_prefix.unsqueeze(1), only(logits, column, in_prefix), free)
    barred = torch.tensor([*rules.banned, *([rules.end] if t < rules.min_length else [])], dtype=torch.int64)
    k = min(2 * search.totals.shape[1] + len(barred), logits.shape[-1])
    values, words = free.topk(k, dim=-1)
    if len(barred):
        # A forced beginning may hold what is barred elsewhere.
        hidden = torch.isin(words, barred) & ~in_prefix.unsqueeze(1)
        values = values.masked_fill(hidden, -torch.inf)
    stuck = (t >= rules.max_length[owners]) | (values == -torch.inf).all(-1)
    if bool(stuck.any()):
        values, words = values.masked_fill(stuck.unsqueeze(1), -torch.inf), words.clone()
        values[stuck, 0], words[stuck, 0] = logits[stuck, rules.end], rules.end
    return (values - normalizer).to(torch.float64), words, stuck


def _collect(
    search: _Search,
    rules: _Rules,
    best: Tensor,
    parents: Tensor,
    ends: Tensor,
    forced: Tensor,
    attended: Tensor | None,
) -> None:
    """Keep what has ended among the K best continuations of each sentence."""
    K = search.totals.shape[1]
    length = search.history.shape[1] + 1
    for i, j in (ends & (best > -torch.inf))[:, :K].nonzero().tolist():
        row, total = int(parents[i, j]), float(best[i, j])
        score = total / float(rules.normalizer(length))
        if search.coverage is not None:
            covered = search.coverage[row].clamp(torch.finfo(torch.float64).tiny, 1).log()
            if attended is not None:
                covered = covered[attended[search.sentences[i]]]
            score += rules.coverage_penalty * float(covered.sum())
        tokens = tuple(search.history[row].tolist())
        search.found[int(search.sentences[i])].append(Hypothesis(tokens, total, score, not forced[row]))


def _done(search: _Search, rules: _Rules, i: int, totals: Tensor) -> bool:
    """Whether sentence i of those that go on is finished: K have ended, or no row can overtake the n_best best."""
    sentence = int(search.sentences[i])
    found, alive = search.found[sentence], float(totals[0])
    if len(found) >= rules.beam or alive == -torch.inf:
        return True
    if len(found) < rules.n_best:
        return False
    # A longer hypothesis divides by more; a coverage penalty of nothing is the best there is.
    reachable = alive / float(rules.normalizer(int(rules.max_length[sentence]) + 1))
    worst: float = sorted((h.score for h in found), reverse=True)[rules.n_best - 1]
    return reachable <= worst
