"""Translation: from sentences with their translations to a translator; any sequence to any other.

source -> encoder, both ways -> memory -> decoder that looks at it at each step -> p(next token) -> beam search
"""

from elman.tasks.translation.task import TrainedTranslator, TranslationTask

__all__ = ["TASK", "TrainedTranslator", "TranslationTask"]

TASK = TranslationTask
