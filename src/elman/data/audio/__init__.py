"""Recordings: sound of any format as numbers, its log-mel features, and the transcripts that come beside it."""

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
