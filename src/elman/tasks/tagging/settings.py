"""Config: the settings of a tagger."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from elman.config import Count, Flag, Fold, Positive, Share, UserError, Whole, option
from elman.data.account import OnBad
from elman.data.sentences import Form, WordReading
from elman.tasks.network import TaggerSettings
from elman.training.settings import OptimizerSettings, TrainingSettings

if TYPE_CHECKING:
    from elman.nn import Tagger

__all__ = ["Config", "ModelSettings", "SentenceSettings"]


@dataclass(frozen=True)
class SentenceSettings:
    """Which sentences, how they are read, divided and put into batches."""

    train: tuple[str, ...] = option(
        (),
        "sentences with tags: files of any form, or a folder with train, valid and test",
        unit="PATH",
        flag="data",
    )
    valid: tuple[str, ...] = option((), "sentences to validate on (none: a share of the data)", unit="PATH")
    test: tuple[str, ...] = option(
        (), "sentences for the final test (none: a share of the data, unless --valid is given)", unit="PATH"
    )
    valid_share: Share = option(
        0.1, "part of the data kept for validation where --valid is not given", unit="SHARE"
    )
    test_share: Share = option(0.1, "part of the data kept for the test where no part is given", unit="SHARE")
    split_seed: Whole = option(0, "which sentences these are", unit="NUMBER")
    fold: Fold = option("", "test on this one of so many equal parts of the data", unit="NUMBER/COUNT")
    documents: Flag = option(False, "keep the sentences of a document on one side of a split that is drawn")
    on_bad: OnBad = option(
        "auto",
        "sentences that cannot be used: skip them, refuse the data, or auto: refuse where they are more than 1 %",
    )
    form: Form = option("auto", "form of the files where it is not recognized")
    encoding: str = option(
        "auto", "encoding of the files (auto: UTF-8, what a mark says, else cp1252)", unit="NAME"
    )
    delimiter: str = option(
        "auto", "between the cells of a row: tab, space, comma, semicolon, pipe, or a character", unit="SIGN"
    )
    word_column: str = option(
        "", "column of the words, by name or number from 1 (empty: found)", unit="COLUMN"
    )
    tag_column: str = option(
        "", "column of the tags; of CoNLL-U upos, xpos, ... (empty: the last one, or found)", unit="COLUMN"
    )
    sentence_column: str = option(
        "", "column of a table that says which sentence (empty: found)", unit="COLUMN"
    )
    sentence_ends: Literal["auto", "blank", "stops"] = option(
        "auto",
        "where sentences of columns end: blank lines, or the words . ! ?; auto: these where no line is blank",
    )
    tags: Literal["auto", "spans", "plain"] = option(
        "auto",
        "what tags are: marks of spans (B-, I-, ...), or each by itself (auto: by how they are written)",
    )
    scheme: Literal["bio", "bioes", "bilou"] = option(
        "bioes", "scheme in which spans are learned, whatever that of the files is"
    )
    lower: Flag = option(True, "take capitals for small letters in the table of words; letters keep them")
    digits: Flag = option(True, "take every digit for 0 in the table of words")
    vocabulary: Whole = option(0, "most words to tell apart by the table (0: all)", unit="WORDS")
    min_count: Count = option(
        1, "how often a word must occur to be in the table; rarer ones are spelled only", unit="TIMES"
    )
    longest_word: Count = option(
        40, "letters of a word that are read: half of them at its start, half at its end", unit="LETTERS"
    )
    batch: Count = option(32, "sentences in a batch, at most", unit="SENTENCES")
    budget: Whole = option(
        8192,
        "padded size of a batch, sentences times words, at most; a longer one is alone (0: any)",
        unit="WORDS",
    )
    alike: Flag = option(True, "batches of sentences of like lengths")
    smoothing: Share = option(0.0, "part of the truth that is spread over all tags", unit="SHARE")
    tune_outside: Flag = option(
        True, "add to the score of O what gives the best span F1 on the validation data"
    )
    apart: str = option(
        "",
        "measure apart what lies in a match of this regular expression in the words joined by spaces: '@ \\S+'",
        unit="PATTERN",
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
                raise UserError("--fold and --folds divide --data alone: leave --valid and --test out")
        try:
            re.compile(self.apart)
        except re.error as error:
            raise UserError(f"--apart {self.apart!r} is no regular expression: {error}") from None

    def reading(self) -> WordReading:
        """How the files are read."""
        return WordReading(
            form=self.form,
            encoding=self.encoding,
            delimiter=self.delimiter,
            words=self.word_column,
            tags=self.tag_column,
            sentences=self.sentence_column,
            ends=self.sentence_ends,
        )


@dataclass(frozen=True)
class ModelSettings(TaggerSettings):
    """Words and their letters -> recurrent layers -> tags at every step, alone or as a chain."""

    cell: str = option(
        "lstm",
        "recurrent cell, of words and of letters: lstm, gru, rnn, peephole-lstm, coupled-lstm, original-gru, "
        "minimal-gated; or package.module:Class",
        unit="CELL",
    )
    embedding: Whole = option(128, "width of the table of words (0: as --hidden)", unit="UNITS")
    hidden: Count = option(128, "width of each recurrent layer, in each direction", unit="UNITS")
    bidirectional: Flag = option(True, "read from both ends, with weights of their own")
    dropout: Share = option(
        0.5, "part dropped after the input, between layers, before the output", unit="SHARE"
    )
    word_dropout: Share = option(
        0.2, "part of the words taken for unknown in training; their letters are still read", unit="SHARE"
    )
    letters: Whole = option(
        64, "width of the layer that spells words, in each direction (0: none)", unit="UNITS"
    )
    letter_embedding: Count = option(32, "width of the table of letters", unit="UNITS")
    affixes: Whole = option(
        32, "width of the vectors of how words begin and end, one to four letters (0: none)", unit="UNITS"
    )
    spelling: str = option(
        "last", "how a word's letters become one vector, as --pooling of classifiers", unit="POOLING"
    )
    output: Literal["softmax", "crf"] = option(
        "softmax", "tags by themselves, or a linear-chain conditional random field"
    )
    init: Positive = option(
        0.1, "standard deviation of the tables' start: with 1, words that are rare stay noise", unit="INIT"
    )

    def __post_init__(self) -> None:
        """Check the words."""
        super().__post_init__()
        words = self.spelling.split("+")
        if set(words) - {"last", "mean", "max", "attention"} or len(set(words)) < len(words):
            raise UserError(
                f"--spelling {self.spelling}: expected words of last, mean, max, attention, each once, joined by +"
            )

    def network(self, words: int, letters: int, tags: int) -> Tagger:
        """The network over tables of so many words and letters; the chain comes beside it."""
        import torch

        from elman.nn import Affixes, Embedding, SpelledWords, Speller, recurrent_stack

        table = Embedding(words, self.width, word_dropout=self.word_dropout, unknown=0, norm=self.input_norm)
        torch.nn.init.normal_(table.weight, std=self.init)
        speller = ends = None
        if self.letters:
            both: dict[str, Any] = {"bidirectional": True} if self.bidirectional else {}
            own = recurrent_stack(
                self.factory(), self.letter_embedding, self.letters, engine=self.engine, options=both
            )
            spelled = Embedding(letters, self.letter_embedding)
            torch.nn.init.normal_(spelled.weight, std=self.init)
            speller = Speller(spelled, own, self.spelling)
        if self.affixes:
            ends = Affixes(self.affixes)
            torch.nn.init.normal_(ends.weight, std=self.init)
        inputs = SpelledWords(
            table, speller, ends, dropout=self.dropout, sequence_dropout=self.sequence_dropout
        )
        return self.tagger(inputs, tags)


@dataclass(frozen=True)
class Config:
    """The settings of a tagger."""

    data: SentenceSettings = field(default_factory=SentenceSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        """Check what concerns two sections."""
        if self.model.output == "crf" and self.data.smoothing:
            raise UserError(
                "--smoothing spreads the truth of each word by itself; leave it out with --output crf"
            )
