"""Rule 2, row-wise for every part: what mixes rows is seen, wherever it stands; what only looks so stays fast."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from battery.cells_simple import H, I
from battery.probes import Net, Probe, Probes, assert_probe

probe = Probes()


def _add_batch_norm(net: Net) -> None:
    net.bn = nn.BatchNorm1d(H)


def _add_frozen_batch_norm(net: Net) -> None:
    net.bn = nn.BatchNorm1d(H).eval()


def _add_group_norm(net: Net) -> None:
    net.norm = nn.GroupNorm(1, H)


TALL = ((4, 5, ()), (3, H, ("reverse",)), (2, 67, ("reset",)))  # batch norm in training refuses one row


@probe("loop", op="mean")
def batch_mean_of_the_input(self: Net, x: Tensor, h: Tensor) -> Any:
    x = x - x.mean(0)  # <-
    h = torch.tanh(self.w(x) + self.u(h))
    return h, h


@probe("loop", op="mean")
def batch_mean_of_the_state(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    h = h - h.mean(0, keepdim=True)  # <-
    return h, h


@probe("loop", op="mean")
def batch_mean_of_the_output(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return self.v(h) - self.v(h).mean(0), h  # <-


@probe("loop", op="softmax|amax")
def softmax_over_the_batch(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return F.softmax(self.v(h), 0), h  # <-


@probe("loop", op="softmax|amax")
def softmax_over_the_batch_in_the_loop(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.softmax(self.w(x) + self.u(h), dim=0)  # <-
    return h, h


@probe("loop", op="batch_norm|BatchNorm", setup=_add_batch_norm, calls=TALL)
def batch_norm_in_training(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.bn(self.w(x)) + self.u(h))  # <-
    return h, h


@probe(setup=_add_frozen_batch_norm)
def batch_norm_in_eval(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.bn(self.u(h)))
    return h, h


@probe("loop", op="mean|sum")
def mean_of_everything(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return h - h.mean(), h  # <-


@probe("loop", op="norm|sum|pow|sqrt")
def global_norm(self: Net, x: Tensor, h: Tensor) -> Any:
    h = self.w(x) + self.u(h)
    h = h / h.norm()  # <-
    return h, h


@probe("loop", op="norm|sum|pow|sqrt")
def normalised_along_the_batch(self: Net, x: Tensor, h: Tensor) -> Any:
    h = F.normalize(self.w(x) + self.u(h), dim=0)  # <-
    return h, h


@probe("loop", op="var|std|mean|sum")
def deviation_over_the_batch(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return h * h.var(0, unbiased=False), h  # <-


@probe("loop", op="flip")
def flipped_batch(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h.flip(0)))  # <-
    return h, h


@probe("loop", op="roll|cat|slice|fmod|remainder|index")
def rolled_batch(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x.roll(1, 0)) + self.u(h))  # <-
    return h, h


@probe("loop", op="cumsum")
def cumulated_over_the_batch(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return h.cumsum(0), h  # <-


@probe("loop", op="select|slice|index|getitem")
def first_row_for_all(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h) + h[0])  # <-
    return h, h


@probe("loop", op="sort")
def sorted_batch(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return h.sort(0).values, h  # <-


@probe("loop", op="max")
def maximum_over_the_batch(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return h - h.max(0).values, h  # <-


@probe("loop", op="mm|matmul")
def rows_against_rows(self: Net, x: Tensor, h: Tensor) -> Any:
    a = F.softmax(h @ h.t(), -1)  # <-
    h = torch.tanh(self.w(x) + self.u(a @ h))
    return h, h


@probe("loop", op="view|reshape|clone|permute|transpose|t\\b")
def rows_read_as_columns(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    mixed = h.t().reshape(h.shape)  # <-
    return mixed, h


@probe("loop", op="")
def transposed_where_batch_is_width(self: Net, x: Tensor, h: Tensor) -> Any:
    """Only when B = H can this run without an error: the trace at other sizes fails, the loop does not."""
    h = torch.tanh(self.w(x) + self.u(h))
    return (h + h.t() if h.size(0) == H else h + 0), h


@probe("loop", op="cat|slice|batch size")
def neighbours(self: Net, x: Tensor, h: Tensor) -> Any:
    up = torch.cat([h[1:], h[:1]], 0)  # <-
    h = torch.tanh(self.w(x) + self.u(up))
    return h, h


@probe("loop", op="norm|mean|var|batch size")
def layer_norm_of_everything(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return F.layer_norm(h, h.shape), h  # <-


@probe("loop", op="logsumexp|max|amax|exp|sum")
def log_sum_over_the_batch(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return h - torch.logsumexp(h, 0), h  # <-


@probe("loop", op="conv")
def convolution_over_the_batch(self: Net, x: Tensor, h: Tensor) -> Any:
    kernel = self.p[:3].view(1, 1, 3)
    along = F.conv1d(h.t().unsqueeze(1), kernel, padding=1).squeeze(1).t()  # <-
    h = torch.tanh(self.w(x) + along)
    return h, h


@probe("loop", op="einsum|mm|sum|mul|div")
def einsum_over_the_batch(self: Net, x: Tensor, h: Tensor) -> Any:
    gram = torch.einsum("bi,bj->ij", h, h) / h.size(0)  # <-
    h = torch.tanh(self.w(x) + h @ gram)
    return h, h


@probe("loop", op="index|gather|sort")
def permuted_rows(self: Net, x: Tensor, h: Tensor) -> Any:
    order = torch.argsort(x[:, 0])  # <-
    h = torch.tanh(self.w(x) + self.u(h)[order])
    return h, h


@probe("loop", op="dropout|sum|any|all|mean|where")
def decided_by_the_whole_batch(self: Net, x: Tensor, h: Tensor) -> Any:
    big = (h.abs() > 0.2).all(0)  # <-
    h = torch.where(big, torch.tanh(self.w(x)), torch.tanh(self.u(h)))
    return h, h


@probe("any")
def product_from_the_left(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + (self.u.weight @ h.t()).t())
    return h, h


@probe("any")
def transposed_and_back(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh((self.w(x).t() + self.u(h).transpose(0, 1)).t())
    return h, h


@probe("any", setup=_add_group_norm)
def group_norm(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.norm(self.w(x) + self.u(h)))
    return h, h


@probe("any")
def rows_one_by_one(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.stack([torch.tanh(self.w(x[b]) + self.u(h[b])) for b in range(x.size(0))])
    return h, h


@probe("any")
def unsqueezed_batch(self: Net, x: Tensor, h: Tensor) -> Any:
    """nn.LSTM-like use: a leading axis of one."""
    h = torch.tanh(self.w(x.unsqueeze(0)) + self.u(h.unsqueeze(0))).squeeze(0)
    return h, h


@probe("any")
def squeezed(self: Net, x: Tensor, h: Tensor) -> Any:
    """squeeze() without an axis would drop a batch of one."""
    a = torch.tanh(self.w(x) + self.u(h))
    return a.unsqueeze(1).squeeze(1), a


@probe("any")
def batch_last(self: Net, x: Tensor, h: Tensor) -> Any:
    heads = h.view(h.size(0), H, 1).permute(2, 1, 0)
    h = torch.tanh(self.w(x) + self.u(heads.permute(2, 1, 0).reshape(-1, H)))
    return h, h


@probe()
def flattened_rows_and_time(self: Net, x: Tensor, h: Tensor) -> Any:
    """view(-1) over all rows and back keeps them apart."""
    a = torch.tanh(self.w(x).reshape(-1)).view(-1, H)
    h = torch.tanh(a + self.u(h))
    return h, h


@probe("loop", op="", state=lambda B: torch.randn(B, H), x=lambda T, B: torch.randn(T, B, I))
def running_over_flattened(self: Net, x: Tensor, h: Tensor) -> Any:
    a = self.w(x) + self.u(h)
    h = torch.tanh(a.reshape(-1).cumsum(0).view(-1, H) / 9)  # <-
    return h, h


@probe.all
def test_probe(probe: Probe) -> None:
    assert_probe(probe)


@pytest.mark.slow
@probe.all
def test_probe_on_the_reference(probe: Probe) -> None:
    assert_probe(probe, "reference")
