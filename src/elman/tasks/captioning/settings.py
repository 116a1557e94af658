"""Config: the settings of a network that describes pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from elman.config import Amount, Count, Flag, Fold, Share, UserError, Whole, nearest, option
from elman.data.account import OnBad
from elman.data.captions import Form, Listing
from elman.data.pictures import Fit, Fitting
from elman.data.subwords import Unit
from elman.tasks.network import CELLS, EncoderGroups
from elman.training.settings import OptimizerSettings, TrainingSettings

__all__ = ["AugmentSettings", "CaptionSettings", "Config", "ModelSettings", "PictureSettings"]

AttentionKind = Literal["additive", "general", "concat", "multihead", "coverage"]


@dataclass(frozen=True)
class CaptionSettings:
    """Which pictures with which captions, how they are read, divided, cut into tokens and put into batches."""

    train: tuple[str, ...] = option(
        (),
        "pictures with captions: tables, COCO's or Karpathy's JSON, token.txt, folders; or a folder with train, valid "
        "and test",
        unit="PATH",
        flag="data",
    )
    valid: tuple[str, ...] = option((), "pictures to validate on (none: a share of the data)", unit="PATH")
    test: tuple[str, ...] = option(
        (), "pictures for the final test (none: a share of the data, unless --valid is given)", unit="PATH"
    )
    valid_share: Share = option(
        0.1, "part of the pictures kept for validation where nothing else says which", unit="SHARE"
    )
    test_share: Share = option(
        0.1, "part of the pictures kept for the test where nothing else says which", unit="SHARE"
    )
    split_seed: Whole = option(0, "which pictures these are", unit="NUMBER")
    fold: Fold = option("", "test on this one of so many equal parts of the data", unit="NUMBER/COUNT")
    group: str = option(
        "",
        "column of the table whose values are not to be parted by a drawn split (empty: none; a picture never is)",
        unit="COLUMN",
    )
    on_bad: OnBad = option(
        "auto",
        "captions that cannot be used: skip them, refuse the data, or auto: refuse where they are more than 1 %",
    )
    form: Form = option("auto", "form of the data where it is not recognized")
    pictures: str = option(
        "", "folder of the pictures that captions name (empty: around the file of captions)", unit="FOLDER"
    )
    picture_column: str = option("", "column of the pictures, by name or number from 1", unit="COLUMN")
    caption_columns: tuple[str, ...] = option(
        (), "columns of the captions, by name or number from 1", unit="COLUMN", flag="caption-column"
    )
    encoding: str = option("auto", "encoding of the files of captions", unit="NAME")
    tokens: Unit = option("words", "what is written at a step: words, byte pairs, characters")
    vocabulary: Whole = option(0, "most tokens to write (0: 4,000 byte pairs; all words)", unit="TOKENS")
    min_count: Count = option(1, "how often a word must occur in training to be written", unit="TIMES")
    lower: Flag = option(True, "take capitals of captions for small letters")
    longest: Whole = option(50, "leave captions of more tokens out of the training (0: none)", unit="TOKENS")
    batch: Count = option(64, "captions in a batch, at most", unit="CAPTIONS")
    alike: Flag = option(False, "batches of captions of like lengths")
    smoothing: Share = option(0.1, "part of the truth that is spread over all tokens", unit="SHARE")
    doubly: Amount = option(
        0.0,
        "weight of the doubly stochastic regularization: each place is to be looked at once in all (Xu et al. 2015)",
        unit="LAMBDA",
    )
    validation_beam: Count = option(
        1, "beam by which validations decode (1: the likeliest token at each step)", unit="COUNT", late=True
    )

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
                raise UserError("--fold and --folds divide --data alone: leave what names the parts out")

    def listing(self) -> Listing:
        """How captions are found."""
        return Listing(self.form, self.pictures, self.picture_column, self.caption_columns, self.encoding)


@dataclass(frozen=True)
class PictureSettings:
    """The size that all pictures are brought to."""

    size: Count = option(64, "height and width that pictures are brought to", unit="PIXELS")
    fit: Fit = option("pad", "the whole picture with white around it; its middle; or stretched")
    cache: str = option("", "folder of fitted pictures (empty: the user's own cache)", unit="FOLDER")

    def fitting(self) -> Fitting:
        """The same, for the reader."""
        return Fitting(self.size, self.size, self.fit)


@dataclass(frozen=True)
class AugmentSettings:
    """What is done to the training pictures, drawn anew in each epoch."""

    shift: Share = option(0.06, "largest shift, up, down and sideways, in parts of the picture", unit="SHARE")
    zoom: Share = option(0.1, "largest change of the size, and of height beside width", unit="SHARE")
    turn: Amount = option(5.0, "largest turn", unit="DEGREES")
    flip: Flag = option(False, "mirror every other picture: only where captions never say left or right")
    light: Share = option(0.1, "largest change of brightness, of contrast, and of each colour", unit="SHARE")


@dataclass(frozen=True)
class ModelSettings:
    """Picture -> encoder -> grid -> decoder with attention -> readout -> output."""

    encoder: str = option(
        "conv",
        "what reads pictures: conv, trained along; pretrained, EfficientNet-Lite0 with the weights that it learnt from "
        "ImageNet; or package.module:Class, called without arguments, whose module makes a grid (B, C, h, w) of "
        "pictures (B, 3, H, W) from 0 to 1",
        unit="ENCODER",
    )
    channels: tuple[Count, ...] = option(
        (32, 64, 128),
        "features of each stage of the encoder; each stage halves the picture",
        unit="COUNT",
        needs={"encoder": ("conv",)},
    )
    depth: Count = option(
        2, "convolutions in each stage of the encoder", unit="COUNT", needs={"encoder": ("conv",)}
    )
    encoder_groups: EncoderGroups = option(
        8,
        "groups of blocks of the pretrained encoder that are used; 5: 112 features, a picture's side over 16; 7: 320, "
        "over 32; 8: 1280, over 32",
        unit="COUNT",
        needs={"encoder": ("pretrained",)},
    )
    frozen: Flag = option(False, "leave the encoder's weights as they are")
    views: Whole = option(
        8,
        "changed versions of each training picture whose grids a frozen pretrained encoder computes once, and keeps "
        "(0: changed and computed anew each time)",
        unit="COUNT",
        needs={"encoder": ("pretrained",), "frozen": True},
    )
    grid: Whole = option(
        0, "width that the grid's features are brought to by a layer (0: as they are)", unit="UNITS"
    )
    cell: str = option(
        "gru", f"recurrent cell of the decoder: {', '.join(CELLS)}; or package.module:Class", unit="CELL"
    )
    embedding: Whole = option(0, "width of the embeddings and of the readout (0: as --hidden)", unit="UNITS")
    hidden: Count = option(192, "width of the decoder", unit="UNITS")
    dropout: Share = option(0.3, "part dropped after embeddings and before the output", unit="SHARE")
    grid_dropout: Share = option(0.1, "part of the grid's numbers dropped", unit="SHARE")
    word_dropout: Share = option(0.0, "part of the tokens taken for unknown in training", unit="SHARE")
    attention: AttentionKind = option("additive", "how a place of the grid is scored")
    attention_size: Whole = option(
        0,
        "width of the attention (0: as --hidden)",
        unit="UNITS",
        needs={"attention": ("additive", "concat", "multihead", "coverage")},
    )
    heads: Count = option(4, "heads of the attention", unit="COUNT", needs={"attention": ("multihead",)})
    look: Literal["before", "between", "after"] = option(
        "between",
        "when the decoder looks: before its cell (Xu), between two cells (conditional GRU), after it (Luong)",
    )
    tied: Flag = option(True, "the output layer is the table of the tokens' vectors")
    init: Amount = option(0.1, "standard deviation of the embeddings' start", unit="INIT")

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        if ":" not in self.cell and self.cell not in CELLS:
            hint = nearest(self.cell, CELLS, form="'{}'")
            raise UserError(
                f"--cell: {self.cell!r} is not one of {', '.join(CELLS)}, nor a package.module:Class{hint}"
            )
        if ":" not in self.encoder and self.encoder not in ENCODERS:
            raise UserError(
                f"--encoder: {self.encoder!r} is not one of {', '.join(ENCODERS)}, nor a package.module:Class"
            )
        if self.frozen and self.encoder == "conv":
            raise UserError("--frozen: the encoder conv starts from random weights and has to be trained")
        if self.attention == "multihead" and self.attended % self.heads:
            raise UserError(f"--heads {self.heads} does not divide the attention's width {self.attended}")

    @property
    def width(self) -> int:
        """Of the embeddings."""
        return self.embedding or self.hidden

    @property
    def attended(self) -> int:
        """Of the attention."""
        return self.attention_size or self.hidden


# The encoders that have a word.
ENCODERS = ("conv", "pretrained")


@dataclass(frozen=True)
class Config:
    """The settings of a network that describes pictures."""

    data: CaptionSettings = field(default_factory=CaptionSettings)
    picture: PictureSettings = field(default_factory=PictureSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        """Check what concerns two sections."""
        if self.optimizer.loss != "mean":
            raise UserError(
                f"--loss {self.optimizer.loss}: captions are no streams, so it has no effect; leave it out"
            )
        if self.data.doubly and self.model.attention == "coverage":
            raise UserError("--doubly is for attention that does not see where it looked: not for coverage")
        stages = len(self.model.channels)
        if self.model.encoder == "conv" and self.picture.size < 2**stages:
            raise UserError(
                f"--size {self.picture.size}: {stages} stages halve it so often that nothing is left; give a larger "
                f"size, or fewer --channels"
            )
