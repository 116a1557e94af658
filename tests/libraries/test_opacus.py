"""Opacus with the drop-ins: `make libraries`. Its tensors have operations of their own, and run on the plain loop."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

import elman.nn as en
from elman.engine import EngineWarning
from tests.libraries.nets import KINDS, B, I, Net, T, library
from tolerances import assert_near

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(B, T, I)


@pytest.mark.parametrize("kind", KINDS)
def test_opacus_is_told_why_it_is_slow(kind: str, x: Tensor) -> None:
    library("opacus")
    from opacus.grad_sample import wrap_model

    net = wrap_model(Net(kind, en), grad_sample_mode="ew", batch_first=True)
    with pytest.warns(EngineWarning, match="ExpandedWeight, a class of tensors .* backend='loop' says"):
        net(x)
    net(x)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_opacus_replaces_to_torch(kind: str) -> None:
    library("opacus")
    from opacus.validators import ModuleValidator

    net = Net(kind, en).train()
    assert type(ModuleValidator.fix(net).recurrent) is getattr(en, kind)
    net.recurrent = net.recurrent.to_torch()
    assert type(ModuleValidator.fix(net).recurrent).__name__ == f"DP{kind}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lib", [en, nn])
def test_opacus_hooks_take_no_tuples(kind: str, lib: Any, x: Tensor) -> None:
    library("opacus")
    from opacus.grad_sample import wrap_model

    net = wrap_model(Net(kind, lib), grad_sample_mode="hooks", batch_first=True)
    with pytest.raises((TypeError, RuntimeError)):
        net(x).square().sum().backward()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
def test_opacus_by_expanded_weights(kind: str, options: Any, x: Tensor) -> None:
    """The gradient of each sample, as by vmap; torch.nn's own LSTM is refused here on the CPU."""
    library("opacus")
    from opacus.grad_sample import wrap_model

    net = Net(kind, en, **options)
    parameters = {name: p.detach() for name, p in net.named_parameters()}

    def loss(given: dict[str, Tensor], one: Tensor) -> Tensor:
        return functional_call(net, given, (one[None],)).square().sum()

    expected = vmap(grad(loss), (None, 0))(parameters, x)
    wrapped = wrap_model(
        Net(kind, en, **options), grad_sample_mode="ew", batch_first=True, loss_reduction="sum"
    )
    wrapped(x).square().sum().backward()
    for name, p in wrapped.named_parameters():
        assert_near(p.grad_sample, expected[name.removeprefix("_module.")], what=name)


@pytest.mark.parametrize("kind", KINDS)
def test_opacus_trains_in_private(kind: str) -> None:
    """A whole training with clipped and noisy gradients."""
    opacus = library("opacus")
    net = Net(kind, en)
    given = torch.randn(32, T, I)
    data = torch.utils.data.TensorDataset(given, (given[:, -1, 0] > 0).long())
    engine = opacus.PrivacyEngine()
    net, optimizer, loader = engine.make_private(
        module=net, optimizer=torch.optim.SGD(net.parameters(), lr=0.1), noise_multiplier=0.5,
        data_loader=torch.utils.data.DataLoader(data, batch_size=8), max_grad_norm=1.0, grad_sample_mode="ew",
    )  # fmt: skip
    before = [p.detach().clone() for p in net.parameters()]
    for rows, labels in loader:
        if len(rows):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(rows), labels).backward()
            optimizer.step()
    assert engine.get_epsilon(1e-3) > 0
    assert all((p != b).any() and p.isfinite().all() for p, b in zip(net.parameters(), before, strict=True))
