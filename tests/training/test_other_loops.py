"""The recipes of docs/recipes.md run, and end where a loop by hand ends."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils import _pytree as pytree

from elman.nn.networks import LanguageModel

PAGE = Path(__file__).parents[2] / "docs/recipes.md"
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


def recipe(title: str) -> dict[str, Any]:
    """What the block under a title leaves."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```py\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 36
    left: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(block, str(PAGE), "exec"), left)
    return left


def by_hand(make: Callable[[], Any], pieces: Iterable[Tensor], epochs: int = 2) -> Any:
    """Two epochs of truncated backpropagation through time."""
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(epochs):
        state = None
        for piece in pieces:
            logits, state = model(piece[:-1], state)
            state = pytree.tree_map(Tensor.detach, state)
            optimizer.zero_grad()
            cross_entropy(logits.flatten(0, 1), piece[1:].flatten()).backward()
            optimizer.step()
    return model


def assert_same(one: nn.Module, other: nn.Module, within: float = 0.0) -> None:
    a, b = (dict(model.named_parameters()) for model in (one, other))
    assert a.keys() == b.keys()
    x, y = (torch.cat([p[name].detach().double().flatten() for name in a]) for p in (a, b))
    assert float((x - y).norm() / x.norm()) <= within


def test_lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    monkeypatch.chdir(tmp_path)
    left = recipe("Lightning")

    class Plain(left["Writer"]):  # type: ignore[misc]
        def forward(self, x: Tensor, state: Any) -> Any:
            y, state = self.layers(self.embedding(x), state)
            return self.head(y), state

    assert_same(left["model"], by_hand(Plain, left["pieces"]))


def test_accelerate() -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    left = recipe("accelerate")
    model = by_hand(lambda: LanguageModel(50, 32, 32, 2, cell="lstm"), left["pieces"])
    assert_same(left["accelerator"].unwrap_model(left["model"]), model)


def test_the_trainer_of_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    monkeypatch.chdir(tmp_path)
    left = recipe("The Trainer of Hugging Face")
    torch.manual_seed(0)
    model = left["Tagger"]()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    for _ in range(20):
        optimizer.zero_grad()
        model(left["words"], left["words"] % 5)["loss"].backward()
        optimizer.step()
    # It mixes the rows of the one batch, so that sums have another order.
    assert_same(left["model"], model, 1e-4)
    found = model(left["words"])["logits"].argmax(2)
    assert (found == left["words"] % 5).float().mean() > 0.9
