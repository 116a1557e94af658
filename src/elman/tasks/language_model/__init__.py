"""Language model and text generation: from the user's text to text of the model's own.

text -> tokens -> B streams -> embedding -> recurrent layers -> p(next token) -> cross entropy -> text again
"""

from elman.tasks.language_model.learning import build_model, mean_loss
from elman.tasks.language_model.settings import Config, ModelSettings
from elman.tasks.language_model.task import LanguageModelTask
from elman.tasks.language_model.writing import TrainedLanguageModel

__all__ = [
    "TASK",
    "Config",
    "LanguageModelTask",
    "ModelSettings",
    "TrainedLanguageModel",
    "build_model",
    "mean_loss",
]

TASK = LanguageModelTask
