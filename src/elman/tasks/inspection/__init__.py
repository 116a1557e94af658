"""Looking inside a trained network: what `elman inspect RUN` and the report of every run show.

A task says by an `Inside` how its network reads; all else is the same for every task.
"""

from elman.tasks.inspection.looking import SHORT, Look, Wanted, look
from elman.tasks.inspection.reading import Inside, Reading
from elman.tasks.inspection.shown import sections_of
from elman.tasks.inspection.verb import Inspect, inspect

__all__ = ["SHORT", "Inside", "Inspect", "Look", "Reading", "Wanted", "inspect", "look", "sections_of"]
