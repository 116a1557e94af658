"""The carried state: any structure, and the cut."""

from typing import Any, NamedTuple

import pytest
import torch

from elman.training.bptt import cut, pack, unpack


class Pair(NamedTuple):
    """A state as a cell may have it."""

    h: Any
    c: Any


STRUCTURES = [
    torch.randn(2, 3),
    (torch.randn(2, 3), torch.randn(2, 3)),
    Pair(torch.randn(1, 2), [torch.randn(3), {"k": torch.randn(2)}]),
    [(torch.randn(1), torch.arange(3)), torch.randn(2, 2, 2)],
    (),
]


@pytest.mark.parametrize("state", STRUCTURES)
def test_a_packed_state_comes_back_in_its_structure(state: Any) -> None:
    leaves = pack(state)
    again = unpack(leaves, like=state)
    assert type(again) is type(state)
    for a, b in zip(pack(again), leaves, strict=True):
        assert torch.equal(a, b)
        assert a.dtype == b.dtype


def test_the_packed_copy_does_not_follow_later_changes() -> None:
    state = torch.zeros(3)
    leaves = pack((state,))
    state += 1
    assert leaves[0].tolist() == [0, 0, 0]


def test_leaves_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \[\(2, 3\)\]"):
        unpack([torch.zeros(3, 2)], like=torch.zeros(2, 3))
    with pytest.raises(ValueError, match="expected"):
        unpack([], like=torch.zeros(2, 3))


def test_no_gradient_flows_past_the_cut() -> None:
    weight = torch.ones((), requires_grad=True)
    state = (weight * 2, [weight * 3])
    after = cut(state)
    assert after[0].item() == 2
    assert not after[0].requires_grad
    assert not after[1][0].requires_grad
    (after[0] * weight).backward()
    assert weight.grad is not None
    assert weight.grad.item() == 2
