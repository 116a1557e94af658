"""Config: the settings of a classifier of texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from elman.config import Count, Flag, Fold, Positive, Share, UserError, Whole, option
from elman.data.account import OnBad
from elman.data.columns import Chosen, Roles
from elman.data.labelled import Form, Reading
from elman.data.table import Given
from elman.tasks.network import ClassifierSettings
from elman.training.settings import OptimizerSettings, TrainingSettings

__all__ = ["Config", "ModelSettings", "TextSettings"]


@dataclass(frozen=True)
class TextSettings:
    """Which texts and labels, how they are read, divided and put into batches."""

    train: tuple[str, ...] = option(
        (),
        "labelled texts: files of any form, or a folder with train, valid and test",
        unit="PATH",
        flag="data",
    )
    valid: tuple[str, ...] = option((), "texts to validate on (none: a share of the data)", unit="PATH")
    test: tuple[str, ...] = option(
        (), "texts for the final test (none: a share of the data, unless --valid is given)", unit="PATH"
    )
    labels_from: tuple[str, ...] = option(
        (), "files whose lines are the labels of the lines of --data", unit="PATH"
    )
    valid_labels_from: tuple[str, ...] = option((), "the same for --valid", unit="PATH")
    test_labels_from: tuple[str, ...] = option((), "the same for --test", unit="PATH")
    valid_share: Share = option(
        0.1, "part of the data kept for validation where --valid is not given", unit="SHARE"
    )
    test_share: Share = option(0.1, "part of the data kept for the test where no part is given", unit="SHARE")
    split_seed: Whole = option(0, "which texts these are", unit="NUMBER")
    fold: Fold = option("", "test on this one of so many equal parts of the data", unit="NUMBER/COUNT")
    group_column: str = option(
        "", "column of what is not to be parted (a speaker, a document)", unit="COLUMN"
    )
    time_column: str = option("", "column of times: the latest texts are the test", unit="COLUMN")
    on_bad: OnBad = option(
        "auto",
        "rows that cannot be used: skip them, refuse the data, or auto: refuse where they are more than 1 %",
    )
    form: Form = option("auto", "form of the files where it is not recognized")
    encoding: str = option(
        "auto", "encoding of the files (auto: UTF-8, what a mark says, else cp1252)", unit="NAME"
    )
    delimiter: str = option(
        "auto", "between the cells of a row: tab, comma, semicolon, pipe, or a character", unit="SIGN"
    )
    quote: Literal["auto", "doubled", "backslash", "none"] = option(
        "auto", "quotes within quotes: written twice, behind a backslash; none: no cell is quoted"
    )
    header: Literal["auto", "yes", "no"] = option("auto", "whether the first row names the columns")
    text_column: str = option(
        "", "column of the text, by name or number from 1 (empty: found)", unit="COLUMN"
    )
    label_column: tuple[str, ...] = option(
        (), "column of the label, or several that say 0 or 1 (none: found)", unit="COLUMN"
    )
    label_separator: str = option(
        "auto", "between several labels of a cell; none: a cell is one label", unit="SIGN"
    )
    label_names: str = option("", "file with the names of labels that are numbers, one a line", unit="FILE")
    labels: Literal["auto", "one", "several"] = option("auto", "labels of a text: just one, or any number")
    rename: tuple[str, ...] = option(
        (), "other names for labels, to merge them; an empty one leaves the texts out", unit="OLD=NEW"
    )
    phrases: Flag = option(True, "train on the phrases inside of trees too")
    unique: Flag = option(False, "train on the same text with the same label only once")
    tokens: Literal["words", "characters"] = option("words", "what is read at a step")
    lower: Flag = option(True, "take capitals for small letters")
    vocabulary: Whole = option(0, "most words to tell apart (0: all)", unit="WORDS")
    min_count: Count = option(
        2, "how often a word must occur to be kept; rarer ones are unknown", unit="TIMES"
    )
    subwords: Whole = option(
        0,
        "vectors for pieces of words, 3 to 5 characters, which words that look alike share: 20000 help where words are "
        "rare (0: none)",
        unit="COUNT",
    )
    longest: Whole = option(0, "cut texts after so many tokens (0: never)", unit="TOKENS")
    vectors: str = option(
        "",
        "pretrained vectors of words to start from, in the text form of word2vec, fastText or GloVe",
        unit="FILE",
    )
    frozen: Flag = option(
        False, "leave the pretrained vectors as they are; words without one are not trained either"
    )
    batch: Count = option(32, "texts in a batch, at most", unit="TEXTS")
    budget: Whole = option(
        16384,
        "padded size of a batch, texts times tokens, at most; a longer text is alone (0: any)",
        unit="TOKENS",
    )
    alike: Flag = option(True, "batches of texts of like lengths")
    class_weights: tuple[str, ...] = option(
        (), "weight of a label in the loss, by name (others: 1); or the word balanced", unit="LABEL=WEIGHT"
    )
    smoothing: Share = option(0.0, "part of the truth that is spread over all labels", unit="SHARE")
    metric: Literal["auto", "accuracy", "macro F1", "micro F1"] = option(
        "auto", "by which the best model is chosen (auto: accuracy; of several labels macro F1)"
    )

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        if self.valid_share + self.test_share >= 1:
            raise UserError(
                f"--valid-share {self.valid_share:g} and --test-share {self.test_share:g} leave nothing to train on"
            )
        if self.time_column and self.group_column:
            raise UserError(
                "--time-column and --group-column are two ways to divide the data; give one of them"
            )
        if self.frozen and not self.vectors:
            raise UserError("--frozen leaves pretrained vectors as they are: name them by --vectors")
        if self.subwords and self.tokens == "characters":
            raise UserError("--subwords are pieces of words, and --tokens characters has none: leave one out")
        if self.subwords and self.frozen:
            raise UserError(
                "--subwords add to the vectors of words, which --frozen leaves as they are: leave one out"
            )
        if self.fold:
            self._check_fold()
        for entry in self.rename:
            if "=" not in entry:
                raise UserError(f"--rename {entry}: expected OLD=NEW, or OLD= to leave out")
        self.weights()

    def _check_fold(self) -> None:
        number, count = map(int, self.fold.split("/"))
        if number > count or count < 2:
            raise UserError(f"--fold {self.fold}: expected NUMBER/COUNT, such as 1/5")
        if self.valid or self.test or self.time_column:
            raise UserError(
                "--fold and --folds divide --data alone: leave --valid, --test and --time-column out"
            )

    def weights(self) -> dict[str, float]:
        """The weights of labels by name; {"balanced": 0} for the word."""
        found: dict[str, float] = {}
        for entry in self.class_weights:
            name, _, value = entry.rpartition("=")
            try:
                found[name if value else entry] = float(value)
            except ValueError:
                if entry != "balanced" or len(self.class_weights) > 1:
                    raise UserError(
                        f"--class-weights {entry}: expected LABEL=WEIGHT, or balanced alone"
                    ) from None
                return {"balanced": 0.0}
            if not found[name] >= 0:
                raise UserError(f"--class-weights {entry}: a weight is a number from 0 up")
        return found

    def reading(self, part: str, roles: dict[tuple[str, ...], Roles]) -> Reading:
        """How the files of a part are read; roles: see `Reading`."""
        return Reading(
            roles=roles,
            form=self.form,
            encoding=self.encoding,
            given=Given(self.delimiter, self.quote, self.header),
            chosen=Chosen(self.text_column, self.label_column, self.label_separator),
            group=self.group_column,
            time=self.time_column,
            phrases=self.phrases and part == "train",
        )


@dataclass(frozen=True)
class ModelSettings(ClassifierSettings):
    """Embedding -> recurrent layers -> pooling -> dense output; a text of any length in bounded memory."""

    cell: str = option(
        "lstm",
        "recurrent cell: lstm, gru, rnn, peephole-lstm, coupled-lstm, original-gru, minimal-gated; or "
        "package.module:Class",
        unit="CELL",
    )
    hidden: Count = option(128, "width of each recurrent layer, in each direction", unit="UNITS")
    bidirectional: Flag = option(True, "read from both ends, with weights of their own")
    dropout: Share = option(
        0.5, "part dropped after embedding, between layers, before the output", unit="SHARE"
    )
    word_dropout: Share = option(0.05, "part of the words taken for unknown in training", unit="SHARE")
    recompute_every: Whole = option(
        1024,
        "of longer texts keep one state every STEPS steps, and compute the rest again (0: keep all)",
        unit="STEPS",
    )
    init: Positive = option(
        0.1,
        "standard deviation of the embedding's start: with 1, words that are rare stay noise",
        unit="INIT",
    )

    def extras(self) -> dict[str, Any]:
        """The options of the layers; long texts are computed in chunks by default."""
        own = super().extras()
        own.pop("checkpoint_every", None)
        chunks = self.recompute_every and self.engine == "elman"
        return {**own, "checkpoint_every": self.recompute_every} if chunks else own


@dataclass(frozen=True)
class Config:
    """The settings of a classifier of texts."""

    data: TextSettings = field(default_factory=TextSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        """Check what concerns two sections."""
        if self.optimizer.loss != "mean":
            raise UserError(
                f"--loss {self.optimizer.loss}: a text has one loss, so it has no effect; leave it out"
            )
