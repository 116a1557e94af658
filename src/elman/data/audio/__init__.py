"""Recordings: sound of any format as numbers, its log-mel features, and the transcripts that come beside it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.data.audio.mel import LogMel, LogMelStream, Mel
    from elman.data.audio.normalizing import RunningNormalizer, Statistics
    from elman.data.audio.sound import Resampler, SoundError, check_sound, read_sound
    from elman.data.audio.transcripts import Listing, Recording, read_recordings

__all__ = [
    "Listing",
    "LogMel",
    "LogMelStream",
    "Mel",
    "Recording",
    "Resampler",
    "RunningNormalizer",
    "SoundError",
    "Statistics",
    "check_sound",
    "read_recordings",
    "read_sound",
]

_HOMES = {
    "Listing": "transcripts",
    "LogMel": "mel",
    "LogMelStream": "mel",
    "Mel": "mel",
    "Recording": "transcripts",
    "Resampler": "sound",
    "RunningNormalizer": "normalizing",
    "SoundError": "sound",
    "Statistics": "normalizing",
    "check_sound": "sound",
    "read_recordings": "transcripts",
    "read_sound": "sound",
}


def __getattr__(name: str) -> Any:
    """Bring in a name when it is first used (PEP 562): features come without what opens files."""
    if name not in _HOMES:
        raise AttributeError(f"module 'elman.data.audio' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"elman.data.audio.{_HOMES[name]}"), name)
    return value
