"""Libraries that look into a network, with torch.nn's layers and with ours: `make libraries`, in an environment of its
own.

What is compared is what docs/layers.md says of each.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import elman.nn as en
from elman.engine import EngineWarning
from tests.libraries.nets import GATES, HEAD, KINDS, B, H, I, Net, O, T, library
from tolerances import assert_near

# The libraries' own warnings are not ours to mend; the engine's would be.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings(f"error::{EngineWarning.__module__}.{EngineWarning.__name__}"),
]


def products(kind: str, rows: int) -> int:
    """Multiplications in the products of a call."""
    return rows * (T * GATES[kind] * H * (I + H) + HEAD)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(B, T, I)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
def test_torchinfo(kind: str, options: Any, x: Tensor) -> None:
    summary = library("torchinfo").summary
    ours, theirs = (
        summary(Net(kind, lib, **options), input_data=x, verbose=0, col_names=("output_size", "num_params"))
        for lib in (en, nn)
    )
    assert str(ours) == str(theirs)
    assert ours.total_mult_adds == theirs.total_mult_adds > products(kind, B)


# ---- captum


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "method",
    ["Saliency", "IntegratedGradients", "InputXGradient", "DeepLift", "GuidedBackprop", "Deconvolution",
     "FeatureAblation", "Occlusion", "GradientShap", "ShapleyValueSampling", "NoiseTunnel"],
)  # fmt: skip
def test_captum_tells_what_weighed(kind: str, method: str, x: Tensor) -> None:
    attr = library("captum.attr")
    special = {
        "Occlusion": {"sliding_window_shapes": (1, I)},
        "GradientShap": {"baselines": torch.zeros_like(x)},
    }
    found = []
    for lib in (en, nn):
        torch.manual_seed(1)
        np.random.seed(1)
        net = Net(kind, lib)
        how = attr.NoiseTunnel(attr.Saliency(net)) if method == "NoiseTunnel" else getattr(attr, method)(net)
        found.append(how.attribute(x.clone().requires_grad_(), target=1, **special.get(method, {})).detach())
    assert_near(*found)
    assert found[0].abs().sum() > 0


@pytest.mark.parametrize("kind", ["RNN", "GRU"])
@pytest.mark.parametrize("method", ["LayerActivation", "LayerFeatureAblation"])
def test_captum_looks_at_the_layer(kind: str, method: str, x: Tensor) -> None:
    attr = library("captum.attr")
    found = []
    for net in (Net(kind, en), Net(kind, nn)):
        how = getattr(attr, method)(net, net.recurrent)
        asked = {} if method == "LayerActivation" else {"target": 1}
        found.append([t.detach() for t in tree_leaves(how.attribute(x, **asked))])
    for ours, theirs in zip(*found, strict=True):
        assert_near(ours, theirs)


@pytest.mark.parametrize("lib", [en, nn])
def test_captum_has_no_rule(lib: Any, x: Tensor) -> None:
    attr = library("captum.attr")
    with pytest.raises(TypeError, match="no rule"):
        attr.LRP(Net("LSTM", lib)).attribute(x, target=1)
    net = Net("LSTM", lib)
    with pytest.raises(AttributeError, match="tuple"):
        attr.LayerActivation(net, net.recurrent).attribute(x)


# ---- counters of operations


@pytest.mark.parametrize("kind", KINDS)
def test_fvcore(kind: str, x: Tensor) -> None:
    counted = library("fvcore.nn").FlopCountAnalysis

    def count(lib: Any) -> Any:
        found = counted(Net(kind, lib), x)
        return found.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_module()

    ours, theirs = count(en), count(nn)
    assert ours[""] == products(kind, B)
    assert ours["recurrent"] == products(kind, B) - B * HEAD
    assert theirs["recurrent"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_fvcore_leaves_the_layer_as_it_was(kind: str, x: Tensor) -> None:
    counted = library("fvcore.nn").FlopCountAnalysis
    net = Net(kind, en)
    before = net(x)
    path = net.recurrent.path
    counted(net, x).unsupported_ops_warnings(False).total()
    assert torch.equal(net(x), before)
    assert net.recurrent.path == path != "loop"


def by_ptflops(net: nn.Module, **options: Any) -> int:
    """Multiplications and additions, for one sequence."""
    count = library("ptflops").get_model_complexity_info
    found, parameters = count(
        net, (T, I), as_strings=False, print_per_layer_stat=False, verbose=False, **options
    )
    assert parameters == sum(p.numel() for p in net.parameters())
    return int(found)


@pytest.mark.parametrize("kind", KINDS)
def test_ptflops_by_operations(kind: str) -> None:
    """It counts biases too; of torch.nn's LSTM it sees nothing."""
    expected = products(kind, 1) + T * 2 * GATES[kind] * H + O
    assert by_ptflops(Net(kind, en), backend="aten") == expected
    assert by_ptflops(Net(kind, nn), backend="aten") == (HEAD + O if kind == "LSTM" else expected)


@pytest.mark.parametrize("kind", KINDS)
def test_ptflops_by_layers(kind: str) -> None:
    theirs = by_ptflops(Net(kind, nn), backend="pytorch")
    net = Net(kind, en)
    assert by_ptflops(net, backend="pytorch") > theirs, "tracing and checks are counted too"
    net.recurrent = net.recurrent.to_torch()
    assert by_ptflops(net, backend="pytorch") == theirs
