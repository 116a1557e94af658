"""What a model writes while it learns: in the log and the report, and without a trace in the training."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import elman as package
from command import elman, verse

FLAGS = [
    *("--hidden", 8, "--batch", 2, "--steps", 5, "--threads", 1, "--dropout", 0.2),
    *("--epochs", 2, "--max-steps", 40, "--checkpoint-every", 7),
]


def samples(run: Path) -> dict[int, list[str]]:
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {event["step"]: event["texts"] for event in events if event["event"] == "sample"}


@pytest.mark.parametrize("average", [[], ["--weight-average", 0.9]], ids=["weights", "average"])
def test_texts_are_written_on_the_way_and_change_nothing(tmp_path: Path, average: list[object]) -> None:
    (tmp_path / "a.txt").write_text(verse(60))
    flags = ["--data", tmp_path / "a.txt", *FLAGS, *average]
    asked = ["--sample-every", 10, "--sample-length", 30, "--sample-prompt", "line"]
    assert elman("train", "language-model", "--run", tmp_path / "plain", *flags, "--quiet").code == 0
    done = elman("train", "language-model", "--run", tmp_path / "shown", *flags, *asked)
    assert done.code == 0, done.err
    assert "step 10 writes: line" in done.err
    found = samples(tmp_path / "shown")
    assert list(found) == [10, 20, 30, 40]
    assert all(text.startswith("line") and len(text) == 34 for [text] in found.values())
    assert samples(tmp_path / "plain") == {}
    plain, shown = (load_file(tmp_path / run / "last.safetensors") for run in ("plain", "shown"))
    assert all(torch.equal(tensor, shown[name]) for name, tensor in plain.items())
    if average:  # the last text is of the model that is kept
        trained = package.load(tmp_path / "shown", checkpoint="last")
        trained.model.load_state_dict(
            {name.removeprefix("average."): t for name, t in shown.items() if name.startswith("average.")}
        )
        text = "line" + trained.generate("line", length=30, temperature=0.8, seed=1)
        assert found[40] == [text]
    page = (tmp_path / "shown" / "report.html").read_text()
    assert "What it wrote while it learnt" in page
    assert "What it wrote while it learnt" not in (tmp_path / "plain" / "report.html").read_text()


def test_a_prompt_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(verse(60))
    flags = ["--data", tmp_path / "a.txt", "--run", tmp_path / "run", *FLAGS]
    done = elman("train", "language-model", *flags, "--sample-every", 9, "--sample-prompt", "é")
    assert (done.code, "--sample-prompt 'é'" in done.err) == (2, True)
    assert "no effect" in elman("train", "language-model", *flags, "--sample-length", 9).err
