"""A forecaster as stages: its layers and its head. What stands around them is numpy in `elman.runtime.outlooks`."""

from __future__ import annotations

import torch

from elman.frozen.draft import Draft
from elman.frozen.networks import own_stack
from elman.frozen.stacks import freeze_function, freeze_stack
from elman.nn import Forecaster

__all__ = ["freeze_forecaster"]


def freeze_forecaster(network: Forecaster) -> Draft:
    """Inputs `e` (see `Forecaster`) and `ahead`, where something is known ahead; output `o`, for the outlook."""
    draft = Draft(network.head.weight.dtype)
    inputs = network.channels + network.known
    wide = {"decay": 3 * inputs, "mask": inputs + 2 * network.channels}.get(network.gaps, inputs)
    y = draft.array("e", (wide,))
    draft.inputs = [y]
    for number, layer in enumerate(network.recurrent):
        y = freeze_stack(draft, own_stack(layer), y, name=f"recurrent{number}")[0]
    parts = [y]
    if network.ahead:
        draft.inputs.append(draft.array("ahead", (network.ahead,)))
        parts.append(draft.inputs[1])
    draft.outputs = [freeze_function(draft, "o", lambda *s: network.head(torch.cat(s, dim=-1)), *parts)]
    draft.texts["task"] = "forecaster"
    return draft
