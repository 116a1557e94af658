"""Pictures: the learning curve of a run, the structure of a model, basic and unfolded, charts and heat maps.

`drawing_of` reads a description from torch modules, `draw` draws it; matplotlib is imported when something is drawn.
"""

from elman.plots.chart import line_chart
from elman.plots.curve import learning_curve
from elman.plots.drawing import Block, ModelDrawing, Signal, Stack, State, Weight
from elman.plots.glance import draw_shapes
from elman.plots.heat import heat_map
from elman.plots.model import draw, draw_model, drawing_of

__all__ = [
    "Block",
    "ModelDrawing",
    "Signal",
    "Stack",
    "State",
    "Weight",
    "draw",
    "draw_model",
    "draw_shapes",
    "drawing_of",
    "heat_map",
    "learning_curve",
    "line_chart",
]
