"""Code that looks for torch.nn's layers by class finds the drop-ins, and what it asks of them is true."""

import copy
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import elman.nn as en
from nn.by_hand import FAST, assert_same, leaves
from tolerances import assert_near

KINDS = ("RNN", "LSTM", "GRU")
I, H, T, B = 3, 4, 5, 2


class Net(nn.Module):
    def __init__(self, kind: type[Any], **options: Any) -> None:
        super().__init__()
        self.recurrent, self.head = kind(I, H, **options), nn.Linear(H, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.recurrent(x)[0])
        return y


def set_forget_biases(module: nn.Module) -> None:
    """What is found in many a training script."""
    if isinstance(module, nn.RNNBase):
        for names in module._all_weights:  # type: ignore[union-attr]
            for name in filter(lambda n: "bias" in n, names):
                bias = getattr(module, name)
                bias.data[bias.shape[0] // 4 : bias.shape[0] // 2].fill_(1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_scripts_that_look_for_a_class_find_the_layer(kind: str) -> None:
    ours, theirs = (Net(getattr(library, kind)).apply(set_forget_biases) for library in (en, nn))
    assert isinstance(ours.recurrent, getattr(nn, kind))
    assert isinstance(ours.recurrent, nn.RNNBase)
    for a, b in zip(ours.recurrent.parameters(), theirs.recurrent.parameters(), strict=True):
        assert a.dim() == 2 or torch.equal(a == 1, b == 1)
    assert (ours.recurrent.bias_hh_l0 == 1).any()  # type: ignore[union-attr]


@settings(max_examples=8)
@given(
    kind=st.sampled_from(KINDS), num_layers=st.sampled_from((1, 2)), bidirectional=st.booleans(),
    bias=st.booleans(), batch_first=st.booleans(), proj_size=st.sampled_from((0, 2)),
)  # fmt: skip
def test_what_torchs_layer_answers(
    kind: str, num_layers: int, bidirectional: bool, bias: bool, batch_first: bool, proj_size: int
) -> None:
    options = {
        "num_layers": num_layers,
        "bidirectional": bidirectional,
        "bias": bias,
        "batch_first": batch_first,
    }
    options |= {"proj_size": proj_size} if kind == "LSTM" else {}
    torch.manual_seed(0)
    theirs = getattr(nn, kind)(I, H, **options)
    torch.manual_seed(0)
    ours = getattr(en, kind)(I, H, **options)
    x = torch.randn(T, B, I)
    for name in (
        "mode",
        "_all_weights",
        "_flat_weights_names",
        "input_size",
        "hidden_size",
        "proj_size",
        "bias",
    ):
        assert getattr(ours, name) == getattr(theirs, name), name
    for a, b in zip(
        leaves((ours._flat_weights, ours.all_weights)),
        leaves((theirs._flat_weights, theirs.all_weights)),
        strict=True,
    ):
        assert torch.equal(a, b)
    for sizes in (None, torch.tensor([2, 1])):
        assert ours.get_expected_hidden_size(x, sizes) == theirs.get_expected_hidden_size(x, sizes)
        if kind == "LSTM":
            assert ours.get_expected_cell_size(x, sizes) == theirs.get_expected_cell_size(x, sizes)
    h = torch.zeros(theirs.get_expected_hidden_size(x, None))
    state = (h, torch.zeros(theirs.get_expected_cell_size(x, None))) if kind == "LSTM" else h
    ours.check_forward_args(x, state, None)
    with pytest.raises(RuntimeError, match="Expected hidden"):
        ours.check_forward_args(x, (h[:, :1], h) if kind == "LSTM" else h[:, :1], None)


def test_what_is_not_honest_is_not_answered() -> None:
    assert not hasattr(en.RNN(I, H, nonlinearity="sigmoid"), "mode")
    with pytest.raises(ValueError, match=r"the layers have the widths \(4, 5\); expected one hidden_size"):
        en.GRU(I, [4, 5]).get_expected_hidden_size(torch.randn(T, B, I), None)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_found_where_they_are(kind: str) -> None:
    """After each way of changing parameters the names show the new ones, and copies have their own."""
    layer = getattr(en, kind)(I, H, num_layers=2)
    x = torch.randn(T, B, I)
    layer(x)

    def assert_live(of: Any) -> None:
        assert all(a is getattr(of, n) for a, n in zip(of._flat_weights, of._flat_weights_names, strict=True))

    layer.weight_hh_l0 = nn.Parameter(torch.zeros_like(layer.weight_hh_l0))
    assert_live(layer)
    assert_live(layer.double())
    assert layer._flat_weights[0].dtype == torch.float64
    assert_live(layer.float())
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), copy.copy(layer)):
        assert_live(twin)
        assert_same(twin(x), layer(x), {})
    assert_live(layer.to("meta"))
    tied = getattr(en, kind)(I, H)
    tied.flatten_parameters()
    tied = parametrizations.weight_norm(tied, "weight_hh_l0")
    assert isinstance(tied, getattr(nn, kind))
    assert_near(tied._flat_weights[1], tied.weight_hh_l0)
    tied(x)
    assert tied.path == FAST


@settings(max_examples=8)
@given(
    kind=st.sampled_from(KINDS), num_layers=st.sampled_from((1, 2)), bidirectional=st.booleans(),
    batch_first=st.booleans(), bias=st.booleans(), training=st.booleans(), frozen=st.booleans(),
)  # fmt: skip
def test_to_torch_gives_the_same_layer(
    kind: str,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
    bias: bool,
    training: bool,
    frozen: bool,
) -> None:
    ours = getattr(en, kind)(
        I, H, num_layers=num_layers, bidirectional=bidirectional, batch_first=batch_first, bias=bias,
        dtype=torch.float64,
    ).train(training)  # fmt: skip
    ours.weight_hh_l0.requires_grad_(not frozen)
    before = torch.get_rng_state()
    theirs = ours.to_torch()
    assert torch.equal(before, torch.get_rng_state())
    assert type(theirs) is getattr(nn, kind)
    assert theirs.training is training
    x = torch.randn(B, T, I, dtype=torch.float64)
    assert_same(
        ours(x), theirs(x), dict(ours.named_parameters()), dict(theirs.named_parameters())
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("LSTM", {"layer_norm": "separate"}, r"torch\.nn\.LSTM has no layer_norm='separate'"),
        ("LSTM", {"peephole": True, "zoneout": 0.1}, "zoneout=0.1, peephole=True"),
        ("LSTM", {"coupled": True}, "coupled=True"),
        ("GRU", {"reset_after": False}, "reset_after=False"),
        ("GRU", {"hidden_size": [4, 5]}, r"hidden_size=\(4, 5\)"),
        ("GRU", {"weight_dropout": 0.2, "learn_initial_state": True}, "weight_dropout=0.2, learn_initial_state=True"),
        ("GRU", {"bidirectional": True, "merge": "sum"}, "merge='sum'"),
        ("RNN", {"nonlinearity": "sigmoid"}, "nonlinearity='sigmoid'"),
        ("RNN", {"num_layers": 2, "dropout": 0.1, "sequence_dropout": True}, "sequence_dropout=True"),
    ],
)  # fmt: skip
def test_to_torch_refuses_what_torch_would_compute_otherwise(kind: str, options: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        getattr(en, kind)(**{"input_size": I, "hidden_size": H} | options).to_torch()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_dynamic_quantization_leaves_the_layer_and_takes_to_torch(kind: str) -> None:
    from torch.ao.quantization import quantize_dynamic

    net, x = Net(getattr(en, kind)).eval(), torch.randn(T, B, I)
    left = quantize_dynamic(net, {nn.LSTM, nn.GRU, nn.Linear})
    assert type(left.recurrent) is getattr(en, kind)
    assert "quantized" in type(left.head).__module__
    net.recurrent = net.recurrent.to_torch()  # type: ignore[operator]
    done = quantize_dynamic(net, {nn.LSTM, nn.GRU, nn.Linear})
    assert "quantized" in type(done.recurrent).__module__
    torch.testing.assert_close(done(x), net(x), rtol=0.1, atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_model_is_one_graph(kind: str) -> None:
    net = Net(getattr(en, kind))
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    for rows in (2, 5):
        x = torch.randn(T, rows, I)
        assert_near(compiled(x), net(x))
    assert not torch._dynamo.config.allow_rnn
    with pytest.raises(Exception, match="RNN, GRU, or LSTM"):
        torch.compile(Net(getattr(nn, kind)), fullgraph=True, backend="eager")(torch.randn(T, B, I))


def test_the_compiler_is_not_loaded_for_it() -> None:
    code = (
        "import sys, torch, elman.nn as en; en.LSTM(3, 4)(torch.randn(5, 2, 3)); "
        "assert 'torch._dynamo' not in sys.modules; "
        "c = torch.compile(en.LSTM(3, 4), fullgraph=True, backend='eager'); c(torch.randn(5, 2, 3)); "
        "assert not [f for f in sys.meta_path if type(f).__module__ == 'elman.nn.dynamo']"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
