"""Classification of texts: the sentiment, the emotion, the topic of a text; one label, or several.

text -> words -> embedding -> recurrent layers, both ways -> pooling -> p(label)

The command's words `sentiment`, `emotion` and `classification` are one task with defaults of their own.
"""

from elman.tasks.classification.task import ClassificationTask, TrainedClassifier

__all__ = ["TASK", "ClassificationTask", "TrainedClassifier"]

TASK = ClassificationTask
