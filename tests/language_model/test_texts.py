"""Several texts side by side, to their ends: each is what it would be alone."""

import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import elman as package
from command import elman
from elman.config import UserError
from elman.tasks.language_model.texts import StopFilter

KINDS = ["characters", "bytes", "words", "bpe"]
PROMPTS = ["line 3", "", "line 1 says that 4 and 2 are"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("across", [False, True])
def test_texts_side_by_side_are_those_written_alone(runs: Path, kind: str, across: bool) -> None:
    trained = package.load(runs / kind)
    manner = {"length": 40, "temperature": 1.2, "across": across, "stop": ["4", "7 and"]}
    texts = trained.texts(PROMPTS, samples=4, seed=3, **manner)
    assert [(text.prompt, text.sample) for text in texts] == [(p, n) for p in PROMPTS for n in range(1, 5)]
    for text in texts:
        assert text.text == trained.generate(text.prompt, seed=text.seed, **manner)
        assert text.seed == 3 + text.sample - 1
        assert (text.end == "length") == (text.tokens == 40 and text.end != "stop" and text.end != "document")
    assert len({text.text for text in texts}) > 6


def test_a_text_ends_with_its_document_unless_told(runs: Path) -> None:
    trained = package.load(runs / "characters")
    mark = trained.tokenizer.mark
    # A model that says nothing but the mark.
    with_mark = trained.model.head.bias.data
    with_mark[mark] += 50
    text = trained.texts(["line"], length=9)[0]
    assert (text.text, text.end, text.tokens) == ("", "document", 1)
    assert trained.texts(["line"], length=3, across=True)[0].text == "\n\n" * 3


@given(
    st.lists(st.text("abc", max_size=4), max_size=8),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
)
def test_a_text_ends_before_the_first_that_it_is_to_stop_at(pieces: list[str], stop: list[str]) -> None:
    kept, whole = StopFilter(stop), ""
    out = []
    for piece in pieces:
        out.append(kept.push(piece))
        whole += piece
        # What has come out is sound at any time.
        assert whole.startswith("".join(out))
        assert not any(word in "".join(out) for word in stop)
        if kept.stopped:
            break
    out.append(kept.close())
    places = [whole.find(word) for word in stop if word in whole]
    assert "".join(out) == (whole[: min(places)] if places else whole)
    assert kept.stopped == bool(places)


def test_half_a_character_is_never_written(runs: Path) -> None:
    trained = package.load(runs / "bytes")
    bias = trained.model.head.bias.data
    bias[:] = -50
    # Nothing but the first byte of a character of two.
    bias["ä".encode()[0]] = 50
    assert trained.generate("x", length=1) == ""
    # The second one tells that the first was none; the second itself is only begun.
    assert trained.generate("x", length=2) == "\N{REPLACEMENT CHARACTER}"


def test_the_command_writes_several_texts(runs: Path) -> None:
    flags = ["--length", 12, "--seed", 5]
    alone = [
        elman("generate", runs / "bytes", "--prompt", "line", "--length", 12, "--seed", s).out for s in (5, 6)
    ]
    done = elman("generate", runs / "bytes", "--prompt", "line", "--samples", 2, *flags)
    assert done.out == f"==> 1 of 2, seed 5 <==\n{alone[0]}==> 2 of 2, seed 6 <==\n{alone[1]}"
    done = elman("generate", runs / "bytes", "--prompt", "line", "--prompt", "a", "b", "--json", *flags)
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [one["prompt"] for one in found] == ["line", "a", "b"]
    assert found[0]["prompt"] + found[0]["text"] + "\n" == alone[0]
    assert {"sample", "seed", "tokens", "end"} <= found[0].keys()
    again = elman("generate", runs / "bytes", "--json", "--length", 12)
    seed = json.loads(again.out)["seed"]
    assert json.loads(
        elman("generate", runs / "bytes", "--json", "--length", 12, "--seed", seed).out
    ) == json.loads(again.out)


def test_prompts_come_from_files_and_standard_input(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.txt").write_text("line 2\nline 3 says\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"line 1\r\n")))
    done = elman(
        "generate", runs / "characters", "--prompt-file", tmp_path / "one.txt", "-", "--json", "--length", 3
    )
    assert [json.loads(line)["prompt"] for line in done.out.splitlines()] == ["line 2\nline 3 says", "line 1"]
    wrong = elman("generate", runs / "characters", "--prompt-file", tmp_path / "none.txt")
    assert (wrong.code, wrong.out) == (2, "")
    assert "no such file" in wrong.err


def test_what_to_stop_at_is_said_with_line_ends(runs: Path) -> None:
    trained = package.load(runs / "characters")
    letters = trained.tokenizer.encode("\n")
    trained.model.head.bias.data[letters] += 60
    assert trained.texts(["line"], length=5, stop="\n")[0][1] == ""
    done = elman("generate", runs / "characters", "--prompt", "l", "--stop", r"\n", "--length", 300, "--json")
    assert "\n" not in json.loads(done.out)["text"]
    with pytest.raises(UserError, match="empty text to stop at"):
        trained.generate("line", stop=("",))


def test_an_option_without_an_effect_is_refused(tmp_path: Path) -> None:
    from command import TINY, verse

    (tmp_path / "one.txt").write_text(verse(30))
    assert (
        elman(
            "train", "language-model", "--data", tmp_path / "one.txt", "--run", tmp_path / "run", *TINY
        ).code
        == 0
    )
    done = elman("generate", tmp_path / "run", "--across")
    assert done.code == 2
    assert "--across has no effect" in done.err


def test_lines_are_answered_side_by_side_as_alone(runs: Path) -> None:
    trained = package.load(runs / "characters")
    lines = ["line 1", "línea", "line 3 says", ""]
    together = trained.predict(lines, length=9, temperature=1.0, seed=2)
    assert [one.get("line") for one in together] == [
        trained.predict(line, length=9, temperature=1.0, seed=2).get("line") for line in lines
    ]
    assert "never seen" in together[1]["error"]
