"""Config: the settings of a translator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from elman.config import Amount, Count, Flag, Layers, Share, UserError, Whole, nearest, option
from elman.data.account import OnBad
from elman.data.pairs import Form, Reading
from elman.data.subwords import Unit
from elman.data.table import Given
from elman.tasks.network import CELLS
from elman.training.settings import OptimizerSettings, TrainingSettings

__all__ = ["Config", "ModelSettings", "PairSettings"]

AttentionKind = Literal[
    "additive", "dot", "general", "concat", "multihead", "location", "coverage", "monotonic"
]


@dataclass(frozen=True)
class PairSettings:
    """Which sentences with which translations, how they are read, divided, cut into tokens and put into batches."""

    train: tuple[str, ...] = option(
        (),
        "pairs of sentences: tables, lines of JSON, TMX, PO; P of two aligned files P.FROM and P.TO; or a folder with "
        "train, valid and test",
        unit="PATH",
        flag="data",
    )
    valid: tuple[str, ...] = option((), "pairs to validate on (none: a share of the data)", unit="PATH")
    test: tuple[str, ...] = option(
        (), "pairs for the final test (none: a share of the data, unless --valid is given)", unit="PATH"
    )
    target_from: tuple[str, ...] = option(
        (), "files whose lines are the translations of the lines of --data", unit="PATH"
    )
    valid_target_from: tuple[str, ...] = option((), "the same for --valid", unit="PATH")
    test_target_from: tuple[str, ...] = option((), "the same for --test", unit="PATH")
    source_language: str = option(
        "", "what is translated from: ending of files, column, or tag of TMX", unit="NAME", flag="from"
    )
    target_language: str = option("", "what is translated to", unit="NAME", flag="to")
    valid_share: Share = option(
        0.05, "part of the data kept for validation where --valid is not given", unit="SHARE"
    )
    test_share: Share = option(
        0.05, "part of the data kept for the test where no part is given", unit="SHARE"
    )
    split_seed: Whole = option(0, "which pairs these are", unit="NUMBER")
    on_bad: OnBad = option(
        "auto",
        "pairs that cannot be used: skip them, refuse the data, or auto: refuse where they are more than 1 %",
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
    source_column: str = option(
        "", "column of the source, by name or number from 1 (empty: found)", unit="COLUMN"
    )
    target_column: str = option("", "column of the translation", unit="COLUMN")
    tokens: Unit = option("bpe", "what is read and written at a step: byte pairs, words, characters")
    joint: Flag = option(False, "one vocabulary, and one table of vectors, for both sides")
    source_vocabulary: Whole = option(
        0, "most tokens of the source (0: 4,000 byte pairs; all words)", unit="TOKENS"
    )
    target_vocabulary: Whole = option(0, "most tokens of the target; the smaller, the faster", unit="TOKENS")
    min_count: Count = option(
        2, "how often a word, a character or a pair of bytes must occur to be kept", unit="TIMES"
    )
    lower: Flag = option(False, "take capitals for small letters, on both sides")
    longest: Whole = option(
        100, "leave pairs with more tokens on a side out of the training (0: none)", unit="TOKENS"
    )
    batch: Count = option(64, "pairs in a batch, at most", unit="PAIRS")
    budget: Whole = option(
        4096, "padded size of a batch, pairs times the longer side, at most (0: any)", unit="TOKENS"
    )
    smoothing: Share = option(0.1, "part of the truth that is spread over all tokens", unit="SHARE")
    bleu: Literal["auto", "none", "13a", "intl", "char", "zh"] = option(
        "auto",
        "how sacrebleu cuts translations into words (auto: 13a; none where the data are tokenized already)",
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
        for name in ("valid", "test"):
            if getattr(self, f"{name}_target_from") and not getattr(self, name):
                raise UserError(
                    f"--{name}-target-from gives the translations of --{name}, which is not given"
                )

    def reading(self) -> Reading:
        """How files are read."""
        return Reading(
            form=self.form,
            encoding=self.encoding,
            languages=(self.source_language, self.target_language),
            columns=(self.source_column, self.target_column),
            given=Given(self.delimiter, self.quote, self.header),
        )


@dataclass(frozen=True)
class ModelSettings:
    """Embedding -> encoder -> memory -> decoder with attention -> readout -> output."""

    cell: str = option(
        "gru",
        f"recurrent cell of encoder and decoder: {', '.join(CELLS)}; or package.module:Class",
        unit="CELL",
    )
    embedding: Whole = option(0, "width of the embeddings and of the readout (0: as --hidden)", unit="UNITS")
    hidden: Count = option(192, "width of each recurrent layer, in each direction", unit="UNITS")
    layers: Layers = option(1, "recurrent layers of the encoder", unit="COUNT")
    bidirectional: Flag = option(True, "read the source from both ends")
    dropout: Share = option(
        0.2, "part dropped after embeddings, between layers, from the memory, before the output", unit="SHARE"
    )
    word_dropout: Share = option(0.0, "part of the tokens taken for unknown in training", unit="SHARE")
    attention: AttentionKind = option("additive", "how a step of the memory is scored")
    attention_size: Whole = option(
        0,
        "width of the attention (0: as --hidden)",
        unit="UNITS",
        needs={"attention": ("additive", "concat", "multihead", "location", "coverage", "monotonic")},
    )
    heads: Count = option(4, "heads of the attention", unit="COUNT", needs={"attention": ("multihead",)})
    look: Literal["before", "between", "after"] = option(
        "between",
        "when the decoder looks: before its cell (Bahdanau), between two cells (conditional GRU), after it (Luong)",
    )
    feeding: Flag = option(
        False, "feed what was read into the next step (Luong's input feeding)", needs={"look": ("after",)}
    )
    sampling: Share = option(
        0.0,
        "part of the tokens fed in that are the network's own in training (Bengio et al. 2015); its steps are then a "
        "loop in Python",
        unit="SHARE",
    )
    sampling_steps: Whole = option(
        0, "steps of the training over which that part rises from nothing", unit="STEPS"
    )
    sampling_from: Literal["likeliest", "drawn"] = option(
        "likeliest", "which of its own tokens: the likeliest, or one drawn by its probability"
    )
    tied: Flag = option(True, "the output layer is the table of the target's vectors")
    init: Amount = option(0.1, "standard deviation of the embeddings' start", unit="INIT")
    engine: Literal["elman", "torch"] = option(
        "elman", "layers of elman.nn; or of torch.nn with a Python loop over the decoder, to compare"
    )

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        if ":" not in self.cell and self.cell not in CELLS:
            hint = nearest(self.cell, CELLS, form="'{}'")
            raise UserError(
                f"--cell: {self.cell!r} is not one of {', '.join(CELLS)}, nor a package.module:Class{hint}"
            )
        if self.engine == "torch" and self.cell not in {"lstm", "gru", "rnn"}:
            raise UserError(f"--engine torch: torch.nn has lstm, gru and rnn, not {self.cell}")
        if not self.sampling and (self.sampling_steps or self.sampling_from != "likeliest"):
            flag = "--sampling-steps" if self.sampling_steps else "--sampling-from"
            raise UserError(
                f"{flag} has no effect without --sampling, the part of the tokens fed in; give that too"
            )
        memory = self.hidden * (2 if self.bidirectional else 1)
        if self.attention == "dot" and memory != self.hidden:
            raise UserError(
                f"--attention dot compares the decoder's {self.hidden} units with a memory of {memory}; take "
                f"--attention general, or --no-bidirectional"
            )
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


@dataclass(frozen=True)
class Config:
    """The settings of a translator."""

    data: PairSettings = field(default_factory=PairSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        """Check what concerns two sections."""
        if self.optimizer.loss != "mean":
            raise UserError(
                f"--loss {self.optimizer.loss}: pairs are no streams, so it has no effect; leave it out"
            )
