"""Music: a model that learns from pieces and writes new ones, goes on from a primer, or harmonizes a melody.

files of notes or piano rolls -> the keys at each step -> recurrent layers -> p(keys of the next step)
"""

from elman.tasks.music.task import MusicTask, TrainedMusician

__all__ = ["TASK", "MusicTask", "TrainedMusician"]

TASK = MusicTask
