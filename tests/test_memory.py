"""The measurement of memory: one side in a process of its own, and what it counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import memory
from benchmarks.memory import Case, Measured

linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peaks are set back by Linux only"
)


@linux
@pytest.mark.slow
def test_chunks_take_little_beyond_the_results() -> None:
    """y and dx at least, and less than twice them in chunks; the same answers."""
    size = (20000, 1, 32, 32)
    whole, chunks = (memory.measured_alone(Case("GRU", "elman", *size, every=every)) for every in (0, 500))
    results = 4 * 20000 * (32 + 32)
    assert results <= chunks.peak < 2 * results
    assert whole.peak > 3 * results
    assert chunks.y == whole.y
    assert chunks.dx == pytest.approx(whole.dx, rel=1e-5)


def test_refuses_other_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([Measured(1000, 0.5, 0.25), Measured(500, 0.6, 0.25)])
    monkeypatch.setattr(memory, "measured_alone", lambda case: next(answers))
    with pytest.raises(SystemExit, match="refused"):
        memory.compare("GRU", (10, 1, 2, 2))


def test_writes_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "measured_alone", lambda case: Measured(10_000 + case.every, 0.5, 0.25))
    memory.main(["--cell", "LSTM", "--size", "100", "2", "3", "4", "--out", str(tmp_path)])
    page = (tmp_path / "memory.md").read_text(encoding="utf-8")
    assert "| LSTM | (100, 2, 3, 4) | elman, checkpoint_every=10 | 0.0 | 50 | 22 |" in page
    assert page.count("| LSTM |") == 4
    assert (tmp_path / "memory.json").exists()
