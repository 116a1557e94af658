"""Sequences from a model that gives one step: sampling, beam search, scores of given targets; and CTC's labellings.

Nothing here knows a model by name. A model is a `Step`, its state any structure of tensors whose rows can be picked.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.decoding.beam import Hypothesis, beam_search, greedy, score_targets
    from elman.decoding.consensus import expected_likeness
    from elman.decoding.ctc import Labelling, ctc_beam_search, ctc_greedy
    from elman.decoding.drawing import Draw
    from elman.decoding.sampling import probabilities, sample
    from elman.decoding.step import Pick, Step, rows_along

__all__ = [
    "Draw",
    "Hypothesis",
    "Labelling",
    "Pick",
    "Step",
    "beam_search",
    "ctc_beam_search",
    "ctc_greedy",
    "expected_likeness",
    "greedy",
    "probabilities",
    "rows_along",
    "sample",
    "score_targets",
]

_HOMES = {
    "Draw": "drawing",
    "Hypothesis": "beam",
    "Labelling": "ctc",
    "Pick": "step",
    "Step": "step",
    "beam_search": "beam",
    "ctc_beam_search": "ctc",
    "ctc_greedy": "ctc",
    "expected_likeness": "consensus",
    "greedy": "beam",
    "probabilities": "sampling",
    "rows_along": "step",
    "sample": "sampling",
    "score_targets": "beam",
}


def __getattr__(name: str) -> Any:
    """Bring in a name when it is first used (PEP 562): what needs no torch, such as `chain`, comes without it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'elman.decoding' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"elman.decoding.{_HOMES[name]}"), name)
    return value
