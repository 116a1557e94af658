"""Speech: recordings to text, while one speaks if wanted, or whole clips to classes.

sound -> log-mel features -> frames stacked -> recurrent layers -> CTC over the symbols, or pooling -> p(class)
"""

from elman.tasks.speech.task import SpeechTask, TrainedSpeech

__all__ = ["TASK", "SpeechTask", "TrainedSpeech"]

TASK = SpeechTask
