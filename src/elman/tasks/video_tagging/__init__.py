"""Video tagging: clips to one class or to tags, whole or at every step, also while they come.

pictures -> convolutional encoder, or features and skeletons as they are -> recurrent layers -> pooling, or every step
"""

from elman.tasks.video_tagging.task import TrainedVideoTagger, VideoTaggingTask

__all__ = ["TASK", "TrainedVideoTagger", "VideoTaggingTask"]

TASK = VideoTaggingTask
