"""Kinds of steps: what people write in a cell beside products and gates, each in a cell of two lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

__all__ = ["KINDS", "Kind", "KindCell"]

H = 8
Body = Callable[[Any, Tensor, Tensor], Tensor]


class KindCell(nn.Module):
    """h' = tanh(f(x, U h)); `pick`, `conv` and `norm` are there for those that use them."""

    pick: Tensor

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.hidden_size, self.body, self.u = H, body, nn.Linear(H, H)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm, self.conv = nn.BatchNorm1d(H), nn.Conv1d(1, 1, 3, padding=1)
        self.register_buffer("pick", torch.tensor([3, 1, 0]))
        with torch.random.fork_rng():
            self.spectral = parametrizations.spectral_norm(nn.Linear(H, H))
        self.seen: Any = None
        self.steps = 0

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.body(self, x, self.u(h)))
        return h, h


class Kind(NamedTuple):
    """A kind of step; native: whether it must take the core; cached: called under `parametrize.cached()`."""

    name: str
    body: Body
    native: bool = True
    cached: bool = False


def _write(place: Any, value: Any = 0.5) -> Body:
    def body(cell: Any, x: Tensor, u: Tensor) -> Tensor:
        out = u.clone()
        out[place] = value(x) if callable(value) else value
        return out + x

    return body


def _write_marked(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    out = u.clone()
    out[x[:, 0] > 0] = 0.0
    return out


def _write_weight(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    W = cell.u.weight.clone()
    W[4:, :4] = 0.0
    return x @ W.t() + u


def _records(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    cell.seen = u.detach()
    return x + u


def _counts(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    cell.steps += 1
    return x + u


def _branch(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    return x + u if x.sum() > 0 else x - u


def _writes_marked_values(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    out = u.clone()
    out[x > 0] = x[x > 0]
    return out


def _slots(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    slots = (x + u).view(-1, 2, 4)
    slots = slots + cell.attention(slots, slots, slots)[0]
    return F.scaled_dot_product_attention(slots, slots, slots).flatten(1)


def _memory(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    """Erased and added to where the content is like a key (Graves et al. 2014, eq. 3 to 6)."""
    m, key = u.view(-1, 4, 2), x[:, None, :2]
    w = torch.softmax(3 * F.cosine_similarity(m, key, dim=2), 1).unsqueeze(2)
    return (m * (1 - w * torch.sigmoid(x[:, None, 2:4])) + w * x[:, None, 4:6]).flatten(1)


def _shifted(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    """Moved and sharpened weights of places (Graves et al. 2014, eq. 8 and 9)."""
    w, s = torch.softmax(u, 1), torch.softmax(x[:, :3], 1)
    moved = torch.stack([torch.roll(w, i - 1, 1) for i in range(3)], 2)
    w = (moved * s.unsqueeze(1)).sum(2) ** (1 + F.softplus(x[:, :1]))
    return w / w.sum(1, keepdim=True) + x


def _experts(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    """The two best of four, each a matrix, weighed; and one of two by `index_select`."""
    experts = cell.attention.in_proj_weight[:8]
    chance, which = torch.topk(x[:, :4], 2)
    some = torch.einsum("bkij,bj->bki", experts.view(4, 2, 4)[which], u[:, :4])
    one = experts.view(2, 16).index_select(0, x[:, :2].argmax(1)).view(-1, 4, 4)
    picked = (torch.softmax(chance, 1).unsqueeze(2) * some).sum(1).repeat(1, 4)
    return x + picked + torch.bmm(one, u[:, :4, None]).squeeze(2).repeat(1, 2)


def _pools(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    image = u.view(-1, 1, 4, 2)
    pooled = F.max_pool1d(u.unsqueeze(1), 2).flatten(1) + F.adaptive_avg_pool1d(x.unsqueeze(1), 4).flatten(1)
    padded = F.pad(x, (2, 0))[:, :H] + F.pad(u.unsqueeze(1), (1, 1), "circular").flatten(1)[:, :H]
    return (
        torch.cat([pooled, F.avg_pool2d(image, 2).flatten(1), F.max_pool2d(image, 2).flatten(1)], 1) + padded
    )


def _turns(c: KindCell, x: Tensor, u: Tensor) -> Tensor:
    z = torch.fft.fft(torch.complex(x, u) * torch.polar(x.abs(), u), norm="ortho") * (1 + 0.5j)
    z = z + (z**1.5).tanh() + torch.log(z + 3) + z.sin()
    return (z.conj() * torch.exp(0.1j * x)).real + z.abs() + z.angle()


KINDS = [
    Kind("dropout of any rate, drawn at each step", lambda c, x, u: F.dropout(x, 0.5) + u),
    Kind("`bernoulli_`, `uniform_`, `normal_`, `exponential_` of any parameters",
         lambda c, x, u: x + u * torch.empty_like(x).bernoulli_() + torch.empty_like(x).uniform_(-1, 1)),
    Kind("`torch.normal`", lambda c, x, u: x + torch.normal(u.detach(), 0.1)),
    Kind("one number a row, added to all units", lambda c, x, u: u + x[:, :1] + u.sum(1, keepdim=True)),
    Kind("booleans beside a number: `mask & True`", lambda c, x, u: torch.where((x > 0) | False, x, u)),
    Kind("`t[:, 0] = number`", _write((slice(None), 0))),
    Kind("`t[:, ::2] = u`", _write((slice(None), slice(None, None, 2)), lambda x: x[:, ::2])),
    Kind("`t[:, [1, 3]] = u`, a list that stands in the step", _write((slice(None), [1, 3]), lambda x: x[:, :2])),
    Kind("`t[:, [2, 0, 1]]`, a list that stands in the step", lambda c, x, u: x + u[:, [2, 0, 1] * 2 + [4, 4]]),
    Kind("`t[mask] = number`, of elements or rows", _write_marked),
    Kind("a block of a weight, written", _write_weight),
    Kind("softmax, layer norm, cumulative sums, largest and smallest within a row",
         lambda c, x, u: F.layer_norm(x, (H,)) + u.softmax(1).cumsum(1) + u.amax(1, keepdim=True)),
    Kind("products within a row",
         lambda c, x, u: torch.bmm(u.view(-1, 2, 4), x.view(-1, 4, 2)).flatten(1).repeat(1, 2)),
    Kind("a straight-through or surrogate gradient", lambda c, x, u: x + (u > 0).float() + u - u.detach()),
    Kind("a tensor attribute set at each step: a record (`self.attn = a.detach()`), pruned and normed weights of a "
         "hook; the last step runs in Python", _records),
    Kind("parametrized weights (`torch.nn.utils.parametrizations`) under `parametrize.cached()`, made once a call: "
         "spectral norm in training does one power iteration a call then, as in a loop under it",
         lambda c, x, u: c.spectral(x) + u, True, True),
    Kind("spectral norm in training without that, or of the old hook: one power iteration a step, as in a loop",
         lambda c, x, u: c.spectral(x) + u, False),
    Kind("an attribute that a step reads from the step before, or counts up", _counts, False),
    Kind("`t[:, buffer]`, places in a tensor of the module", lambda c, x, u: x + F.pad(u[:, c.pick], (0, 5))),
    Kind("gather, scatter, index_select, argmax, argmin, max and min with their places, topk, `sort(stable=True)`",
         lambda c, x, u: x + u.gather(1, u.argmax(1, keepdim=True)) * u.topk(2).values[:, :1]
         + u.sort(stable=True).values),
    Kind("an index looked up in a table; the one-hot of an argmax, fed back",
         lambda c, x, u: F.one_hot(u.argmax(1), H).to(u.dtype) * x + F.embedding(x.argmin(1), c.u.weight)),
    Kind("a hard choice with a soft gradient (`F.gumbel_softmax(hard=True)`)",
         lambda c, x, u: x + F.gumbel_softmax(u, hard=True)),
    Kind("attention between slots of a row (`F.scaled_dot_product_attention`, `nn.MultiheadAttention`)", _slots),
    Kind("a memory in the state, addressed by content, erased and added to (NTM)", _memory),
    Kind("weights of places, moved, sharpened (`torch.roll`, powers)", _shifted),
    Kind("a link matrix between places (DNC)",
         lambda c, x, u: x + ((u.unsqueeze(2) * x.unsqueeze(1)) * (1 - torch.eye(H)) @ x.unsqueeze(2)).squeeze(2)),
    Kind("experts that each row picks (`W[which]`, `index_select`, topk)", _experts),
    Kind("pooling over windows side by side, within a row; padding with zeros or around", _pools),
    Kind("logsumexp, logaddexp", lambda c, x, u: torch.logaddexp(x, u) + u.logsumexp(1, keepdim=True)),
    Kind("linear algebra on parameters alone (`matrix_exp`, `qr`, `svd`, `eigh`, `solve`)",
         lambda c, x, u: x + u @ torch.matrix_exp(c.u.weight) @ torch.linalg.qr(c.u.weight).Q),
    Kind("`sort` of elements that may be equal: torch leaves their order open",
         lambda c, x, u: x + u.sort(1).values, False),
    Kind("complex numbers, in parameters and states too (LRU, S4D, unitary networks): sums, products, powers of "
         "any kind, exp, log, roots, angles, sines and tangents, polar, conj, abs, Fourier transforms", _turns),
    Kind("angles, and what they are angles of: atan2, atan, asin, acos, tan; sinh, cosh, atanh",
         lambda c, x, u: x + torch.atan2(u, x) + torch.sinh(u) + torch.tan(u) + torch.asin(torch.tanh(x) * 0.9)),
    Kind("lgamma, digamma, erfinv, erfc, asinh, acosh, remainder, fmod", lambda c, x, u: x + torch.asinh(u), False),
    Kind("`cumprod` (the free places of a DNC)", lambda c, x, u: x + torch.cumprod(torch.sigmoid(u), 1)),
    Kind("`cummax`, `cummin` over 64 elements or fewer",
         lambda c, x, u: x + torch.cummax(u, 1).values + u.cummin(1)[0]),
    Kind("`cummax`, `cummin` over more: all pairs would be compared; `logcumsumexp`",
         lambda c, x, u: x + u.repeat(1, 9).cummax(1).values[:, :8], False),
    Kind("pooling over windows that overlap, with padding, or with gaps",
         lambda c, x, u: x + F.avg_pool1d(u.unsqueeze(1), 3, 1, 1).flatten(1)
         + F.max_pool1d(u.unsqueeze(1), 2, 1, 1, 2).flatten(1)),
    Kind("pooling over windows of several sizes, or one that may end outside (`ceil_mode`)",
         lambda c, x, u: x + F.adaptive_avg_pool1d(u.unsqueeze(1), 3).flatten(1).repeat(1, 3)[:, :8], False),
    Kind("padding by reflection, or by what stands at the edge",
         lambda c, x, u: x + F.pad(u.unsqueeze(1), (1, 1), "reflect").flatten(1)[:, :8]
         + F.pad(u.unsqueeze(1), (2, 1), "replicate").flatten(1)[:, :8]),
    Kind("`m[torch.arange(B), i]` and `m[torch.arange(B)[:, None], i]`, read or written: of each row the places "
         "that its indices name",
         lambda c, x, u: x + u[torch.arange(x.shape[0]), x.argmax(1)].unsqueeze(1)
         + u[torch.arange(x.shape[0])[:, None], x.topk(2).indices].repeat(1, 4)),
    Kind("other uses of the rows' numbers", lambda c, x, u: x + u * torch.arange(x.shape[0])[:, None], False),
    Kind("a convolution within a row", lambda c, x, u: x + c.conv(u.unsqueeze(1)).squeeze(1), False),
    Kind("`t[mask] = u[mask]`: as many values as the data say", _writes_marked_values, False),
    Kind("a branch on data", _branch, False),
    Kind("rows that see one another (batch norm in training, `x.mean(0)`)", lambda c, x, u: c.norm(x) + u, False),
]  # fmt: skip
