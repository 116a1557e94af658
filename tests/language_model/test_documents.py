"""Documents learnt by themselves: no state and no score reaches from one into another."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import elman as package
from command import elman, verse
from elman.data.batching import training_streams, whole_text
from elman.nn.networks import LanguageModel
from elman.tasks.language_model.learning import piece_losses, summed_loss

TINY = [*("--hidden", 8, "--batch", 2, "--steps", 5, "--threads", 1, "--quiet")]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learnt short lines, a document each."""
    folder = tmp_path_factory.mktemp("names")
    (folder / "names.txt").write_text("abcd\nbcda\n" * 150)
    flags = ["--documents", "lines", "--rate", 0.03, "--epochs", 12, "--hidden", 12]
    done = elman(
        "train", "language-model", "--data", folder / "names.txt", "--run", folder / "run", *TINY, *flags
    )
    assert done.code == 0, done.err
    return folder


@pytest.mark.parametrize("streams", [1, 3])
def test_the_loss_is_that_of_each_document_alone(streams: int) -> None:
    torch.manual_seed(0)
    model = LanguageModel(6, 4, 5, 2, cell="gru").double().eval()
    documents = [[1, 2, 3], [4], [], [5, 5, 1, 2]]
    row = torch.tensor([0, *(n for document in documents for n in [*document, 0])])
    if streams > 1:  # cut where documents begin, so that no stream starts within one
        row = torch.tensor([0, 1, 2, 0, 3, 4, 0, 5, 5, 0])
        documents = [[1, 2], [3, 4], [5, 5]]
    losses, counts = piece_losses(model, whole_text(row.numpy(), streams, 2, mark=0))
    alone = 0.0
    for document in documents:
        text = torch.tensor([0, *document, 0])
        with torch.no_grad():
            logits = model(text[:-1, None]).logits[:, 0].log_softmax(-1)
        alone -= float(logits.gather(-1, text[1:, None]).sum())
    assert sum(losses) == pytest.approx(alone, rel=1e-9)
    assert sum(counts) == len(row) - 1


def test_no_gradient_reaches_into_the_document_before() -> None:
    model = LanguageModel(6, 4, 5)
    batch = training_streams(torch.tensor([0, 1, 2, 0, 3, 4, 0]).numpy(), 1, 6, mark=0)[0]
    assert batch.reset is not None
    assert batch.reset[:, 0].tolist() == [True, False, False, True, False, False]
    for first in (1, 5):
        model.zero_grad()
        batch.inputs[1] = first
        total, _, state = summed_loss(model, batch, model.initial_state(1))
        state[0].sum().backward()
        grad = model.embedding.weight.grad
        assert grad is not None
        assert (grad[first] == 0).all()
        assert (grad[3] != 0).any()
        assert math.isfinite(float(total.detach()))


def test_a_text_ends_where_documents_do(names: Path) -> None:
    trained = package.load(names / "run")
    assert [(text.text, text.end) for text in trained.texts(["a", "b"], temperature=0)] == [
        ("bcd", "document"),
        ("cda", "document"),
    ]
    assert trained.generate(temperature=0) in {"abcd", "bcda"}
    starts = {text.text for text in trained.texts(samples=30, seed=1, temperature=1)}
    assert {"abcd", "bcda"} <= starts
    assert elman("generate", names / "run", "--prompt", "ab", "--temperature", 0).out == "abcd\n"
    score = trained.evaluate(part="test")
    # One bit to tell which of two, over four letters and the end.
    assert score.value == pytest.approx(1 / 5, abs=0.1)
    (names / "other.txt").write_text("abcd\nbcda\n")
    assert trained.evaluate(names / "other.txt").figures["tokens"] == 10
    alone = trained.score("abcd").nats
    assert alone == pytest.approx(math.log(2), abs=0.3)


@pytest.mark.parametrize("at", [7, 31])
def test_a_training_goes_on_in_the_order_of_its_epoch(tmp_path: Path, at: int) -> None:
    (tmp_path / "a.txt").write_text(verse(40))
    flags = ["--data", tmp_path / "a.txt", "--documents", "lines", "--dropout", 0.2, *TINY, "--epochs", 1]
    more = ["--epochs", 3, "--max-steps", 60]
    assert elman("train", "language-model", "--run", tmp_path / "whole", *flags, *more).code == 0
    begun = elman(
        "train", "language-model", "--run", tmp_path / "broken", *flags, "--epochs", 3, "--max-steps", at
    )
    assert begun.code == 0, begun.err
    done = elman("train", "language-model", "--resume", tmp_path / "broken", "--max-steps", 60, "--quiet")
    assert done.code == 0, done.err
    whole, broken = (load_file(tmp_path / run / "last.safetensors") for run in ("whole", "broken"))
    for name, tensor in whole.items():
        assert torch.equal(tensor, broken[name]), name


def test_what_cannot_be_is_said_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(verse(40))
    (tmp_path / "a.csv").write_text("id,text\n" + "".join(f"{n},line {n}\n" for n in range(60)))
    wrong = {
        "leave --engine torch out": [
            "--data",
            tmp_path / "a.txt",
            "--documents",
            "lines",
            "--engine",
            "torch",
        ],
        "nowhere found": ["--data", tmp_path / "a.txt", "--documents", "records", "--record", "^>"],
        "no column": ["--data", tmp_path / "a.csv", "--documents", "column", "--field", "body"],
        "--separator has no effect": ["--data", tmp_path / "a.txt", "--separator", "%"],
    }
    for message, flags in wrong.items():
        done = elman("train", "language-model", "--run", tmp_path / "run", *TINY, *flags)
        assert done.code == 2, message
        assert message in done.err
    done = elman("train", "language-model", "--run", tmp_path / "run", *TINY, "--epochs", 1,
                 "--data", tmp_path / "a.csv", "--documents", "column")  # fmt: skip
    assert done.code == 0, done.err
    assert "documents" in " ".join(package.load(tmp_path / "run").run.entry("account"))
