"""Config: the settings of a tagger of clips."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from elman.config import Amount, Count, Flag, Fold, Layers, Positive, Share, UserError, Whole, option
from elman.data.account import OnBad
from elman.data.audio.transcripts import pattern_of
from elman.data.splits import where_of
from elman.data.video import Listing, Skeleton, Variation
from elman.data.video.clips import Form
from elman.tasks.network import ClassifierSettings, EncoderGroups
from elman.training.settings import OptimizerSettings, TrainingSettings

__all__ = ["AugmentSettings", "ClipSettings", "Config", "FrameSettings", "ModelSettings"]


@dataclass(frozen=True)
class ClipSettings:
    """Which clips and tags, how they are read, divided and put into batches."""

    train: tuple[str, ...] = option(
        (), "clips with tags: folders of classes, tables, folders with a --pattern", unit="PATH", flag="data"
    )
    valid: tuple[str, ...] = option((), "clips to validate on (none: a share of the data)", unit="PATH")
    test: tuple[str, ...] = option(
        (), "clips for the final test (none: a share of the data, unless --valid is given)", unit="PATH"
    )
    where: str = option("", "of --data only these clips, such as class=run,walk", unit="FIELD=VALUE,...")
    valid_where: str = option(
        "", "of --data the clips to validate on, such as subject=5,6", unit="FIELD=VALUE,..."
    )
    test_where: str = option("", "of --data the clips to test on", unit="FIELD=VALUE,...")
    valid_share: Share = option(
        0.1, "part of the data kept for validation where nothing else says which", unit="SHARE"
    )
    test_share: Share = option(
        0.1, "part of the data kept for the test where nothing else says which", unit="SHARE"
    )
    split_seed: Whole = option(0, "which clips these are", unit="NUMBER")
    fold: Fold = option("", "test on this one of so many equal parts of the data", unit="NUMBER/COUNT")
    group: str = option(
        "",
        "field that is not to be parted by a drawn split, such as subject (empty: none is kept)",
        unit="FIELD",
    )
    on_bad: OnBad = option(
        "auto",
        "clips that cannot be used: skip them, refuse the data, or auto: refuse where they are more than 1 %",
    )
    form: Form = option("auto", "form of the data where it is not recognized")
    pattern: str = option(
        "", "what the parts of a file's name mean, such as '{class}_{subject}_{take}'", unit="PATTERN"
    )
    label: str = option(
        "", "field or column that is the tag (empty: label, class, action, ...)", unit="FIELD"
    )
    clip_column: str = option("", "column of the clips, by name or number from 1", unit="COLUMN")
    label_column: tuple[str, ...] = option(
        (), "column of the tags, or several that say 0 or 1 (none: found)", unit="COLUMN"
    )
    label_separator: str = option(
        "auto", "between several tags of a cell; none: a cell is one tag", unit="SIGN"
    )
    feature_columns: tuple[str, ...] = option(
        (), "of a table of frames the columns that are read (none: all of numbers)", unit="COLUMN"
    )
    encoding: str = option("auto", "encoding of tables", unit="NAME")
    labels: Literal["auto", "one", "several"] = option("auto", "tags of a clip: just one, or any number")
    target: Literal["clip", "steps"] = option(
        "clip", "what is told: the tags of a whole clip, or of each moment, learnt from stretches of time"
    )
    batch: Count = option(16, "clips in a batch, at most", unit="COUNT")
    budget: Whole = option(
        2048, "frames in a batch, padding counted, at most; a longer clip is alone (0: any)", unit="FRAMES"
    )
    alike: Flag = option(True, "batches of clips of like lengths")

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        if self.valid_share + self.test_share >= 1:
            raise UserError(
                f"--valid-share {self.valid_share:g} and --test-share {self.test_share:g} leave nothing to train on"
            )
        if self.pattern:
            pattern_of(self.pattern)
        if self.target == "steps" and self.labels == "one":
            raise UserError("--target steps tells any number of tags at each moment: leave --labels one out")
        for flag, given, where in (
            ("valid", self.valid, self.valid_where),
            ("test", self.test, self.test_where),
        ):
            if given and where:
                raise UserError(f"--{flag} and --{flag}-where both say what the part is; give one of them")
            where_of(where, f"--{flag}-where")
        where_of(self.where, "--where")
        if self.fold:
            number, count = map(int, self.fold.split("/"))
            if number > count or count < 2:
                raise UserError(f"--fold {self.fold}: expected NUMBER/COUNT, such as 1/5")
            if self.valid or self.test or self.valid_where or self.test_where:
                raise UserError("--fold and --folds divide --data alone: leave what names the parts out")


@dataclass(frozen=True)
class FrameSettings:
    """What is seen of a clip: pictures sampled by time, or features and skeletons, a row of numbers a frame."""

    fps: Positive = option(8.0, "pictures of a video that are looked at a second, by its times", unit="HERTZ")
    only: Literal["all", "middle"] = option("all", "look at all of them, or at the middle one alone")
    size: Count = option(48, "side that pictures are brought to", unit="PIXELS")
    fit: Literal["pad", "crop", "stretch"] = option(
        "crop", "how a picture becomes a square: with white around it, its middle, or stretched"
    )
    decode: Literal["ahead", "first"] = option(
        "ahead",
        "when videos are decoded: while the network computes, or all before, and those that break off are left out",
    )
    cache: str = option("", "folder of decoded pictures (empty: the user's own cache)", unit="FOLDER")
    feature_rate: Positive = option(1.0, "frames a second of features and skeletons", unit="HERTZ")
    joints: Whole = option(0, "joints of skeletons (0: features are no skeletons)", unit="COUNT")
    dimensions: Count = option(3, "numbers of a joint that are used, from its first", unit="COUNT")
    root: Whole = option(0, "joint that is the middle, from 1 (0: the mean of all)", unit="JOINT")
    torso: tuple[Count, ...] = option(
        (),
        "two joints whose distance, its median over the clip, is the unit (none: as they are)",
        unit="JOINT",
    )
    median: Count = option(1, "frames of the median over time, odd (1: none)", unit="FRAMES")
    differences: tuple[Count, ...] = option(
        (),
        "frames back to which the difference is read too, of features or of pictures, such as 1 4",
        unit="FRAMES",
    )
    level: Literal["auto", "own", "shared"] = option(
        "auto",
        "what features are divided by: the deviation of each, or one that all share and one for each difference; auto: "
        "shared by the joints of skeletons",
    )

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        given = {"root": self.root, "torso": self.torso, "median": self.median > 1}
        for name, asked in given.items():
            if asked and not self.joints:
                raise UserError(f"--{name} is of skeletons: say by --joints how many joints they have")
        if self.torso and (len(self.torso) != 2 or max(self.torso) > self.joints):
            raise UserError(f"--torso: expected two joints from 1 to {self.joints}, such as 3 7")
        if self.root > self.joints:
            raise UserError(f"--root {self.root}: there are {self.joints} joints")
        if self.median % 2 == 0:
            raise UserError(f"--median {self.median}: expected an odd number of frames")

    def skeleton(self) -> Skeleton | None:
        """How skeletons are made comparable; None for other features."""
        if not self.joints:
            return None
        torso = (self.torso[0], self.torso[1]) if self.torso else (0, 0)
        return Skeleton(self.joints, self.dimensions, self.root, torso, self.median)

    @property
    def shared(self) -> bool:
        """Whether all numbers of a frame are divided by one deviation."""
        return self.level == "shared" or (self.level == "auto" and self.joints > 0)

    @property
    def causal(self) -> bool:
        """Whether a frame can be made ready without those behind it."""
        return not self.torso and self.median == 1 and self.only == "all"


@dataclass(frozen=True)
class AugmentSettings:
    """What is done to the training clips, drawn anew in each epoch."""

    crop: Share = option(0.0, "largest share of a clip that is cut away, at both ends together", unit="SHARE")
    warp: Share = option(0.0, "largest share by which the speed differs, rising and falling", unit="SHARE")
    shift: Share = option(0.0, "largest move of the pictures of a clip, of their side", unit="SHARE")
    flip: Flag = option(False, "show half of the clips in a mirror; not where left and right tell tags apart")
    light: Amount = option(0.0, "largest change of brightness and contrast", unit="SHARE")
    turn: Amount = option(0.0, "largest turn of skeletons about the upright axis", unit="DEGREES")
    lean: Amount = option(0.0, "largest turn of skeletons about the other axes", unit="DEGREES")
    stretch: Share = option(0.0, "largest share by which skeletons grow or shrink", unit="SHARE")
    jitter: Amount = option(0.0, "deviation by which the joints of a clip lie elsewhere", unit="UNITS")
    hide: Share = option(0.0, "largest share of joints that are hidden", unit="SHARE")
    noise: Amount = option(0.0, "deviation of noise on each feature, in deviations", unit="UNITS")

    def variation(self) -> Variation:
        """What concerns skeletons."""
        return Variation(self.turn, self.lean, self.stretch, self.jitter, self.hide)


@dataclass(frozen=True)
class ModelSettings(ClassifierSettings):
    """Frames -> encoder, where they are pictures -> recurrent layers -> pooling, or every step -> output."""

    cell: str = option(
        "gru",
        "recurrent cell: gru, lstm, rnn, peephole-lstm, coupled-lstm, original-gru, minimal-gated; or "
        "package.module:Class",
        unit="CELL",
    )
    hidden: Count = option(96, "width of each recurrent layer, in each direction", unit="UNITS")
    layers: Layers = option(1, "recurrent layers on top of each other", unit="COUNT")
    bidirectional: Flag = option(True, "read from both ends; in one direction it can tag while a clip runs")
    dropout: Share = option(
        0.3, "part dropped before the layers, between them, before the output", unit="SHARE"
    )
    encoder: Literal["conv", "pretrained"] = option(
        "conv",
        "what reads pictures: conv, trained along; pretrained, EfficientNet-Lite0 with the weights that it learnt from "
        "ImageNet",
    )
    encoder_groups: EncoderGroups = option(
        5,
        "groups of blocks of the pretrained encoder that are used; 5: 112 maps, a picture's side over 16; 7: 320, over "
        "32; 8: 1280, over 32",
        unit="COUNT",
        needs={"encoder": ("pretrained",)},
    )
    frozen: Flag = option(
        False, "leave the pretrained encoder's weights as they are", needs={"encoder": ("pretrained",)}
    )
    channels: tuple[Count, ...] = option(
        (16, 32, 48),
        "maps of each stage of the encoder of pictures; a stage halves them",
        unit="COUNT",
        needs={"encoder": ("conv",)},
    )
    depth: Count = option(1, "convolutions of each stage", unit="COUNT", needs={"encoder": ("conv",)})
    encoded: Count = option(96, "width of an encoded picture", unit="UNITS")


@dataclass(frozen=True)
class Config:
    """The settings of a tagger of clips."""

    data: ClipSettings = field(default_factory=ClipSettings)
    frames: FrameSettings = field(default_factory=FrameSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        """Check what concerns two sections."""
        if self.optimizer.loss != "mean":
            raise UserError(
                f"--loss {self.optimizer.loss}: a clip has one loss, so it has no effect; leave it out"
            )
        if self.frames.differences and self.model.encoder == "pretrained":
            raise UserError(
                "--differences: the pretrained encoder reads pictures, and no differences of them; leave them out, or "
                "take --encoder conv"
            )
        if self.frames.differences and self.frames.only == "middle":
            raise UserError(
                "--differences: of one frame there are none; leave out --only middle, or --differences"
            )

    def listing(self) -> Listing:
        """How clips are found."""
        data = self.data
        return Listing(
            data.form,
            data.pattern,
            data.label,
            data.clip_column,
            data.label_column,
            data.label_separator,
            data.feature_columns,
            self.frames.feature_rate,
            data.encoding,
        )
