"""Tagging: a tag for each word of a sentence, or the spans that tags mark: parts of speech, names, chunks.

words -> a vector of each, from a table and from its letters -> recurrent layers, both ways -> tags, alone or as a chain
"""

from elman.tasks.tagging.task import TaggingTask, TrainedTagger

__all__ = ["TASK", "TaggingTask", "TrainedTagger"]

TASK = TaggingTask
