"""The conditional random field against the enumeration of all sequences, and its gradient against differences."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from elman.decoding.chain import Chain, score
from elman.nn import ChainCell, LinearChain, Recurrent


def drawn(K: int, *, allowed: Any = None) -> LinearChain:
    torch.manual_seed(0)
    chain = LinearChain(K, allowed).double()
    for p in chain.parameters():
        torch.nn.init.normal_(p)
    return chain


def as_numpy(chain: LinearChain) -> Chain:
    parts = (
        chain.cell.transitions + chain.cell.penalty,
        chain.start + chain.first,
        chain.end + chain.last,
    )
    return Chain(*(part.detach().numpy() for part in parts))


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("lengths", [[1, 1], [4, 1, 3], [2]])
def test_log_p_is_that_of_all_sequences(K: int, lengths: list[int]) -> None:
    chain = drawn(K)
    e = torch.randn(max(lengths) + 1, len(lengths), K, dtype=torch.float64)
    tags = torch.randint(K, e.shape[:2])
    sizes = torch.tensor(lengths)
    found = chain(e, tags, sizes)
    other = torch.where(torch.arange(len(e)).unsqueeze(1) < sizes, tags, -1)
    torch.testing.assert_close(found, chain(e, other, sizes), rtol=0, atol=0)
    for row, length in enumerate(lengths):
        own = e[:length, row].numpy()
        every = [score(own, np.array(y), as_numpy(chain)) for y in product(range(K), repeat=length)]
        total = np.logaddexp.reduce(every)
        assert float(chain.log_partition(e, sizes)[row].detach()) == pytest.approx(total)
        truth = score(own, tags[:length, row].numpy(), as_numpy(chain))
        assert float(found[row].detach()) == pytest.approx(total - truth)


def test_gradients_are_those_of_differences() -> None:
    chain = drawn(3)
    e = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    tags, lengths = torch.randint(3, (4, 2)), torch.tensor([4, 2])
    names = [name for name, _ in chain.named_parameters()]

    def loss(e: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        named = dict(zip(names, values, strict=True))
        found: torch.Tensor = torch.func.functional_call(chain, named, (e, tags, lengths))
        return found

    assert torch.autograd.gradcheck(loss, (e, *chain.parameters()))


def test_the_gradient_of_log_z_is_the_marginals() -> None:
    from elman.decoding.chain import infer

    chain = drawn(3)
    e = torch.randn(5, 1, 3, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(chain.log_partition(e, torch.tensor([5])).sum(), e)
    expected = infer(e.detach()[:, 0].numpy(), as_numpy(chain)).marginals()
    np.testing.assert_allclose(found[:, 0].numpy(), expected, atol=1e-10)


def test_what_is_forbidden_has_no_share() -> None:
    pairs = np.array([[True, False], [True, True]])
    chain = drawn(2, allowed=(pairs, np.array([True, False]), np.array([True, True])))
    e = torch.randn(3, 1, 2, dtype=torch.float64)
    # From the first tag none leads to the second, so that there is one sequence alone.
    loss = chain(e, torch.zeros(3, 1, dtype=torch.long), torch.tensor([3]))
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-9)


def test_the_recursion_runs_on_the_core() -> None:
    chain = LinearChain(5)
    chain(torch.randn(6, 3, 5), torch.zeros(6, 3, dtype=torch.long), torch.tensor([6, 2, 1])).sum().backward()
    assert "path: native" in str(chain.recursion.explain())


def test_the_cell_alone_is_the_recursion() -> None:
    cell = ChainCell(2)
    x, state = torch.randn(4, 1, 2), torch.zeros(1, 2)
    y, _ = Recurrent(cell)(x, state)
    expected = state
    for row in x:
        expected = cell(row, expected)[0]
    torch.testing.assert_close(y[-1], expected)
