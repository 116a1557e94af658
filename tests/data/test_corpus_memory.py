"""The memory of a training does not grow with its text, in processes of their own."""

from pathlib import Path

import pytest

from benchmarks.corpus_memory import MB, law, train, write_text


@pytest.mark.slow
def test_the_memory_of_a_training_does_not_grow_with_its_text(tmp_path: Path) -> None:
    slopes = {}
    for way in ("files", "memory"):
        found = []
        for size in (16, 64):
            write_text(tmp_path / "a.txt", round(size * MB))
            found.append(train(way, "characters", tmp_path / "a.txt"))
        slopes[way] = law(found)[1]
    assert slopes["files"] < 1.5
    assert slopes["memory"] > 5
