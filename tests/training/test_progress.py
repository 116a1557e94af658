"""What is shown on a terminal, and what elsewhere."""

import io

import pytest
from rich.console import Console

from elman.training import progress
from elman.training.progress import Bar, Glance, Lines, duration, for_console

GLANCE = Glance(0.5, "epoch 1/2", "loss 1.000  perplexity 2.718", "1,000 words/s", 65.0)


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, legacy_windows=False)


def written(where: Console) -> str:
    file = where.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(for_console(console(terminal=True)), Bar)
    assert isinstance(for_console(console(terminal=False)), Lines)


def test_the_bar_shows_loss_measure_speed_and_time_left() -> None:
    where = console(terminal=True)
    bar = Bar(where)
    bar.open()
    bar.show(GLANCE)
    bar.note("epoch 1 [done]")
    bar.close()
    text = written(where)
    for words in (
        "epoch 1/2",
        "50%",
        "loss 1.000  perplexity 2.718",
        "1,000 words/s",
        "1:05 left",
        "epoch 1 [done]",
    ):
        assert words in text


def test_lines_come_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    where = console(terminal=False)
    lines = Lines(where)
    lines.open()
    for now[0] in (101.0, 109.0, 110.5, 112.0, 121.0):
        lines.show(GLANCE)
    lines.note("x" * 200)
    lines.close()
    assert written(where).splitlines() == [
        " 50%  epoch 1/2  loss 1.000  perplexity 2.718  1,000 words/s  1:05 left",
        " 50%  epoch 1/2  loss 1.000  perplexity 2.718  1,000 words/s  1:05 left",
        "x" * 200,
    ]


def test_durations() -> None:
    assert [duration(seconds) for seconds in (None, 0, 59.6, 61, 3723)] == [
        "-:--",
        "0:00",
        "1:00",
        "1:01",
        "1:02:03",
    ]
