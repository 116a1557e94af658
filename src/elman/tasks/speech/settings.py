"""Config: the settings of a recognizer, or of a classifier of recordings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from elman.config import Amount, Count, Flag, Fold, Layers, Positive, Share, UserError, Whole, option
from elman.data.account import OnBad
from elman.data.audio.augmenting import Augmentation
from elman.data.audio.mel import Mel
from elman.data.audio.normalizing import Normalization
from elman.data.audio.transcripts import Form, Listing, pattern_of
from elman.data.splits import where_of
from elman.tasks.network import ClassifierSettings
from elman.training.settings import OptimizerSettings, TrainingSettings

__all__ = ["AugmentSettings", "Config", "FeatureSettings", "ModelSettings", "SpeechSettings"]


@dataclass(frozen=True)
class SpeechSettings:
    """Which recordings and transcripts, how they are read, divided and put into batches."""

    train: tuple[str, ...] = option(
        (), "recordings with transcripts: tables, corpora, folders", unit="PATH", flag="data"
    )
    valid: tuple[str, ...] = option((), "recordings to validate on (none: a share of the data)", unit="PATH")
    test: tuple[str, ...] = option(
        (), "recordings for the final test (none: a share of the data, unless --valid is given)", unit="PATH"
    )
    valid_where: str = option(
        "", "of --data the recordings to validate on, such as index=5,6", unit="FIELD=VALUE,..."
    )
    test_where: str = option("", "of --data the recordings to test on", unit="FIELD=VALUE,...")
    valid_share: Share = option(
        0.1, "part of the data kept for validation where nothing else says which", unit="SHARE"
    )
    test_share: Share = option(
        0.1, "part of the data kept for the test where nothing else says which", unit="SHARE"
    )
    split_seed: Whole = option(0, "which recordings these are", unit="NUMBER")
    fold: Fold = option("", "test on this one of so many equal parts of the data", unit="NUMBER/COUNT")
    group: str = option(
        "",
        "field that is not to be parted by a drawn split, such as speaker (empty: none is kept)",
        unit="FIELD",
    )
    on_bad: OnBad = option(
        "auto",
        "recordings that cannot be used: skip them, refuse the data, or auto: refuse where they are more than 1 %",
    )
    form: Form = option("auto", "form of the data where it is not recognized")
    pattern: str = option(
        "", "what the parts of a file's name mean, such as '{text}_{speaker}_{index}'", unit="PATTERN"
    )
    audio_column: str = option("", "column of the recordings, by name or number from 1", unit="COLUMN")
    text_column: str = option("", "column of the transcripts or classes", unit="COLUMN")
    speaker_column: str = option("", "column of the speakers", unit="COLUMN")
    encoding: str = option("auto", "encoding of tables and transcripts", unit="NAME")
    target: Literal["text", "class"] = option(
        "text", "what is learnt: to write the transcript, or to tell which class a whole recording is of"
    )
    label: str = option("", "field that is the class, such as speaker (empty: the transcript)", unit="FIELD")
    units: Literal["characters", "words"] = option("characters", "what a recognizer writes one of at a time")
    lower: Flag = option(True, "take capitals of transcripts for small letters")
    punctuation: Literal["drop", "keep"] = option(
        "drop", "signs in transcripts; apostrophes within words always stay"
    )
    batch: Count = option(32, "recordings in a batch, at most", unit="COUNT")
    budget: Amount = option(
        400.0,
        "seconds of sound in a batch, padding counted, at most; a longer one is alone (0: any)",
        unit="SECONDS",
    )
    alike: Flag = option(True, "batches of recordings of like lengths")

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        if self.valid_share + self.test_share >= 1:
            raise UserError(
                f"--valid-share {self.valid_share:g} and --test-share {self.test_share:g} leave nothing to train on"
            )
        if self.pattern:
            pattern_of(self.pattern)
        if self.label and self.target == "text":
            raise UserError(f"--label {self.label} is a class: give --target class too")
        for flag, given, where in (
            ("valid", self.valid, self.valid_where),
            ("test", self.test, self.test_where),
        ):
            if given and where:
                raise UserError(f"--{flag} and --{flag}-where both say what the part is; give one of them")
            where_of(where, f"--{flag}-where")
        if self.fold:
            number, count = map(int, self.fold.split("/"))
            if number > count or count < 2:
                raise UserError(f"--fold {self.fold}: expected NUMBER/COUNT, such as 1/5")
            if self.valid or self.test or self.valid_where or self.test_where:
                raise UserError("--fold and --folds divide --data alone: leave what names the parts out")

    def listing(self) -> Listing:
        """How recordings are found."""
        columns = (self.audio_column, self.text_column, self.speaker_column)
        return Listing(self.form, self.pattern, *columns, self.encoding)


@dataclass(frozen=True)
class FeatureSettings:
    """Log-mel features, their normalization, and how many frames are one step of the network."""

    sample_rate: Whole = option(
        0, "rate that all sound is brought to (0: the commonest, at most 16000)", unit="HERTZ"
    )
    window: Positive = option(25.0, "length of the Hann window", unit="MS")
    hop: Positive = option(10.0, "from one frame to the next", unit="MS")
    bands: Count = option(40, "mel bands", unit="COUNT")
    lowest: Amount = option(60.0, "lower edge of the lowest band", unit="HERTZ")
    highest: Amount = option(
        0.0, "upper edge of the highest band (0: 100 Hz below half the rate)", unit="HERTZ"
    )
    emphasis: Share = option(0.97, "pre-emphasis: so much of the sample before is taken away", unit="SHARE")
    normalize: Literal["auto", "global", "recording", "speaker", "running"] = option(
        "auto",
        "level taken away from the features: of the training data, of each recording, of each speaker, or running: of "
        "what has been heard so far (auto: running in one direction, else recording)",
    )
    stride: Count = option(3, "frames from one step of the network to the next", unit="FRAMES")
    ahead: Whole = option(0, "further frames that a step sees", unit="FRAMES")
    cache: str = option("", "folder of computed features (empty: the user's own cache)", unit="FOLDER")

    def mel(self, rate: int) -> Mel:
        """The parameters at a rate. Raises UserError where they do not fit together."""
        window, hop = round(self.window * rate / 1000), round(self.hop * rate / 1000)
        high = self.highest or rate / 2 - 100
        if not self.lowest < high <= rate / 2:
            raise UserError(
                f"--lowest {self.lowest:g} and --highest {high:g}: expected two rising edges up to {rate / 2:g} Hz, "
                f"half the rate of the sound"
            )
        if not 0 < hop <= window:
            raise UserError(f"--hop {self.hop:g} and --window {self.window:g}: a hop is at most a window")
        return Mel(rate, window, hop, self.bands, self.lowest, high, self.emphasis)

    def normalization(self, *, bidirectional: bool) -> Normalization:
        """The word for it, `auto` decided."""
        if self.normalize != "auto":
            return self.normalize
        return "recording" if bidirectional else "running"


@dataclass(frozen=True)
class AugmentSettings:
    """What is done to the training recordings, drawn anew in each epoch."""

    speeds: tuple[Positive, ...] = option(
        (0.9, 1.0, 1.1), "speeds at which recordings are played, pitch and all", unit="FACTOR"
    )
    gain: Amount = option(0.5, "deviation of the loudness, in nats of power", unit="NATS")
    equalizer: Amount = option(0.3, "deviation of a smooth curve over the bands", unit="NATS")
    noise: Share = option(0.0, "share of the recordings that get noise, 5 to 30 dB below", unit="SHARE")
    warp: Share = option(0.0, "largest stretch of the mel axis, up and down", unit="SHARE")
    time_masks: Whole = option(2, "strips of time that are blanked out", unit="COUNT")
    time_width: Whole = option(10, "frames of such a strip, at most", unit="FRAMES")
    band_masks: Whole = option(1, "strips of bands that are blanked out", unit="COUNT")
    band_width: Whole = option(8, "bands of such a strip, at most", unit="BANDS")

    def augmentation(self) -> Augmentation:
        """All but the speeds."""
        strips = (self.time_masks, self.time_width, self.band_masks, self.band_width)
        return Augmentation(self.gain, self.equalizer, self.noise, self.warp, *strips)


# Words of --decoder that mean a decoder with attention.
WRITERS = ("attention", "joint")


@dataclass(frozen=True)
class ModelSettings(ClassifierSettings):
    """Stacked frames -> recurrent layers -> CTC, a decoder with attention, or both; of classes -> pooling -> output."""

    cell: str = option(
        "gru",
        "recurrent cell: gru, lstm, rnn, peephole-lstm, coupled-lstm, original-gru, minimal-gated; or "
        "package.module:Class",
        unit="CELL",
    )
    hidden: Count = option(128, "width of each recurrent layer, in each direction", unit="UNITS")
    layers: Layers = option(2, "recurrent layers on top of each other", unit="COUNT")
    bidirectional: Flag = option(True, "read from both ends; in one direction it can write while one speaks")
    dropout: Share = option(
        0.3, "part dropped before the layers, between them, before the output", unit="SHARE"
    )
    pooling: str = option(
        "max+mean", "of classes: last, mean, max, attention, or several joined by +", unit="POOLING"
    )
    decoder: Literal["ctc", "attention", "joint"] = option(
        "ctc",
        "what writes: CTC, which says a symbol or the blank at each step; a decoder that looks back at all that was "
        "heard; or both over the same layers, trained together",
    )
    ctc_share: Share = option(
        0.3,
        "part of CTC in the loss of both, and in what their transcripts are chosen by",
        unit="SHARE",
        needs={"decoder": "joint"},
    )
    attention: Literal["location", "additive", "monotonic"] = option(
        "location",
        "how the decoder looks: beside where it looked before, anywhere, or never back",
        needs={"decoder": WRITERS},
    )
    attended: Count = option(64, "width of the attention", unit="UNITS", needs={"decoder": WRITERS})
    symbol_width: Count = option(
        64, "width of the symbols that the decoder reads", unit="UNITS", needs={"decoder": WRITERS}
    )
    smoothing: Share = option(
        0.1,
        "part of the truth that is spread over all symbols, for the decoder",
        unit="SHARE",
        needs={"decoder": WRITERS},
    )

    @property
    def writes_by_ctc(self) -> bool:
        """Whether the network says a symbol or the blank at each step."""
        return self.decoder != "attention"


@dataclass(frozen=True)
class Config:
    """The settings of a recognizer, or of a classifier of recordings."""

    data: SpeechSettings = field(default_factory=SpeechSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        """Check what concerns two sections."""
        if self.data.target == "class" and self.model.decoder != "ctc":
            raise UserError(
                f"--decoder {self.model.decoder} writes transcripts; with --target class leave it out"
            )
        if self.model.decoder != "ctc" and (self.model.dense or self.model.output_norm != "none"):
            raise UserError(
                f"--decoder {self.model.decoder} has a readout of its own: leave --dense, --norm and --batch-norm out"
            )
        if self.optimizer.loss != "mean":
            raise UserError(
                f"--loss {self.optimizer.loss}: a recording has one loss, so it has no effect; leave it out"
            )

    @property
    def by_ctc(self) -> bool:
        """Whether a transcript must fit into the steps of its recording, as CTC writes it."""
        return self.data.target == "text" and self.model.writes_by_ctc

    @property
    def normalization(self) -> Normalization:
        """How features are brought to one level."""
        return self.features.normalization(bidirectional=self.model.bidirectional)
