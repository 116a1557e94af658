"""From the outputs of all steps to one vector for each sequence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from elman.nn.layout import going, without_padding

__all__ = ["POOLINGS", "AttentionPooling", "Pooling", "RunningPooling", "max_over_time", "mean_over_time"]


def mean_over_time(y: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The mean over each row's own steps, `(T, B, H)` -> `(B, H)`; zeros for a row of length 0."""
    if lengths is None:
        return y.mean(0)
    steps = lengths.to(device=y.device, dtype=y.dtype).clamp(min=1)
    return without_padding(y, lengths).sum(0) / steps.unsqueeze(1)


def max_over_time(y: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The largest over each row's own steps, feature by feature, `(T, B, H)` -> `(B, H)`; zeros for length 0."""
    if lengths is None:
        return y.max(0).values
    valid = going(y, lengths)
    largest = y.masked_fill(~valid.unsqueeze(-1), -torch.inf).max(0).values
    return largest.masked_fill(~valid[0].unsqueeze(-1), 0.0)


def at_last(y: Tensor, lengths: Tensor | None) -> Tensor:
    """Each row's own last step; zeros for a row of length 0."""
    if lengths is None:
        return y[-1]
    ends = lengths.to(y.device).long()
    last = (ends - 1).clamp(min=0).view(1, -1, 1).expand(1, *y.shape[1:])
    return y.gather(0, last)[0].masked_fill((ends == 0).unsqueeze(1), 0.0)


POOLINGS = ("last", "mean", "max", "attention")


class AttentionPooling(nn.Module):
    r"""The sum of the steps, each by its weight (Yang et al. 2016, "Hierarchical Attention Networks", eq. 5 to 7).

        u_t = tanh(W y_t + b)    a_t = softmax over t of (v·u_t)    s = Σ_t a_t y_t

    W `(A, H)`, v `(A)`. The softmax is over each row's own steps; a row of length 0 gives zeros.
    """

    def __init__(self, features: int, size: int = 0) -> None:
        """Take H, and A (0: as H)."""
        super().__init__()
        self.project = nn.Linear(features, size or features)
        self.query = nn.Linear(size or features, 1, bias=False)

    def weights(self, y: Tensor, lengths: Tensor | None = None) -> Tensor:
        """a `(T, B)`: zeros in the padding; each row of a positive length sums to one."""
        scores: Tensor = self.query(torch.tanh(self.project(without_padding(y, lengths)))).squeeze(-1)
        if lengths is None:
            return scores.softmax(0)
        valid = going(y, lengths)
        # A row without steps has no largest score: -inf in all of it would make NaN.
        scores = torch.where(valid | ~valid[:1], scores, -torch.inf)
        return scores.softmax(0).masked_fill(~valid, 0.0)

    def forward(self, y: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`(T, B, H)` -> `(B, H)`."""
        return (self.weights(y, lengths).unsqueeze(-1) * without_padding(y, lengths)).sum(0)


class Pooling(nn.Module):
    """One vector for each sequence, `(T, B, H)` -> `(B, output_size)`, each row by its own length.

    kinds: words of `POOLINGS`, joined by "+" to stand side by side ("max+mean" gives 2H features):
        last       each direction's own last output: y at the row's last step; `ends` says what that is for two
                   directions or a reversed one
        mean, max  over the row's steps, feature by feature
        attention  weighed steps, see `AttentionPooling`
    ends: "last" where the outputs run forward; "first" where they run backward; "halves" where the first half of the
        features runs forward and the second half backward (two directions, concatenated), "turned" the other way
        round; "both" where both run in every feature (two directions, merged otherwise): the last and the first step
        side by side, 2H features.
    """

    def __init__(self, features: int, kinds: str = "last", *, ends: str = "last") -> None:
        super().__init__()
        self.kinds = tuple(kinds.split("+"))
        unknown = [kind for kind in self.kinds if kind not in POOLINGS]
        if unknown or len(set(self.kinds)) < len(self.kinds):
            raise ValueError(
                f"pooling={kinds!r}; expected words of {', '.join(POOLINGS)}, each once, joined by '+'"
            )
        if ends not in _ENDS:
            raise ValueError(f"ends={ends!r}; expected one of {', '.join(map(repr, _ENDS))}")
        self.ends = ends
        self.input_size = features
        self.attention = AttentionPooling(features) if "attention" in self.kinds else nn.Identity()
        doubled = ends == "both" and "last" in self.kinds
        self.output_size = features * (len(self.kinds) + doubled)

    def forward(self, y: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`(T, B, H)` -> `(B, output_size)`; lengths: `(B,)`, None where every row takes every step."""
        return torch.cat([self._one(kind, y, lengths) for kind in self.kinds], dim=-1)

    def _one(self, kind: str, y: Tensor, lengths: Tensor | None) -> Tensor:
        if kind == "last":
            return _ENDS[self.ends](y, lengths)
        take = self.attention if kind == "attention" else _OVER_TIME[kind]
        pooled: Tensor = take(y, lengths)
        return pooled

    def extra_repr(self) -> str:
        """The kinds."""
        return f"{'+'.join(self.kinds)!r}, ends={self.ends!r}"


class RunningPooling:
    """A `Pooling` over the steps so far of a sequence that goes on, in memory that does not grow with it.

    `running(y_t)` `(B, H)` gives what the pooling gives of y_1 .. y_t, `(B, output_size)`. Attention is summed with its
    largest score so far taken out (Milakov & Gimelshein 2018, arXiv 1805.02867, alg. 3). Without gradients. ValueError
    for outputs that do not run forward alone.
    """

    def __init__(self, pooling: Pooling) -> None:
        if pooling.ends != "last":
            raise ValueError(
                "outputs that run backward need the whole sequence; take layers of one direction"
            )
        self.pooling = pooling
        self.steps = 0
        self._sum = self._largest = self._weighed = self._weights = self._top = torch.zeros(())

    @torch.no_grad()
    def __call__(self, y: Tensor) -> Tensor:
        """Take the next step in."""
        first, self.steps = self.steps == 0, self.steps + 1
        self._sum = y.clone() if first else self._sum + y
        self._largest = y.clone() if first else torch.maximum(self._largest, y)
        if isinstance(self.pooling.attention, AttentionPooling):
            self._weigh(y, self.pooling.attention, first=first)
        found = {"last": y, "mean": self._sum / self.steps, "max": self._largest}
        if "attention" in self.pooling.kinds:
            found["attention"] = self._weighed / self._weights
        return torch.cat([found[kind] for kind in self.pooling.kinds], dim=-1)

    def _weigh(self, y: Tensor, attention: AttentionPooling, *, first: bool) -> None:
        score = attention.query(torch.tanh(attention.project(y)))
        top = score if first else torch.maximum(self._top, score)
        old = torch.zeros_like(top) if first else (self._top - top).exp()
        new = (score - top).exp()
        self._weighed = new * y if first else old * self._weighed + new * y
        self._weights = new if first else old * self._weights + new
        self._top = top


def at_first(y: Tensor, lengths: Tensor | None) -> Tensor:
    """Each row's first step; zeros for a row of length 0."""
    return without_padding(y[:1], None if lengths is None else lengths.clamp(max=1))[0]


def at_halves(y: Tensor, lengths: Tensor | None) -> Tensor:
    """The first half of the features at the row's last step, the second half at its first."""
    forward, backward = y.chunk(2, dim=-1)
    return torch.cat((at_last(forward, lengths), at_first(backward, lengths)), dim=-1)


def at_turned(y: Tensor, lengths: Tensor | None) -> Tensor:
    """The first half of the features at the row's first step, the second half at its last."""
    backward, forward = y.chunk(2, dim=-1)
    return torch.cat((at_first(backward, lengths), at_last(forward, lengths)), dim=-1)


def at_both(y: Tensor, lengths: Tensor | None) -> Tensor:
    """All features at the row's last step, and at its first."""
    return torch.cat((at_last(y, lengths), at_first(y, lengths)), dim=-1)


_OVER_TIME: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "mean": mean_over_time,
    "max": max_over_time,
}
_ENDS: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "last": at_last,
    "first": at_first,
    "halves": at_halves,
    "turned": at_turned,
    "both": at_both,
}
