"""Two pieces in the manner of Bach's chorales: `python -m benchmarks.chorales`, from the scores of the package music21.

The package is of the development only; of it nothing but its scores is used. A model of configs/music/chorales.toml is
trained (unless it stands in the folder of `--runs`), one seed, and writes with seed 1, at the usual temperature, two
pieces: one from nothing, and the other voices below the melody of the first test piece. The first draw counts. Written
are docs/pictures/chorale.mid and harmony.mid with their piano rolls, and benchmarks/results/chorales.md: what both and
the test pieces are like in numbers, and the lines of the training.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import trainings

STEPS, PARTICLES, SEED, SHOWN = 96, 256, 1, 3
PICTURES = trainings.ROOT / "docs" / "pictures"


def scores() -> Path:
    """The folder of the scores. Exits where the package is not installed."""
    found = find_spec("music21")
    if found is None or found.origin is None:
        sys.exit("the scores come with the package music21: pip install --no-deps music21")
    return Path(found.origin).parent / "corpus" / "bach"


def train(folder: Path, options: argparse.Namespace) -> tuple[Path, list[str]]:
    """The run and the lines of its training."""
    run = options.runs / "chorales"
    flags = [
        "--config",
        "configs/music/chorales.toml",
        "--data",
        str(folder),
        "--threads",
        str(options.threads),
    ]
    return run, trainings.trained("music", flags, run, {"BACH": folder, "RUNS": options.runs})


def written(model: Any) -> Iterator[tuple[str, str, Any]]:
    """Name, what it is, and the piece."""
    yield "chorale", "from nothing", model.compose(seed=SEED, length=STEPS)[0]
    place = model.prepared.part("test").pieces[0].place
    name = Path(str(place)).stem
    kept = {"melody": str(place), "particles": PARTICLES, "length": STEPS}
    yield "harmony", f"below the melody of {name}", model.compose(seed=SEED, **kept)[0]


def draw(name: str, what: str, piece: Any) -> None:
    """The MIDI file and its piano roll."""
    from elman.data.music import midi_bytes
    from elman.plots.svg import svg
    from elman.tasks.music.answers import picture_of

    canvas = picture_of(piece.notes, piece.given, f"{name}, {what}", 60 / piece.tempo, "melody")
    (PICTURES / f"{name}.mid").write_bytes(midi_bytes(piece.notes, tempo=piece.tempo))
    (PICTURES / f"{name}.svg").write_text(svg(canvas), encoding="utf-8")


def table(model: Any, pieces: list[tuple[str, str, Any]]) -> str:
    """What the pieces are like, beside some of the test data, whose first steps are as many."""
    from elman.data.music.copied import figures_of
    from elman.tasks.music.written import COPIED, compared, notes_of, passage_in_words

    rows = [(f"{name}, {what}", piece.rows()) for name, what, piece in pieces]
    part, codec = model.prepared.part("test"), model.codec
    for located, sequence in list(zip(part.pieces, part.sequences, strict=True))[:SHOWN]:
        own = sequence[: STEPS + 1]
        passage = passage_in_words(model.longest_passage(compared(codec, own)))
        figures = figures_of(notes_of(codec, own), 60 / codec.tempo).rows()
        rows.append((f"test data, {located.piece.name}", {**figures, COPIED: passage}))
    names = list(rows[0][1])
    head = f"| piece | {' | '.join(names)} |\n|---|{'---|' * len(names)}\n"
    return head + "".join(
        f"| {name} | {' | '.join(str(own[one]) for one in names)} |\n" for name, own in rows
    )


def main(arguments: list[str] | None = None) -> int:
    """Train, write, draw and tell."""
    import elman

    options = _options(arguments)
    before = trainings.product_rate()
    run, lines = train(scores(), options)
    model = elman.load(run)
    pieces = list(written(model))
    for piece in pieces:
        draw(*piece)
    told = table(model, pieces)
    said = "\n".join(f"    {line}" for line in lines)
    page = (
        f"# Chorales\n\n    python -m benchmarks.chorales\n\n{trainings.stated(trainings.conditions(before))}\n\n"
        f"Seed {SEED}, temperature 0.9, {STEPS} steps of an eighth note; the first draw of each. The melody's piece is "
        f"not of the training data.\n\n{told}\n## The training\n\n{said}\n"
    )
    (options.out / "chorales.md").write_text(page, encoding="utf-8")
    print(told)
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    made = argparse.ArgumentParser(prog="python -m benchmarks.chorales", description=__doc__.split("\n")[0])
    made.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the run")
    made.add_argument("--out", type=Path, default=trainings.RESULTS, help="folder of the record")
    made.add_argument("--threads", type=int, default=1, help="threads of the training")
    return made.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
