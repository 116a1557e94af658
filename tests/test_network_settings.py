"""The settings of a network: every option reaches the layers, and what cannot be is said before torch is imported."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

import elman.nn as en
from elman.config import UserError, options
from elman.tasks.network import (
    CELLS,
    ClassifierSettings,
    RecurrentSettings,
    TaggerSettings,
    import_cell,
)

# Option -> a value that is not its default, and what else it needs.
CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "cell": ("gru", {}),
    "embedding": (7, {}),
    "hidden": (9, {}),
    "layers": (3, {}),
    "projection": (3, {}),
    "nonlinearity": ("relu", {"cell": "rnn"}),
    "dropout": (0.4, {}),
    "word_dropout": (0.4, {}),
    "recurrent_dropout": (0.4, {}),
    "weight_dropout": (0.4, {}),
    "sequence_dropout": (True, {"dropout": 0.4}),
    "zoneout": (0.4, {}),
    "residual": (True, {}),
    "layer_norm": ("sum", {}),
    "forget_bias": (1.0, {}),
    "input_norm": ("batch", {}),
    "norm": (True, {}),
    "batch_norm": (True, {}),
    "engine": ("torch", {}),
    "bidirectional": (True, {}),
    "merge": ("sum", {"bidirectional": True}),
    "learn_initial_state": (True, {}),
    "recompute_every": (2, {}),
    "dense": (5, {}),
    "pooling": ("last", {}),
}
OF_SOME_CELLS = (
    "recurrent_dropout",
    "weight_dropout",
    "layer_norm",
    "forget_bias",
    "projection",
    "nonlinearity",
)
RENAMED = {"projection": "proj_size"}
BASE = {"hidden": 6, "layers": 2}


def made(**values: Any) -> Any:
    settings = ClassifierSettings(**{**BASE, **values})
    torch.manual_seed(0)
    return settings.classifier(settings.table(11), 3)


@pytest.mark.parametrize("name", [entry.name for entry in options(ClassifierSettings)])
def test_every_option_reaches_the_network(name: str) -> None:
    value, needs = CHANGES[name]
    changed, plain = made(**{**needs, name: value}), made(**needs)
    assert (
        type(changed.recurrent) is not type(plain.recurrent)
        or repr(changed) != repr(plain)
        or any(not torch.equal(a, b) for a, b in zip(changed.parameters(), plain.parameters(), strict=True))
    )
    x = torch.randint(11, (4, 2))
    changed(x).sum().backward()
    plain(x).sum().backward()


@pytest.mark.parametrize("cell", [*CELLS, "nn.networks:OwnCell"])
@pytest.mark.parametrize("both", [False, True])
def test_every_cell_has_a_word_that_makes_it(cell: str, both: bool) -> None:
    settings = TaggerSettings(**BASE, cell=cell, bidirectional=both, residual=True)
    model = settings.tagger(settings.features(6), 3)
    assert model(torch.randn(4, 2, 6)).logits.shape == (4, 2, 3)


def test_the_words_are_those_of_the_layers() -> None:
    assert list(CELLS) == list(en.CELLS)
    words = {entry.name: entry.choices for entry in options(ClassifierSettings)}
    assert set(words["nonlinearity"]) == set(en.ACTIVATIONS)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "name", ["recurrent_dropout", "weight_dropout", "layer_norm", "forget_bias", "projection", "nonlinearity"]
)
def test_an_option_is_refused_exactly_where_the_layer_would_refuse_it(cell: str, name: str) -> None:
    value = "separate" if name == "layer_norm" else CHANGES[name][0]
    try:
        en.recurrent_stack(cell, 6, 6, options={RENAMED.get(name, name): value})
        works = True
    except ValueError:
        works = False
    try:
        RecurrentSettings(**BASE, cell=cell, **{name: value})
        allowed = True
    except UserError as error:
        assert f"--{name.replace('_', '-')}: --cell {cell} has no" in str(error)
        allowed = False
    assert allowed == works


REFUSED = {
    "an unknown cell": ({"cell": "lstmm"}, "did you mean 'lstm'"),
    "the sum in a gru": ({"cell": "gru", "layer_norm": "sum"}, "take --layer-norm separate"),
    "an option of a cell of one's own": (
        {"cell": "a:B", "forget_bias": 1.0},
        "--forget-bias: --cell a:B has no",
    ),
    "two norms at one place": ({"norm": True, "batch_norm": True}, "leave one out"),
    "a merge in one direction": ({"merge": "sum"}, "--bidirectional"),
    "an unknown pooling": ({"pooling": "max+median"}, "last, mean, max, attention"),
    "a pooling twice": ({"pooling": "max+max"}, "each once"),
    "torch.nn has no such cell": (
        {"engine": "torch", "cell": "minimal-gated"},
        "torch.nn has lstm, gru and rnn",
    ),
    "torch.nn has no such option": (
        {"engine": "torch", "zoneout": 0.1},
        "--zoneout: torch.nn has no such thing",
    ),
    "torch.nn has no such mask": ({"engine": "torch", "sequence_dropout": True}, "--sequence-dropout"),
    "torch.nn has no such start": ({"engine": "torch", "learn_initial_state": True}, "--learn-initial-state"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_said_with_the_flag(case: str) -> None:
    values, sentence = REFUSED[case]
    with pytest.raises(UserError, match=sentence):
        ClassifierSettings(**values)


@pytest.mark.parametrize("both", [False, True])
def test_one_layer_that_changes_the_width_has_no_residual(both: bool) -> None:
    settings = ClassifierSettings(hidden=6, embedding=8, residual=True, bidirectional=both)
    with pytest.raises(UserError, match=f"takes 8 numbers and gives {12 if both else 6}"):
        settings.classifier(settings.table(5), 2)
    ClassifierSettings(hidden=6, embedding=8, layers=2, residual=True).classifier(settings.table(5), 2)
    ClassifierSettings(hidden=4, embedding=8, residual=True, bidirectional=True).classifier(
        settings.table(5), 2
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere:Cell", "no module 'nowhere'"),
        ("nn.nowhere:Cell", "no module 'nn.nowhere'"),
        ("nn.networks:Cel", "has no 'Cel'"),
        ("nn.networks:", "has no ''"),
        ("nn.networks:V", "is int; expected a class"),
    ],
)
def test_a_cell_that_is_not_there_is_named(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        import_cell(name)


def test_a_cell_is_found_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_cells.py").write_text("import torch\n\n\nclass Mine(torch.nn.GRUCell):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    assert inspect.isclass(import_cell("my_cells:Mine"))
    (tmp_path / "broken_cells.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name"):
        import_cell("broken_cells:Mine")
