"""Captioning: from pictures with sentences about them to a network that describes pictures.

picture -> convolutional encoder -> grid -> decoder that looks at it at each step -> p(next token) -> beam search
"""

from elman.tasks.captioning.task import CaptioningTask, TrainedCaptioner

__all__ = ["TASK", "CaptioningTask", "TrainedCaptioner"]

TASK = CaptioningTask
