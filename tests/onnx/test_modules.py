"""Layers and networks as files: ONNX's own nodes where these say the same, stacks with their options."""

from __future__ import annotations

import gc
import random
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
from elman.engine.call import surroundings
from elman.nn import Embedding, Features, MinimalGatedCell, SequenceClassifier, SequenceGenerator, Tagger
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


def drawn_layer(seed: int) -> tuple[str, elman.LSTM | elman.GRU | elman.RNN]:
    """A plain layer of drawn kind, sizes and options."""
    draw = random.Random(seed)
    kind = ("LSTM", "GRU", "RNN")[seed % 3]
    options: dict[str, Any] = {name: draw.random() < 0.5 for name in ("bias", "bidirectional", "batch_first")}
    options |= {"nonlinearity": draw.choice(["tanh", "relu"])} if kind == "RNN" else {}
    torch.manual_seed(seed)
    sizes = draw.choice([1, 3, 5, 16]), draw.choice([1, 4, 7, 16]), draw.choice([1, 2, 3])
    return kind, getattr(elman, kind)(*sizes, **options).eval()


@pytest.mark.parametrize(
    "seed", [pytest.param(n, marks=() if n in (6, 13) else pytest.mark.slow) for n in range(18)]
)
@torch.no_grad()
def test_plain_layers_are_onnx_s_own_nodes(seed: int, tmp_path: Path) -> None:
    """Lengths down to 0 with NaN in the padding, states in and out, drawn depths, directions and sizes: one file."""
    kind, layer = drawn_layer(seed)
    path = export(layer, tmp_path / "a.onnx", lengths=True)
    found = kinds(path)
    assert found[kind] == len(layer.scans())
    assert not found["Scan"]
    for T, B in ((1, 1), (9, 3), (200, 2)):
        state = pytree.tree_map(torch.randn_like, layer.start(B))
        lengths = torch.tensor([T, 0, 2][:B])
        x = torch.randn((B, T, layer.input_size) if layer.batch_first else (T, B, layer.input_size))
        names = ("state",) if isinstance(state, Tensor) else ("state_0", "state_1")
        feed = {
            "x": poisoned(x, lengths, layer.batch_first),
            "lengths": lengths,
            **dict(zip(names, pytree.tree_leaves(state), strict=True)),
        }
        assert_equal(path, feed, layer(x, state, lengths=lengths))


def test_the_conventions_of_torch(tmp_path: Path) -> None:
    """Names apart, a file takes and gives what torch.nn.LSTM takes and gives, with the same parameters."""
    layer, torchs = (
        elman.LSTM(I, H, num_layers=2, checkpoint_every=3).eval(),
        nn.LSTM(I, H, num_layers=2).eval(),
    )
    layer.load_state_dict(torchs.state_dict())
    path = export(layer, tmp_path / "a.onnx")
    x, h, c = torch.randn(6, 2, I), torch.randn(2, 2, H), torch.randn(2, 2, H)
    with torch.no_grad():
        assert_equal(path, {"x": x, "state_0": h, "state_1": c}, torchs(x, (h, c)))


class Leaky(nn.Module):
    """h' = 0.7 h + 0.3 tanh(W x + U h)"""

    def __init__(self) -> None:
        super().__init__()
        self.hidden_size = H
        self.W, self.U = nn.Linear(H, H), nn.Linear(H, H, bias=False)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return 0.7 * h + 0.3 * torch.tanh(self.W(x) + self.U(h))


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
    cell = Leaky()
    nn.utils.parametrizations.weight_norm(cell.U)
    return cell


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if i in (0, 3, 5) else pytest.mark.slow) for i, n in enumerate(STACKS)]
)
@torch.no_grad()
def test_options_of_stacks(name: str, tmp_path: Path) -> None:
    layer = STACKS[name]().eval()
    x, lengths = torch.randn(7, 3, H if name == "weight norm" else I), torch.tensor([7, 0, 4])
    example = x if name == "weight norm" else None
    path = export(layer, tmp_path / "a.onnx", example, lengths=True, state=False)
    assert_equal(path, {"x": poisoned(x, lengths, False), "lengths": lengths}, layer(x, lengths=lengths)[0])


@pytest.mark.slow
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


POOLINGS = [
    pytest.param(kind, options, marks=() if kind == "max+mean+last" else pytest.mark.slow)
    for kind in ("last", "attention", "max+mean+last")
    for options in ({}, {"bidirectional": True}, {"bidirectional": True, "merge": "sum"})
    if kind != "max+mean+last" or options == {"bidirectional": True}
]


@pytest.mark.parametrize(("kind", "options"), POOLINGS)
@torch.no_grad()
def test_poolings_and_batch_norms(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    """Rows of any length, 0 too, normalized by statistics that are not those of a new norm."""
    torch.manual_seed(4)
    layer = elman.LSTM(4, 6, **options)
    network = SequenceClassifier(
        Features(5, 4, norm="batch"), layer, 3, pooling=kind, norm="batch", dense=4
    ).train()
    for _ in range(3):
        network(2 * torch.randn(7, 5, 5) + 1, torch.tensor([7, 3, 1, 2, 5]))
    path = export(network.eval(), tmp_path / "a.onnx")
    x, lengths = torch.randn(6, 4, 5), torch.tensor([6, 0, 1, 3])
    assert_equal(path, {"x": poisoned(x, lengths, False), "lengths": lengths}, network(x, lengths))


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
    """A model that somebody wrote around layers and a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.layer = nn.Linear(5, I), elman.Recurrent(nn.GRUCell(I, H))
        self.other, self.own = elman.LSTM(H, H, peephole=True), elman.Recurrent(Leaky())
        self.after = nn.Linear(H, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(torch.relu(self.before(x)))[0]
        return self.after(self.own(self.other(y)[0])[0]).softmax(-1)


class Words(nn.Module):
    """Tokens (B, T) -> embedding -> an LSTM -> a linear layer, with the state in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, I)
        self.lstm, self.head = elman.LSTM(I, H, num_layers=2, batch_first=True), nn.Linear(H, 11)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.lstm(self.embedding(x), (h, c))
        return self.head(y), h, c


def by_torch(model: nn.Module, given: tuple[Tensor, ...], shapes: Any, path: Path, **options: Any) -> Path:
    """With gradients under way too, as users call it."""
    written = torch.onnx.export(
        model, given, dynamo=True, dynamic_shapes=shapes, verbose=False,
        custom_translation_table=translations(), **options,
    )  # fmt: skip
    assert written is not None
    written.save(path)
    return path


def test_torchs_own_exporter_without_the_table_says_what_to_give() -> None:
    """A table that is gone has told nobody anything."""
    tables = [translations(), translations()]
    assert len(surroundings._translated) == 2
    del tables[0]
    assert len(surroundings._translated) == 1
    tables.clear()
    gc.collect()
    assert not surroundings._translated
    with pytest.raises(Exception, match=r"custom_translation_table=elman\.onnx\.translations\(\)"):
        torch.onnx.export(elman.LSTM(I, H).eval(), (torch.randn(5, 3, I),), dynamo=True, verbose=False)


@pytest.mark.filterwarnings("ignore")
def test_torchs_own_exporter(tmp_path: Path) -> None:
    axes = {0: torch.export.Dim("T"), 1: torch.export.Dim("B")}
    model = Users().eval()
    path = by_torch(model, (torch.randn(5, 3, 5),), (axes,), tmp_path / "a.onnx")
    for T, B in ((20, 2), (1, 1)):
        x = torch.randn(T, B, 5)
        assert_equal(path, {"x": x}, model(x).detach())


@pytest.mark.filterwarnings("ignore")
def test_torchs_own_exporter_of_words(tmp_path: Path) -> None:
    T, B = torch.export.Dim("T"), torch.export.Dim("B")
    model = Words().eval()
    given = (torch.arange(15).reshape(3, 5) % 11, torch.randn(2, 3, H), torch.randn(2, 3, H))
    path = by_torch(model, given, ({0: B, 1: T}, {1: B}, {1: B}), tmp_path / "a.onnx")
    assert kinds(path)["LSTM"] == 2
    x, h, c = torch.randint(11, (2, 9)), torch.randn(2, 2, H), torch.randn(2, 2, H)
    with torch.no_grad():
        assert_equal(path, {"x": x, "h": h, "c": c}, model(x, h, c))
