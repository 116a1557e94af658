"""Layers and networks as files: ONNX's own nodes where these say the same, stacks with their options, whole networks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")

import elman
from elman.engine import EngineError
from elman.nn import Embedding, MinimalGatedCell, SequenceClassifier, SequenceGenerator, Tagger
from elman.onnx import export, translations
from elman.onnx.files import session
from tolerances import assert_near

I, H = 3, 4
Feed = dict[str, Tensor]


def kinds(path: Path) -> Counter[str]:
    import onnx

    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    return Counter(node.op_type for node in model.graph.node)


def run(path: Path, feed: Feed) -> list[Any]:
    names, call = session(path)
    assert sorted(names) == sorted(feed)
    return list(call({name: t.numpy() for name, t in feed.items()}))


def assert_equal(path: Path, feed: Feed, expected: Any) -> None:
    leaves = pytree.tree_leaves(expected)
    for theirs, own in zip(run(path, feed), leaves, strict=True):
        assert_near(torch.as_tensor(theirs), own)


def poisoned(x: Tensor, lengths: Tensor, first: bool) -> Tensor:
    """NaN behind each row's end."""
    ended = torch.arange(x.shape[1 if first else 0]).unsqueeze(1) >= lengths
    x = x.clone()
    x[ended.T if first else ended] = torch.nan
    return x


OWN = {
    "LSTM": lambda **o: elman.LSTM(I, H, num_layers=2, bidirectional=True, **o),
    "GRU": lambda **o: elman.GRU(I, H, bidirectional=True, bias=False, **o),
    "RNN": lambda **o: elman.RNN(I, H, nonlinearity="relu", **o),
}


@pytest.mark.parametrize("kind", sorted(OWN))
@torch.no_grad()
def test_own_nodes(kind: str, tmp_path: Path) -> None:
    """Lengths down to 0 with NaN in the padding, initial states, both directions, many sizes: one file."""
    torch.manual_seed(1)
    first = kind == "GRU"
    layer = OWN[kind](batch_first=first).eval()
    path = export(layer, tmp_path / "a.onnx", lengths=True)
    found = kinds(path)
    assert found[kind] == len(layer.scans())
    assert not found["Scan"]
    for T, B in ((1, 1), (9, 3), (200, 2)):
        state = pytree.tree_map(torch.randn_like, layer.start(B))
        lengths = torch.tensor([T, 0, 2][:B])
        x = torch.randn((B, T, I) if first else (T, B, I))
        names = ("state",) if isinstance(state, Tensor) else ("state_0", "state_1")
        feed = {
            "x": poisoned(x, lengths, first),
            "lengths": lengths,
            **dict(zip(names, pytree.tree_leaves(state), strict=True)),
        }
        assert_equal(path, feed, layer(x, state, lengths=lengths))


def test_the_conventions_of_torch(tmp_path: Path) -> None:
    """Names apart, a file takes and gives what torch.nn.LSTM takes and gives, with the same parameters."""
    layer, torchs = elman.LSTM(I, H, num_layers=2).eval(), nn.LSTM(I, H, num_layers=2).eval()
    layer.load_state_dict(torchs.state_dict())
    path = export(layer, tmp_path / "a.onnx")
    x, h, c = torch.randn(6, 2, I), torch.randn(2, 2, H), torch.randn(2, 2, H)
    with torch.no_grad():
        assert_equal(path, {"x": x, "state_0": h, "state_1": c}, torchs(x, (h, c)))


STACKS = {
    "norms and residual": lambda: elman.LSTM(
        I, H, layer_norm="sum", num_layers=2, residual=True, bidirectional=True, merge="sum", dropout=0.5
    ),
    "projection": lambda: elman.LSTM(I, H, proj_size=2),
    "peephole": lambda: elman.LSTM(I, H, peephole=True),
    "learned start": lambda: elman.Recurrent(MinimalGatedCell, I, H, num_layers=2, learn_initial_state=True),
    "reverse, zoneout": lambda: elman.Recurrent(nn.GRUCell(I, H), reverse=True, zoneout=0.3),
    "weight norm": lambda: elman.Recurrent(weight_normed()),
}


def weight_normed() -> nn.Module:
    from battery.registry import BY_NAME

    return BY_NAME["weight_norm"].cell(torch.float32)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if i in (0, 3, 5) else pytest.mark.slow) for i, n in enumerate(STACKS)]
)
@torch.no_grad()
def test_options_of_stacks(name: str, tmp_path: Path) -> None:
    layer = STACKS[name]().eval()
    path = export(layer, tmp_path / "a.onnx", lengths=True, state=False)
    x, lengths = torch.randn(7, 3, I), torch.tensor([7, 0, 4])
    assert_equal(path, {"x": poisoned(x, lengths, False), "lengths": lengths}, layer(x, lengths=lengths)[0])


@torch.no_grad()
def test_a_classifier(tmp_path: Path) -> None:
    """Embedding, both directions, pooling and readout; what the file says of itself."""
    import onnx

    network = SequenceClassifier(
        Embedding(11, 6), elman.LSTM(6, 5, bidirectional=True), 3, norm="layer", dense=7
    ).eval()
    path = export(network, tmp_path / "a.onnx", metadata={"labels": '["a", "b", "c"]'})
    x, lengths = torch.randint(11, (9, 4)), torch.tensor([9, 1, 3, 5])
    assert_equal(path, {"x": x, "lengths": lengths}, network(x, lengths))
    said = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert said == {"elman": "SequenceClassifier", "labels": '["a", "b", "c"]'}
    assert str(Path.cwd()).encode() not in path.read_bytes()


@pytest.mark.slow
@torch.no_grad()
def test_a_tagger(tmp_path: Path) -> None:
    network = Tagger(Embedding(11, 6), elman.GRU(6, 5, bidirectional=True), 3).eval()
    path = export(network, tmp_path / "a.onnx", lengths=True, state=False)
    x, lengths = torch.randint(11, (9, 4)), torch.tensor([9, 1, 3, 5])
    found = run(path, {"x": x, "lengths": lengths})[0]
    right = network(x, lengths=lengths).logits.numpy()
    for b, n in enumerate(lengths.tolist()):
        np.testing.assert_allclose(found[:n, b], right[:n, b], atol=1e-5)


@torch.no_grad()
def test_a_language_model_goes_on_from_its_state(tmp_path: Path) -> None:
    network = SequenceGenerator(Embedding(11, 6), elman.LSTM(6, 6, num_layers=2), 11, tied=True).eval()
    path = export(network, tmp_path / "a.onnx")
    x, state = torch.randint(11, (9, 2)), network.initial_state(2)
    names = [f"state_{i}" for i in range(len(pytree.tree_leaves(state)))]
    pieces = []
    leaves = pytree.tree_leaves(state)
    for part in (x[:4], x[4:5], x[5:]):
        logits, *finals = run(path, {"x": part, **dict(zip(names, leaves, strict=True))})
        leaves = [torch.as_tensor(f) for f in finals]
        pieces.append(torch.as_tensor(logits))
    assert_near(torch.cat(pieces), network(x)[0])


def test_equal_files_for_equal_modules(tmp_path: Path) -> None:
    torch.manual_seed(3)
    layer = elman.RNN(I, H).eval()
    a, b = (export(layer, tmp_path / f"{n}.onnx") for n in "ab")
    assert a.read_bytes() == b.read_bytes()


def test_training_and_foreign_modules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"call eval\(\)"):
        export(elman.LSTM(I, H), tmp_path / "a.onnx")
    with pytest.raises(EngineError, match=r"custom_translation_table"):
        export(nn.Linear(I, H).eval(), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


class Users(nn.Module):
    """A model that somebody wrote around a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.layer = nn.Linear(5, I), elman.Recurrent(nn.GRUCell(I, H))
        self.other, self.after = elman.LSTM(H, H, peephole=True), nn.Linear(H, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(torch.relu(self.before(x)))[0]
        return self.after(self.other(y)[0]).softmax(-1)


@pytest.mark.filterwarnings("ignore")
def test_torchs_own_exporter(tmp_path: Path) -> None:
    """With gradients under way too, as users call it."""
    model, x = Users().eval(), torch.randn(5, 3, 5)
    axes = {0: torch.export.Dim("T"), 1: torch.export.Dim("B")}
    written = torch.onnx.export(
        model,
        (x,),
        dynamo=True,
        custom_translation_table=translations(),
        dynamic_shapes=(axes,),
        verbose=False,
    )
    assert written is not None
    written.save(tmp_path / "a.onnx")
    x = torch.randn(20, 2, 5)
    with torch.no_grad():
        assert_equal(tmp_path / "a.onnx", {"x": x}, model(x))
