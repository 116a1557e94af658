"""Batch normalization that looks past the padding."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import elman.nn as en
from nn.by_hand import assert_same
from nn.networks import DOUBLE, H, features
from tolerances import assert_near


def pair() -> tuple[en.MaskedBatchNorm, nn.BatchNorm1d]:
    ours, theirs = en.MaskedBatchNorm(H).to(DOUBLE), nn.BatchNorm1d(H).to(DOUBLE)
    with torch.no_grad():
        for p in ours.parameters():
            p.add_(torch.randn_like(p))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(lambda n: sum(n) > 1),
    steps=st.integers(1, 3),
)
def test_only_steps_of_a_sequence_count(lengths: list[int], steps: int) -> None:
    ours, theirs = pair()
    given_lengths = torch.tensor(lengths)
    for _ in range(steps):
        x = features(lengths, 6, H)
        valid = ~x[..., 0].isnan()
        x = x.requires_grad_()
        y = ours(x, given_lengths)
        assert (y[~valid] == 0).all()
        rows = x.detach()[valid].requires_grad_()
        names = [name for name, _ in ours.named_parameters()]
        mine = {name: dict(ours.named_parameters())[name] for name in names}
        assert_same(y[valid], theirs(rows), mine, dict(theirs.named_parameters()))
        a = torch.autograd.grad((y[valid] ** 3).sum(), x)[0]
        b = torch.autograd.grad((theirs(rows) ** 3).sum(), rows)[0]
        assert_near(a[valid], b, gradient=True)
        assert (a[~valid] == 0).all()
        theirs.load_state_dict(ours.state_dict())
    ours.eval()
    theirs.eval()
    x = features(lengths, 6, H)
    valid = ~x[..., 0].isnan()
    assert_near(ours(x, given_lengths)[valid], theirs(x[valid]))


def test_running_statistics_are_those_of_the_valid_steps() -> None:
    ours, theirs = pair()
    x = features([4, 0, 2], 5, H)
    ours(x, torch.tensor([4, 0, 2]))
    theirs(x[~x[..., 0].isnan()])
    assert_near(ours.running_mean, theirs.running_mean)
    assert_near(ours.running_var, theirs.running_var)
    assert not torch.equal(ours.running_mean, torch.zeros(H, dtype=DOUBLE))


def test_without_lengths_all_rows_count() -> None:
    ours, theirs = pair()
    x = torch.randn(5, 3, H, dtype=DOUBLE)
    assert_near(ours(x), theirs(x.reshape(15, H)).reshape(5, 3, H))
    assert_near(ours(x[0]), theirs(x[0]))


@pytest.mark.parametrize("lengths", [[1, 0], [0, 0]])
def test_fewer_than_two_rows_go_by_the_running_statistics(lengths: list[int]) -> None:
    ours, _ = pair()
    x = features(lengths, 3, H)
    before = ours.running_mean.clone()
    y = ours(x, torch.tensor(lengths))
    ours.eval()
    assert_near(y, ours(x, torch.tensor(lengths)))
    assert torch.equal(before, ours.running_mean)


def test_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="H = 4"):
        en.MaskedBatchNorm(H)(torch.randn(3, 2, H + 1))
    with pytest.raises(ValueError, match="'none', 'layer', 'batch'"):
        en.Features(H, norm="weight")
