"""Pictures: the learning curve of a run, and the structure of a model, basic and unfolded.

`blocks` builds the description of the usual layers; matplotlib is imported when something is drawn.
"""

from elman.plots.curve import learning_curve
from elman.plots.drawing import Block, ModelDrawing, Signal, Stack, State, Weight
from elman.plots.model import draw_model

__all__ = ["Block", "ModelDrawing", "Signal", "Stack", "State", "Weight", "draw_model", "learning_curve"]
