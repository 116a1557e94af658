"""Predict: what a network writes to recordings, by whichever of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elman.tasks.speech import learning
from elman.tasks.speech.hearing import Heard, heard, heard_by_beam, heard_by_decoder
from elman.tasks.speech.recordings import Codec
from elman.tasks.speech.searching import Search
from elman.tasks.speech.settings import Config
from elman.tasks.speech.spelling import USUAL_BEAM, spell

__all__ = ["BEST_PATH", "written"]

BEST_PATH = Search()


def written(
    model: Any, steps: Sequence[Any], codec: Codec, config: Config, search: Search = BEST_PATH
) -> list[tuple[Heard, Any]]:
    """What is heard in the steps of recordings, each with log p of the symbols over time, `(S, V)`.

    By CTC's best path or beam; or by the decoder, where there is one and `search` does not ask for CTC. A decoder
    without CTC has where it looked in place of log p.
    """
    if config.model.decoder != "ctc" and search.by != "ctc":
        return _by_decoder(model, steps, codec, config, search)
    return [(_by_ctc(logs, codec, config, search), logs) for logs in learning.outputs(model, steps)]


def _by_ctc(logs: Any, codec: Codec, config: Config, search: Search) -> Heard:
    if search.beam:
        return heard_by_beam(logs, codec, config.features, search)
    return heard(logs, codec, config.features)


def _by_decoder(
    model: Any, steps: Sequence[Any], codec: Codec, config: Config, search: Search
) -> list[tuple[Heard, Any]]:
    model.eval()
    found: list[Any] = [None] * len(steps)
    count = len(codec.symbols.names) + 1
    for indices in learning.in_order(steps, search.beam or USUAL_BEAM):
        batch = learning.batch_of([steps[i] for i in indices], [])
        spelled, logs = spell(model, batch.steps, batch.lengths, search.beam, config.model.ctc_share)
        for place, i in enumerate(indices):
            own = None if logs is None else logs[: len(steps[i]), place]
            one = spelled[place]
            chances = one.chances(count) if own is None else own
            found[i] = heard_by_decoder(one, codec, config.features, own), chances
    return found
