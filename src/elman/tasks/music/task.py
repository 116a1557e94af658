"""The task: `elman train music`, and what runs of it can do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elman.config import UserError, build, pasted
from elman.data.inputs import Item
from elman.data.music import FaultError, Piece
from elman.data.music.audio import check_sound, wav_bytes
from elman.data.music.collection import piece_of_text
from elman.data.music.copied import Passage, Passages
from elman.data.music.midi import midi_bytes
from elman.data.music.notate import musicxml_of
from elman.data.music.rolls import piece_of_line
from elman.files import write_bytes
from elman.page import Section
from elman.tasks import verbs
from elman.tasks.base import Answer, Baseline, Batches, Task, Trained, Verb
from elman.tasks.music import answers, learning, scores, sections
from elman.tasks.music.answers import Compose, Evaluate, Heard, Predict
from elman.tasks.music.drawing import drawing_of
from elman.tasks.music.inspection import InsidePieces
from elman.tasks.music.learning import MusicBatch
from elman.tasks.music.pieces import Codec, Music, Part, prepare, read_codec, read_part
from elman.tasks.music.settings import Config
from elman.tasks.music.written import Written, passages_of, pieces_by
from elman.training.run import Run
from elman.training.score import Score

if TYPE_CHECKING:
    from elman.plots import ModelDrawing
    from elman.tasks.music.network import MusicNetwork
    from elman.training.loop import Measure, StepLoss

__all__ = ["MusicTask", "TrainedMusician"]


class TrainedMusician(Trained):
    """A model of music from a run folder: `compose`, `predict`, `evaluate`, `model`."""

    @cached_property
    def _passages(self) -> Passages | None:
        """Those of the training pieces; None where these are no longer there."""
        try:
            return passages_of(self.codec, self.prepared.part("train"))
        except UserError:
            return None

    def longest_passage(self, roll: Any) -> Passage | None:
        """The longest passage of a roll `(T, K)` that a training piece has too; None where they are not known."""
        return None if self._passages is None else self._passages.longest(roll)

    def examples(self, settings: Any) -> Part:
        """What is measured on; other files are judged by the `--on-bad` that is given beside them."""
        found: Part
        if settings.data:
            data = replace(self.config.data, on_bad=settings.on_bad)
            found = self.read(settings.data, replace(self.config, data=data))
        else:
            found = super().examples(settings)
        return found

    def measured(self, settings: Any) -> Score:
        """What `elman evaluate` finds, with an interval over the pieces."""
        losses = learning.piece_losses(self.model, self.examples(settings).sequences)
        return scores.with_interval(scores.score_of(losses, self.codec.unit), losses)

    def in_words(self, score: Score) -> str:
        """The measure with its interval, and the same without each piece's first step."""
        found, unit = score.figures, self.codec.unit
        return (
            f"{score} nats, each piece's first {unit} among them; without it {found['without_first']:.3f}; "
            f"{found[f'{unit}s']:,} {unit}s of {found['pieces']:,} pieces"
        )

    def inputs(self, settings: Predict) -> Iterator[list[Item]]:
        """Pieces of files, and lines."""
        return answers.inputs_of(settings, self.config.data.reading)

    def answer(self, values: Sequence[Any], settings: Predict) -> Iterator[Answer | str]:
        """How likely a piece is, and which notes come next."""
        for value in values:
            try:
                piece = value if isinstance(value, Piece) else self.piece_of(value)
                yield answers.answer_of(self.hear(piece), self.codec, settings)
            except FaultError as fault:
                yield str(fault)

    def piece_of(self, value: Any) -> Piece:
        """A piece of a line, of a file's path, or of a list of steps."""
        if isinstance(value, Path):
            piece: Piece = answers.one_piece(str(value), self.config.data.reading, "predict")
            return piece
        return piece_of_text(value, "line") if isinstance(value, str) else piece_of_line(value, "steps")

    def hear(self, piece: Piece) -> Heard:
        """How likely each step or event of a piece is, and what comes behind it. Raises FaultError for no notes."""
        sequence, _ = self.codec.encode(piece)
        if self.codec.words is not None:
            # Whether it ends here is not known.
            sequence = sequence[:-1]
        (losses,) = learning.piece_losses(self.model, [sequence])
        return Heard(losses, learning.next_chances(self.model, sequence))

    def compose(self, **settings: Any) -> list[Written]:
        """Pieces, by the names of the flags of `elman compose`; nothing is written to files."""
        return list(self.pieces(build(Compose, settings)))

    def pieces(self, settings: Compose) -> Iterator[Written]:
        """The pieces that `elman compose` writes."""
        return pieces_by(self, settings, self.longest_passage)

    def inside(self) -> InsidePieces:
        """Step by step."""
        return InsidePieces(self)

    def sections(self, examples: Part) -> Iterator[Section]:
        """Pieces that it writes beside pieces of the data, with their rolls and figures."""
        return sections.sections_of(self, examples)


def compose_verb(trained: TrainedMusician, settings: Compose) -> Iterator[str]:
    """Write pieces into files with their pictures; gives the paths and what the pieces are like, a line each."""
    font = check_sound(settings.sound_font) if any(_is(path, ".wav") for path in settings.to) else None
    for number, piece in enumerate(trained.pieces(settings), 1):
        paths = _paths(trained, settings, number)
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, _bytes(piece, path, settings, font))
        if settings.picture:
            paths += _pictures(piece, paths[0], "melody" if settings.melody else "primer")
        if settings.json:
            found = {"files": [str(one) for one in paths], **piece.figures._asdict()}
            found["passage"] = None if piece.passage is None else piece.passage._asdict()
            yield json.dumps(found) + "\n"
            continue
        yield "".join(f"{one}\n" for one in paths)
        yield "; ".join(f"{name} {value}" for name, value in piece.rows().items() if value != "") + "\n"


def _is(path: str | Path, *endings: str) -> bool:
    return str(path).lower().endswith(endings)


def _bytes(piece: Written, path: Path, settings: Compose, font: Path | None) -> bytes:
    """A piece in the form that the ending of its file says."""
    if _is(path, ".wav"):
        assert font is not None
        return wav_bytes(piece.notes, font, seconds_a_quarter=60 / piece.tempo, program=settings.program)
    if _is(path, ".musicxml", ".xml"):
        return musicxml_of(piece.notes, path.stem, tempo=piece.tempo, program=settings.program).encode()
    return midi_bytes(piece.notes, tempo=piece.tempo, program=settings.program)


def _paths(trained: TrainedMusician, settings: Compose, number: int) -> list[Path]:
    """Where a piece is written: the names that were given, numbered where there are several, else the next free one."""
    if settings.to:
        given = [Path(path) for path in settings.to]
        several = settings.count > 1
        return [path.with_name(f"{path.stem}-{number}{path.suffix}") for path in given] if several else given
    taken, free = {entry.name for entry in trained.run.path.glob("composed-*.mid")}, 1
    while f"composed-{free}.mid" in taken:
        free += 1
    return [trained.run.path / f"composed-{free}.mid"]


def _pictures(piece: Written, path: Path, what: str) -> list[Path]:
    from elman.plots.files import write
    from elman.plots.png import png
    from elman.plots.svg import svg

    canvas = answers.picture_of(piece.notes, piece.given, path.stem, 60 / piece.tempo, what)
    return [
        write(path.with_suffix(".png"), png(canvas)),
        write(path.with_suffix(".svg"), svg(canvas).encode()),
    ]


class MusicTask(Task):
    """Music."""

    settings = Config
    trained = TrainedMusician

    def verbs(self) -> dict[str, Verb]:
        """Those of all tasks; compose is its own."""
        shared = super().verbs()
        return {
            "compose": Verb(Compose, "Write music with a trained model.", compose_verb),
            **shared,
            "evaluate": shared["evaluate"]._replace(settings=Evaluate),
            "predict": Verb(Predict, "Say how likely pieces are, and which notes come next.", verbs.predict),
        }

    def settle(self, config: Config) -> Config:
        """Paths made absolute."""
        data = config.data
        paths: dict[str, Any] = {
            name: tuple(str(Path(path).absolute()) for path in getattr(data, name))
            for name in ("train", "valid", "test")
        }
        return replace(config, data=replace(data, **paths))

    def prepare(self, config: Config, codec: Codec | None) -> Music:
        """Read and divide the pieces."""
        return prepare(config, codec)

    def codec(self, run: Run) -> Codec:
        """Keys, steps a quarter note, tempo."""
        return read_codec(run)

    def model(self, config: Config, codec: Codec) -> MusicNetwork:
        """The network; its output's biases are where each key sounds as often as in the training data."""
        return learning.build_model(config, codec)

    def batches(self, config: Config, prepared: Any) -> tuple[Batches, int]:
        """Pieces of like lengths side by side."""
        return learning.batches_of(config, prepared.parts["train"], prepared.codec)

    def loss(self, model: Any, batch: MusicBatch, state: Any, config: Config) -> StepLoss:
        """The mean over all steps of all pieces."""
        from elman.training.loop import StepLoss

        losses, _ = learning.losses_of(model, batch)
        return StepLoss(losses.mean(), float(losses.detach().sum()), len(losses), ())

    def progress(self, codec: Codec) -> Measure:
        """Nats a step, or an event."""
        from elman.training.loop import Measure

        return Measure(scores.METRICS[codec.unit], float, f"{codec.unit}s")

    def measure(self, model: Any, codec: Codec, examples: Part | None, config: Config) -> Score | None:
        """Nats a step; a likelihood is of what stands there, and nothing is decoded."""
        if examples is None:
            return None
        return scores.score_of(learning.piece_losses(model, examples.sequences), codec.unit)

    def read(self, paths: tuple[str, ...], config: Config, codec: Codec) -> Part:
        """Pieces of other files."""
        return read_part(paths, config.data, codec)

    def baselines(self, config: Config, prepared: Any) -> Iterator[Baseline]:
        """Frequencies of notes, and the last step again."""
        return scores.baselines_of(prepared)

    def describe(self, trained: TrainedMusician, *, steps: int) -> ModelDrawing:
        """One stack, which reads and writes at every step."""
        return drawing_of(trained, steps=steps)

    def leaves(self, trained: TrainedMusician) -> dict[str, str]:
        """Keys, tempo, and steps or events. UserError for a NADE, which draws a step key by key."""
        if trained.codec.words is None and trained.config.model.nade:
            raise UserError(
                f"{trained.run.path} draws the keys of a step one after the other (--nade "
                f"{trained.config.model.nade}), which a frozen model cannot do; train with --nade 0 or --kind events"
            )
        codec = {name: value for name, value in trained.codec.to_json().items() if name != "shares"}
        return {"task": "music", "codec": json.dumps(codec)}

    def closing(self, trained: TrainedMusician) -> list[str]:
        """How to go on."""
        path = pasted(trained.run.path)
        return [f"the run is in {path}; write music: elman compose {path}"]
