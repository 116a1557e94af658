"""Config: the settings of a language model, and the flags of what its runs can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from elman.config import Amount, Count, Flag, OptionalSeed, UserError, Whole, option
from elman.data.corpus import CorpusSettings
from elman.data.inputs import check_inputs
from elman.tasks import verbs
from elman.tasks.network import RecurrentSettings
from elman.training.settings import OptimizerSettings, TrainingSettings

__all__ = ["Config", "Evaluate", "Generate", "ModelSettings", "Predict", "ScoreText"]


@dataclass(frozen=True)
class ModelSettings(RecurrentSettings):
    """Embedding -> dropout -> recurrent stack -> norm -> dropout -> dense softmax."""

    tied: Flag = option(False, "one table for embedding and output layer")
    init: Amount = option(0.0, "draw all from U(-INIT, INIT) (0: each layer's own start)", unit="INIT")

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        super().__post_init__()
        self.check_residual(self.width)
        output = self.projection or self.hidden
        if self.tied and self.width != output:
            flag = "--projection" if self.projection else "--hidden"
            raise UserError(
                f"--tied needs one width: --embedding {self.width} is not {flag} {output}; leave one out"
            )


@dataclass(frozen=True)
class LanguageModelTraining(TrainingSettings):
    """How long, how often to look; and what to write on the way."""

    sample_every: Whole = option(
        0,
        "steps between texts that the model writes, into the log and the report (0: none)",
        unit="STEPS",
        late=True,
    )
    sample_length: Count = option(
        200, "length of such a text", unit="TOKENS", late=True, needs={"sample_every": True}
    )
    sample_prompt: str = option(
        "", "what such a text begins with", unit="TEXT", late=True, needs={"sample_every": True}
    )


@dataclass(frozen=True)
class Config:
    """The settings of a language model."""

    data: CorpusSettings = field(default_factory=CorpusSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    training: LanguageModelTraining = field(default_factory=LanguageModelTraining)

    def __post_init__(self) -> None:
        """Check what concerns two sections."""
        if self.data.apart and self.model.engine == "torch":
            raise UserError(
                f"--documents {self.data.documents} begins each document anew, which the layers of torch.nn cannot; "
                f"leave --engine torch out"
            )


# At temperature 0 nothing is drawn.
DRAWN = {"temperature": True}


@dataclass(frozen=True)
class Evaluate(verbs.Evaluate):
    """Flags of `elman evaluate`."""

    streams: Count = option(
        1, "pieces of the text read side by side: faster, but each forgets at its start", unit="COUNT"
    )


@dataclass(frozen=True)
class Predict(verbs.Predict):
    """Flags of `elman predict`."""

    length: Count = option(40, "how much to write on at most", unit="TOKENS")
    temperature: Amount = option(
        0.0, "0 the likeliest token each time, above it drawn: below 1 surer, above 1 freer", unit="NUMBER"
    )
    seed: OptionalSeed = option(
        -1,
        "the same text each time for the same seed (-1: a new one each time)",
        unit="NUMBER",
        needs=DRAWN,
    )


@dataclass(frozen=True)
class Generate:
    """Flags of `elman generate`."""

    prompt: tuple[str, ...] = option((), "texts to write on from", unit="TEXT")
    prompt_file: tuple[str, ...] = option(
        (),
        "files with a text each to write on from, without its last line end; - is standard input",
        unit="FILE|-",
    )
    samples: Count = option(
        1, "texts for each prompt, written side by side; the second one has the seed + 1, ...", unit="COUNT"
    )
    length: Count = option(400, "how much to write", unit="TOKENS")
    temperature: Amount = option(
        0.8, "below 1 surer, above 1 freer, 0 always the likeliest token", unit="NUMBER"
    )
    top_k: Whole = option(
        0, "draw from the so many likeliest tokens only (0: from all)", unit="TOKENS", needs=DRAWN
    )
    top_p: Amount = option(
        1.0, "draw from the likeliest tokens that make up this probability", unit="SHARE", needs=DRAWN
    )
    seed: OptionalSeed = option(
        -1,
        "the same text each time for the same seed (-1: a new one each time)",
        unit="NUMBER",
        needs=DRAWN,
    )
    stop: tuple[str, ...] = option(
        (), "end before any of these texts; \\n and \\t stand for line end and tab", unit="TEXT"
    )
    across: Flag = option(False, "write on past the end of a document")
    json: Flag = option(False, "print a JSON object a text")
    checkpoint: Literal["best", "last"] = option("best", "the model at its best validation, or the last one")

    def check(self) -> None:
        """Raise UserError for a file that is not there."""
        if self.prompt_file:
            check_inputs(self.prompt_file)

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 < self.top_p <= 1:
            raise UserError(f"--top-p {self.top_p:g} is outside (0, 1]; 1 draws from all tokens")


@dataclass(frozen=True)
class ScoreText:
    """Flags of `elman score`."""

    inputs: tuple[str, ...] = option(
        (), "texts to score, a file each; - is standard input", unit="FILE|FOLDER|-", positional=True
    )
    lines: Flag = option(False, "each line is a text of its own")
    top: Whole = option(3, "so many of the likeliest tokens at each place", unit="TOKENS")
    total: Flag = option(False, "leave out the table of tokens", needs={"json": False})
    json: Flag = option(False, "print a JSON object a text")
    checkpoint: Literal["best", "last"] = option("best", verbs.CHECKPOINT)

    def check(self) -> None:
        """Raise UserError for an input that is not there."""
        check_inputs(self.inputs)
