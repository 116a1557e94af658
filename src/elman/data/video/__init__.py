"""Videos, features and skeletons: which clips there are and what they show, their frames, and a cache of them."""

from elman.data.video.clips import Clip, Listing, Stretch, clips_in, is_video, read_clips, with_stretches
from elman.data.video.differences import pictures_with_differences, with_differences
from elman.data.video.numbers import ClipError, filled, read_features
from elman.data.video.raw import RawFormat, RawLayout
from elman.data.video.skeletons import Skeleton, Variation, centred, varied

__all__ = [
    "Clip",
    "ClipError",
    "Listing",
    "RawFormat",
    "RawLayout",
    "Skeleton",
    "Stretch",
    "Variation",
    "centred",
    "clips_in",
    "filled",
    "is_video",
    "pictures_with_differences",
    "read_clips",
    "read_features",
    "varied",
    "with_differences",
    "with_stretches",
]
