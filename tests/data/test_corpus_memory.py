"""The memory of a training does not grow with its text, in processes of their own."""

from pathlib import Path

import pytest

from benchmarks.corpus_memory import MB, law, train, write_text


@pytest.mark.slow
@pytest.mark.parametrize("documents", ["joined", "lines"])
def test_the_memory_of_a_training_does_not_grow_with_its_text(tmp_path: Path, documents: str) -> None:
    found = {}
    for size in (4, 8, 16):
        write_text(tmp_path / "a.txt", round(size * MB))
        for way in ("files", "memory"):
            found[way, size] = train(way, "characters", tmp_path / "a.txt", "--documents", documents)
        assert found["files", size].loss == found["memory", size].loss
    slopes = {
        way: law([one for (of, _), one in found.items() if of == way])[1] for way in ("files", "memory")
    }
    # Lines are long here: the index of documents is next to nothing.
    assert slopes["files"] < 1.5
    assert slopes["memory"] > 5
