"""Sequences from a model that gives one step: sampling, beam search, scores of given targets; and CTC's labellings.

Nothing here knows a model by name. A model is a `Step`, its state any structure of tensors whose rows can be picked.
"""

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
