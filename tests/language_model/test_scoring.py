"""The likelihood of a text, token by token, against the softmax of the whole text."""

import io
import json
import math
import sys
from pathlib import Path

import pytest
import torch

import elman as package
from command import elman
from elman.config import UserError
from elman.tasks.language_model import scoring

KINDS = ["characters", "bytes", "words", "bpe"]
TEXT = "line 4 says that 2 and 1 are numbers\nÄpfel 😀"


def oracle(trained, text):
    """log p of each token, and the log softmax behind each place."""
    row = torch.tensor([trained.tokenizer.start, *trained.tokenizer.encode(text).tolist()])
    with torch.no_grad():
        chances = (
            trained.model(row[:, None], trained.model.initial_state(1)).logits[:, 0].double().log_softmax(-1)
        )
    return chances[:-1].gather(-1, row[1:, None])[:, 0], chances


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", [1, 7, 256])
def test_bits_ranks_and_guesses_are_those_of_the_softmax(
    runs: Path, kind: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "PIECE", piece)
    trained = package.load(runs / kind)
    own, chances = oracle(trained, TEXT)
    scored = trained.scored(TEXT, top=4)
    assert [token.bits for token in scored.tokens] == pytest.approx((-own / math.log(2)).tolist(), abs=1e-4)
    assert sum(token.bits for token in scored.tokens) * math.log(2) == pytest.approx(scored.likelihood.nats)
    assert [token.rank for token in scored.tokens] == (chances[:-1] > own[:, None]).sum(-1).tolist()
    for guesses, row in zip(
        [*(token.likeliest for token in scored.tokens), scored.following], chances, strict=True
    ):
        best = row.topk(4)
        assert [guess.probability for guess in guesses] == pytest.approx(best.values.exp().tolist(), abs=1e-5)
        assert [guess.token for guess in guesses] == [trained.tokenizer.shown(int(i)) for i in best.indices]
    if kind == "characters":
        assert "".join(token.token for token in scored.tokens) == TEXT


def test_figures_count_characters_bytes_and_words(runs: Path) -> None:
    found = {kind: package.load(runs / kind).scored(TEXT).likelihood for kind in KINDS}
    assert found["characters"].characters == found["characters"].tokens == len(TEXT)
    assert found["bytes"].characters == found["bytes"].tokens == len(TEXT.encode())
    assert found["bpe"].characters == len(TEXT)
    assert found["words"].characters is None


def test_tokens_are_shown(runs: Path) -> None:
    tokenizers = {kind: package.load(runs / kind).tokenizer for kind in KINDS}
    assert tokenizers["bytes"].shown(0xC3) == "\\xc3"
    assert tokenizers["bytes"].shown(tokenizers["bytes"].mark) == "<end>"
    assert tokenizers["characters"].shown(0) == "<unk>"
    assert tokenizers["words"].shown(int(tokenizers["words"].encode("line")[0])) == "line"
    shown = [tokenizers["bpe"].shown(int(i)) for i in tokenizers["bpe"].encode("line 4")]
    assert "".join(shown) == "line 4"


def test_the_command_scores_files_lines_and_standard_input(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("line 1\nline 2\n")
    trained = package.load(runs / "characters")
    one = json.loads(elman("score", runs / "characters", tmp_path / "a.txt", "--json", "--top", 2).out)
    assert one["bits"] == pytest.approx(trained.score("line 1\nline 2\n").nats / math.log(2))
    assert one["bits_per_character"] == pytest.approx(one["bits"] / 14)
    assert [len(token["likeliest"]) for token in one["scored"]] == 14 * [2]
    assert len(one["following"]) == 2
    lines = elman("score", runs / "characters", tmp_path / "a.txt", "--json", "--lines").out.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["line 1", "line 2"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"line 1\n")))
    shown = elman("score", runs / "characters", "-").out.splitlines()
    assert shown[0].split() == ["bits", "token", "likeliest", "in", "its", "place"]
    assert [line.split()[1] for line in shown[1:5]] == ['"l"', '"i"', '"n"', '"e"']
    assert shown[-1].startswith("-: ")
    assert "bits per character" in shown[-1]
    total = elman("score", runs / "characters", tmp_path / "a.txt", "--total").out
    assert total.startswith(f"{tmp_path / 'a.txt'}: ")
    assert total.count("\n") == 1


def test_an_empty_text_has_no_score(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    done = elman("score", runs / "bytes", tmp_path / "empty.txt", "--json")
    assert json.loads(done.out)["error"] == "an empty text has no score"
    with pytest.raises(UserError, match="empty text"):
        package.load(runs / "bytes").scored("")
    assert "nothing to read" in elman("score", runs / "bytes").err
