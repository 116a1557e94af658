"""What goes on inside recurrent layers: states and gates over time, saturation, how far gradients reach, units.

All of it works on any layer of `elman.nn`, `Recurrent(cell)` with any cell, torch.nn's layers, and any network around
them. Nothing here needs speed: the steps run in the plain loop, on a copy of the network in evaluation mode.
"""

from elman.nn.inspection.gradients import HALF_LIFE, Decay, decays
from elman.nn.inspection.measures import (
    HIGH,
    LOW,
    Saturation,
    Stretch,
    alike_together,
    most_varying,
    saturation,
    stretches,
)
from elman.nn.inspection.watching import Track, watch, watching

__all__ = [
    "HALF_LIFE",
    "HIGH",
    "LOW",
    "Decay",
    "Saturation",
    "Stretch",
    "Track",
    "alike_together",
    "decays",
    "most_varying",
    "saturation",
    "stretches",
    "watch",
    "watching",
]
