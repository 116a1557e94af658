"""The toy problems: what is drawn obeys its rule, and a training leaves what the page shows."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.toys import __main__ as command
from benchmarks.toys import problems
from benchmarks.toys.cells import StackCell
from benchmarks.toys.problems import Strings
from benchmarks.toys.training import TOYS, Figure, answers, run
from nn.by_hand import assert_same


def drawn(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def texts(strings: Strings, symbols: str) -> list[str]:
    return [
        "".join(symbols[int(s)] for s in strings.tokens[:n, b])
        for b, n in enumerate(strings.lengths.tolist())
    ]


def test_the_sum_is_that_of_the_two_marked_numbers() -> None:
    x, y = problems.adding(drawn(), 50, 20)
    assert x.shape == (20, 50, 2) and (x[:10, :, 1].sum(0) == 1).all() and (x[10:, :, 1].sum(0) == 1).all()
    torch.testing.assert_close((x[..., 0] * x[..., 1]).sum(0), y)


def test_embedded_reber_strings_are_of_the_language() -> None:
    strings = problems.reber(drawn(), 300)
    found = texts(strings, problems.REBER_SYMBOLS)
    assert len(set(found)) > 50
    for b, text in enumerate(found):
        # The last E is not fed in: it is what follows the last token.
        assert re.fullmatch(r"B(T|P)B(TS*X|P)[TVPXS]*E\1", text), text
        for t in range(len(text) - 1):
            assert strings.legal[t, b, strings.tokens[t + 1, b]] == 1
        assert strings.legal[len(text) - 1, b].nonzero().tolist() == [[problems.REBER_SYMBOLS.index("E")]]
        assert strings.legal[len(text) - 2, b].nonzero().item() == strings.tokens[1, b]


def test_counted_strings_have_as_many_of_both() -> None:
    strings = problems.counting(drawn(), 100, 51, 100)
    for b, text in enumerate(texts(strings, "ab")):
        n = len(text) // 2
        assert text == "a" * n + "b" * n and 51 <= len(text) <= 100
        assert strings.legal[:n, b].tolist() == [[1, 1, 0]] * n
        assert strings.legal[n : 2 * n, b].tolist() == [[0, 1, 0]] * (n - 1) + [[0, 0, 1]]


def test_brackets_balance_and_every_string_of_a_length_is_as_likely() -> None:
    strings = problems.dyck(drawn(), 6000, 6, 6)
    found = texts(strings, "([)]")
    for b, text in enumerate(found[:300]):
        stack: list[str] = []
        for t, symbol in enumerate(text):
            if symbol in "([":
                stack.append(symbol)
            else:
                assert "([".index(stack.pop()) == ")]".index(symbol)
            closing = {")]"["([".index(stack[-1])]} if stack else {"."}
            legal = {"([)]."[i] for i in strings.legal[t, b].nonzero().flatten().tolist()}
            assert legal == {"(", "["} | closing
        assert not stack
    counts = np.array([found.count(text) for text in set(found)])
    # 5 shapes of three pairs, 2 kinds each: 40 strings; chi-squared of 39 degrees of freedom.
    assert len(counts) == 40 and ((counts - 150) ** 2 / 150).sum() < 72


@pytest.mark.parametrize("recurrent", [True, False])
def test_the_stack_cell_is_its_equations(recurrent: bool) -> None:
    cell = StackCell(3, 4, width=2, depth=3, recurrent=recurrent).double()
    h, stack = torch.randn(2, 4, dtype=torch.double), torch.rand(2, 3, 2, dtype=torch.double)
    x = torch.randn(2, 3, dtype=torch.double)
    y, state = cell(x, (h, stack))
    rows = []
    for b in range(2):
        read = (x[b], h[b], stack[b, 0]) if recurrent else (x[b], stack[b, 0])
        new = torch.tanh(cell.hidden.weight @ torch.cat(read) + cell.hidden.bias)
        scores = (cell.action.weight @ new + cell.action.bias).exp()
        push, pop, leave = scores / scores.sum()
        top = 1 / (1 + torch.exp(-(cell.data.weight @ new + cell.data.bias)))
        places = [top, *stack[b], torch.zeros(2)]
        after = [push * places[i] + pop * places[i + 2] + leave * places[i + 1] for i in range(3)]
        rows.append((torch.cat((new, after[0])), new, torch.stack(after)))
    expected = [torch.stack(parts) for parts in zip(*rows, strict=True)]
    assert_same((y, *state), expected, dict(cell.named_parameters()))


@pytest.mark.parametrize("toy", TOYS, ids=lambda toy: toy.name)
def test_a_training_gives_figures_that_can_fail(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, rows in {"SUMS": 8, "STRINGS": 8, "ROWS": 4}.items():
        monkeypatch.setattr(f"benchmarks.toys.training.{name}", rows)
    one = run(toy, 0, steps=2)
    assert one.figures and not one.figures[-1].met and one.path == "native"


def test_a_right_answer_is_the_whole_legal_set() -> None:
    strings = problems.counting(drawn(), 5, 2, 6)

    class Knows(torch.nn.Module):
        def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> object:
            logits = strings.legal * 2 - 1
            logits[1, 0, 2] = self.wrong
            return type("Out", (), {"logits": logits})

        wrong = 5.0

    exact, _ = answers(Knows(), strings)
    assert not exact[1, 0] and exact[0].all()


def test_the_page_has_every_figure_and_keeps_what_was_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(*_: object) -> command.Run:
        return command.Run(0, [Figure("share", 0.5, 0.99)], 1.0, "native")

    monkeypatch.setattr(command, "run", judged)
    assert command.main(["--only", "dyck", "--seeds", "2", "--out", str(tmp_path)]) == 1
    assert command.main(["--only", "reber", "--seeds", "1", "--out", str(tmp_path)]) == 1
    page = (tmp_path / "toys.md").read_text()
    assert "| share | ≥ 0.99 | 0.5, 0.5 |" in page and "| share | ≥ 0.99 | 0.5 |" in page
    assert set(json.loads((tmp_path / "toys.json").read_text())["results"]) == {"dyck", "reber"}
