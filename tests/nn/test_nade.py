"""A NADE against its definition: key by key, and summed over all vectors."""

import itertools

import pytest
import torch
from torch import Tensor

from elman.nn.nade import NADE
from tests.tolerances import assert_near


def by_hand(head: NADE, x: Tensor, v: Tensor) -> Tensor:
    """log p of one row, as the docstring says it."""
    b, c = head.hidden(x), head.visible(x)
    total = x.new_zeros(())
    for k in reversed(range(len(v))):
        p = torch.sigmoid(c[k] + head.decode[k] @ torch.sigmoid(b))
        total = total + torch.log(p if v[k] else 1 - p)
        b = b + v[k] * head.encode[k]
    return total


def every(size: int) -> Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=size)), dtype=torch.float64)


@pytest.mark.parametrize("seed", range(3))
def test_the_likelihood_of_all_vectors_sums_to_one(seed: int) -> None:
    torch.manual_seed(seed)
    head = NADE(5, 8, 6).double()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=2.0)
    x = torch.randn(4, 1, 5, dtype=torch.float64)
    total = head.log_prob(x.expand(4, 256, 5), every(8).expand(4, 256, 8)).exp().sum(1)
    assert_near(total, torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (7, 5), (0, 3)])
def test_values_and_gradients_are_those_of_the_definition(rows: int, size: int) -> None:
    torch.manual_seed(rows)
    head = NADE(3, size, 4).double()
    x = torch.randn(rows, 3, dtype=torch.float64, requires_grad=True)
    v = (torch.rand(rows, size) < 0.4).double()
    found = head.log_prob(x, v)
    wanted = torch.stack([by_hand(head, *row) for row in zip(x, v, strict=True)]) if rows else x.sum(1)
    assert_near(found, wanted)
    if rows:
        weights = torch.randn(rows, dtype=torch.float64)
        inputs = [x, *head.parameters()]
        for own, other in zip(
            torch.autograd.grad(found @ weights, inputs, materialize_grads=True),
            torch.autograd.grad(wanted @ weights, inputs, materialize_grads=True),
            strict=True,
        ):
            assert_near(own, other, gradient=True)


def test_what_is_drawn_has_the_chances_of_the_likelihood() -> None:
    torch.manual_seed(0)
    head = NADE(2, 3, 4)
    torch.nn.init.normal_(head.encode, std=3.0)
    x = torch.randn(1, 2)
    wanted = head.log_prob(x.expand(8, 2), every(3).float()).exp().detach()
    drawn, weight = head.sample(x.expand(20000, 2), generator=torch.Generator().manual_seed(1))
    assert not weight.any()
    numbers = (drawn @ torch.tensor([4.0, 2.0, 1.0])).long()
    shares = torch.bincount(numbers, minlength=8) / 20000
    assert (shares - wanted).abs().max() < 0.015


def test_fixed_parts_stay_and_their_weight_makes_the_draw_a_conditional_one() -> None:
    """E[weight] = p(what is fixed), and weighted draws have the conditional chances."""
    torch.manual_seed(0)
    head = NADE(2, 3, 4)
    torch.nn.init.normal_(head.encode, std=3.0)
    x = torch.randn(1, 2)
    joint = head.log_prob(x.expand(8, 2), every(3).float()).exp().detach()
    fixed = every(3)[:, 0] == 1  # the lowest key sounds, and is read last
    offset = torch.tensor([torch.inf, 0.0, 0.0])
    drawn, weight = head.sample(x.expand(20000, 2), offset=offset, generator=torch.Generator().manual_seed(1))
    assert bool((drawn[:, 0] == 1).all())
    p = weight.exp()
    assert abs(float(p.mean() - joint[fixed].sum())) < 0.01
    numbers = (drawn @ torch.tensor([4.0, 2.0, 1.0])).long()
    shares = torch.zeros(8).index_add(0, numbers, p) / p.sum()
    assert (shares - torch.where(fixed, joint, 0.0) / joint[fixed].sum()).abs().max() < 0.02


def test_without_temperature_each_part_is_what_is_likelier() -> None:
    torch.manual_seed(0)
    head = NADE(2, 6, 4)
    x = torch.randn(5, 2)
    drawn, _ = head.sample(x, temperature=0)
    again, _ = head.sample(x, temperature=0)
    assert torch.equal(drawn, again)
    logits = head.logits(x, drawn)
    assert torch.equal(drawn > 0, logits > 0)
