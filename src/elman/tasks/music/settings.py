"""Config: the settings of a model of music."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from elman.config import Count, Flag, Fold, Share, UserError, Whole, option
from elman.data.account import OnBad
from elman.data.music import Clock, Drums, EventWords, Keys, Reading
from elman.data.music.events import PER_SECOND
from elman.tasks.network import RecurrentSettings
from elman.training.settings import OptimizerSettings, TrainingSettings

if TYPE_CHECKING:
    from elman.nn import Embedding, Features

__all__ = ["Config", "ModelSettings", "MusicSettings"]

Channel = Annotated[int, msgspec.Meta(ge=0, le=16)]
Semitones = Annotated[int, msgspec.Meta(ge=0, le=24)]
Velocities = Annotated[int, msgspec.Meta(ge=1, le=127)]


@dataclass(frozen=True)
class MusicSettings:
    """Which pieces, how they are read, divided and put into batches."""

    train: tuple[str, ...] = option(
        (),
        "files or folders of MIDI, MusicXML, ABC or piano rolls (.mat, .npz, JSON); one with train, valid and test",
        unit="PATH",
        flag="data",
    )
    valid: tuple[str, ...] = option((), "pieces to validate on (none: a share of the data)", unit="PATH")
    test: tuple[str, ...] = option(
        (), "pieces for the final test (none: a share of the data, unless --valid is given)", unit="PATH"
    )
    valid_share: Share = option(
        0.1, "part of the pieces kept for validation where none are given", unit="SHARE"
    )
    test_share: Share = option(
        0.1, "part of the pieces kept for the test where no part is given", unit="SHARE"
    )
    split_seed: Whole = option(0, "which pieces these are", unit="NUMBER")
    fold: Fold = option("", "test on this one of so many equal parts of the data", unit="NUMBER/COUNT")
    on_bad: OnBad = option(
        "auto",
        "pieces that cannot be used: skip them, refuse the data, or auto: refuse where they are more than 1 %",
    )
    drums: Drums = option("drop", "percussion: left out, kept beside the other notes, or all there is")
    drum_channel: Channel = option(
        10, "channel of MIDI files whose notes are percussion (0: none)", unit="CHANNEL"
    )
    resolution: Whole = option(
        0,
        "steps a quarter note; of files of piano rolls, how many theirs has (0: 4 of a roll, 12 of events)",
        unit="STEPS",
    )
    clock: Clock = option(
        "beats", "in what events count time: parts of a quarter note, or hundredths of a second"
    )
    velocities: Velocities = option(16, "how many velocities events tell apart", unit="COUNT")
    transpose: Semitones = option(
        0, "move each piece, anew in each epoch, by up to so many semitones up or down", unit="SEMITONES"
    )
    crop: Whole = option(
        0, "train on a piece's cut-out of so many steps, anew in each epoch (0: all of it)", unit="STEPS"
    )
    batch: Count = option(16, "pieces in a batch, at most", unit="PIECES")
    budget: Whole = option(
        16384,
        "padded size of a batch, pieces times steps, at most; a longer one is alone (0: any)",
        unit="STEPS",
    )
    alike: Flag = option(True, "batches of pieces of like lengths")

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        if self.valid_share + self.test_share >= 1:
            raise UserError(
                f"--valid-share {self.valid_share:g} and --test-share {self.test_share:g} leave nothing to train on"
            )
        if self.fold:
            number, count = map(int, self.fold.split("/"))
            if number > count or count < 2:
                raise UserError(f"--fold {self.fold}: expected NUMBER/COUNT, such as 1/5")
            if self.valid or self.test:
                raise UserError("--fold and --folds divide --data alone: leave --valid and --test out")
        if self.transpose and self.drums == "only":
            raise UserError(
                f"--transpose {self.transpose}: percussion is not transposed; leave it out with --drums only"
            )

    @property
    def keys(self) -> Keys:
        """Those of the piano, of percussion, or both."""
        return Keys(self.drums != "only", self.drums != "drop")

    @property
    def reading(self) -> Reading:
        """How files are read."""
        return Reading(self.drums, self.drum_channel)


@dataclass(frozen=True)
class ModelSettings(RecurrentSettings):
    """What came last -> recurrent layers -> what comes next."""

    kind: Literal["roll", "events"] = option(
        "roll",
        "what the model writes: the keys that sound at each step, or events, one after the other: a note begins, a "
        "note ends, time passes, the velocity changes",
    )
    nade: Whole = option(
        128,
        "hidden units of a NADE, which writes the keys of a step one after the other (0: each by itself)",
        unit="UNITS",
        needs={"kind": ("roll",)},
    )
    dropout: Share = option(0.3, "part dropped between layers and before the output", unit="SHARE")
    input_dropout: Share = option(0.0, "part dropped of what the recurrent layers read", unit="SHARE")
    dense: Whole = option(0, "width of a dense layer before the output (0: none)", unit="UNITS")

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        super().__post_init__()
        if self.word_dropout:
            raise UserError("--word-dropout: keys are no words; take --input-dropout")

    def event_table(self, count: int) -> Embedding:
        """The embedding of `count` events."""
        from elman.nn import Embedding

        return Embedding(
            count,
            self.width,
            norm=self.input_norm,
            dropout=self.input_dropout,
            sequence_dropout=self.sequence_dropout,
        )

    def inputs(self, keys: int) -> Features:
        """What a step's keys `(T, B, K)` become before the recurrent layers."""
        from elman.nn import Features

        return Features(
            keys,
            self.embedding,
            norm=self.input_norm,
            dropout=self.input_dropout,
            sequence_dropout=self.sequence_dropout,
        )


@dataclass(frozen=True)
class Config:
    """The settings of a model of music."""

    data: MusicSettings = field(default_factory=MusicSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        """Check what concerns two sections."""
        if self.data.clock == "seconds" and self.model.kind != "events":
            raise UserError("--clock seconds: a roll counts quarter notes; take --kind events")
        if self.optimizer.loss != "mean":
            raise UserError(
                f"--loss {self.optimizer.loss}: the pieces of a batch have lengths of their own; leave it out"
            )

    @property
    def resolution(self) -> int:
        """Steps a quarter note."""
        return self.data.resolution or (4 if self.model.kind == "roll" else 12)

    @property
    def words(self) -> EventWords | None:
        """The events that the model writes; None where it writes the steps of a roll."""
        data = self.data
        if self.model.kind == "roll":
            return None
        per = PER_SECOND if data.clock == "seconds" else self.resolution
        return EventWords(data.keys, data.clock, per, data.velocities)
