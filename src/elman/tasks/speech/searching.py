"""Prefix beam search with a language model of one's own fused in: which transcript is likely as sound and as text.

score(Y) = log p_ctc(Y | x) + weight · log p_lm(Y) + bonus · |Y|        (Hannun et al. 2014, arXiv 1408.2873)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from elman.config import Amount, UserError, Whole, option
from elman.data.audio.symbols import BLANK, Symbols

if TYPE_CHECKING:
    from torch import Tensor

    from elman.decoding import Pick, Step

__all__ = ["Fusion", "Search", "Searching", "fusion_of", "search_of"]

# Prefixes kept where a language model is given and no number of them.
USUAL_BEAM = 16


@dataclass(frozen=True)
class Searching:
    """Flags of a search, of several verbs."""

    beam: Whole = option(
        0,
        "prefixes that a search keeps (0: the best path; beside a language model 16, of a decoder 4)",
        unit="COUNT",
    )
    by: Literal["auto", "ctc", "attention"] = option(
        "auto",
        "which of the two outputs of --decoder joint writes (auto: attention, its transcripts weighed by CTC)",
    )
    language_model: str = option(
        "", "run of a language model over the same characters (or words), which is fused in", unit="RUN"
    )
    weight: Amount = option(
        0.5, "weight of its log probability", unit="WEIGHT", needs={"language_model": True}
    )
    bonus: float = option(
        0.0, "what each symbol adds to the score, in nats", unit="NATS", needs={"language_model": True}
    )


class Fusion(NamedTuple):
    """A language model as `ctc_beam_search` takes it: over the recognizer's symbols, the blank never."""

    step: Step
    state: Any
    pick: Pick
    weight: float
    bonus: float


class Search(NamedTuple):
    """How many prefixes are kept (0: the best path), what is fused in, and which output writes."""

    beam: int = 0
    fusion: Fusion | None = None
    by: Literal["auto", "ctc", "attention"] = "auto"


def search_of(settings: Searching, symbols: Symbols, decoder: str = "ctc") -> Search:
    """What the flags ask for, of a network with this `--decoder`. Raises UserError where they do not fit."""
    if settings.by not in {"auto", decoder} and decoder != "joint":
        raise UserError(
            f"--by {settings.by}: the run was trained with --decoder {decoder}, which alone writes"
        )
    if not settings.language_model:
        return Search(settings.beam, by=settings.by)
    if decoder != "ctc" and settings.by != "ctc":
        more = "give --by ctc" if decoder == "joint" else "train with --decoder ctc or joint"
        raise UserError(f"--language-model is fused into CTC's search, not into a decoder's: {more}")
    if not symbols.names:
        raise UserError("--language-model: the run tells classes of recordings, and writes no text")
    from elman.tasks.base import load

    trained = load(settings.language_model)
    fusion = fusion_of(trained, symbols, settings.weight, settings.bonus, settings.language_model)
    return Search(settings.beam or USUAL_BEAM, fusion, settings.by)


def fusion_of(trained: Any, symbols: Symbols, weight: float, bonus: float, name: str) -> Fusion:
    """A loaded language model over the recognizer's symbols. Raises UserError where it lacks some of them."""
    import torch

    if not hasattr(trained, "tokenizer") or not hasattr(trained.model, "initial_state"):
        raise UserError(
            f"--language-model {name} is a run of {trained.task.name}; give one of language-model"
        )
    tokenizer = trained.tokenizer
    found = [tokenizer.encode(symbol) for symbol in symbols.names]
    lacking = [
        symbol
        for symbol, tokens in zip(symbols.names, found, strict=True)
        if len(tokens) != 1 or int(tokens[0]) == tokenizer.unknown
    ]
    if lacking:
        unit = "words" if symbols.words else "characters"
        raise UserError(
            f"--language-model {name} has no token for {lacking[0]!r}: train one with --tokens {unit} on text that "
            f"has all of the recognizer's {unit}"
        )
    # The blank stands for the start of a text where it is read, and is never written.
    tokens = torch.tensor([tokenizer.start, *(int(own[0]) for own in found)])

    def step(numbers: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits, state = trained.model.step(tokens[numbers], state)
        own = logits.index_select(1, tokens).clone()
        own[:, BLANK] = -torch.inf
        return own, state

    return Fusion(step, trained.model.initial_state(1), _pick_of(trained.model), weight, bonus)


def _pick_of(model: Any) -> Callable[[Any, Tensor], Any]:
    """Picks the rows of a state whose tensors have them on any axis, found from the starts of two and three rows."""
    from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

    two, three = (tree_leaves(model.initial_state(count)) for count in (2, 3))
    axes = [
        next(axis for axis, (a, b) in enumerate(zip(x.shape, y.shape, strict=True)) if a != b)
        for x, y in zip(two, three, strict=True)
    ]

    def pick(state: Any, rows: Tensor) -> Any:
        leaves, structure = tree_flatten(state)
        picked = [leaf.index_select(axis, rows) for leaf, axis in zip(leaves, axes, strict=True)]
        return tree_unflatten(picked, structure)

    return pick
