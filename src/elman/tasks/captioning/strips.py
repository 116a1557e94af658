"""`elman predict --attention FOLDER`: a PNG for each picture that is described, with where each word looks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from elman.config import UserError
from elman.data.pictures import PictureError, Pixels, png, read_picture
from elman.tasks.base import Answer
from elman.tasks.captioning import learning
from elman.tasks.captioning.answers import Caption
from elman.tasks.captioning.looking import strip_of
from elman.tasks.captioning.sections import sharper, steps_in_words

if TYPE_CHECKING:
    from elman.tasks.captioning.task import TrainedCaptioner

__all__ = ["Strips"]


class Strips:
    """Writes the pictures of a call, each under the name of its input; two of one name get numbers."""

    def __init__(self, trained: TrainedCaptioner, folder: Path) -> None:
        """Raises UserError where the folder cannot be made."""
        self.trained, self.folder = trained, folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--attention {folder}: {error.strerror}; name a folder") from None

    @classmethod
    def of(cls, trained: TrainedCaptioner, folder: str) -> Strips | None:
        """None where none are wanted."""
        return cls(trained, Path(folder)) if folder else None

    def beside(self, answer: Answer, value: Any, pixels: Pixels, caption: Caption) -> Answer:
        """The answer, with the path of its picture in the object."""
        weights = learning.looks(self.trained.model, pixels[None], [caption.tokens])[0]
        shown = pixels
        if isinstance(value, str | Path):
            try:
                shown = sharper(
                    read_picture(Path(str(value).strip())), pixels, self.trained.config.picture.fit
                )
            except PictureError:
                shown = pixels
        strip = strip_of(shown, list(weights), steps_in_words(self.trained, caption))
        stem = Path(str(value).strip()).stem if isinstance(value, str | Path) else "picture"
        path = self._free(stem)
        path.write_bytes(png(strip))
        return answer._replace(data={**answer.data, "attention": str(path)})

    def _free(self, stem: str) -> Path:
        path, number = self.folder / f"{stem}.png", 1
        while path.exists():
            number += 1
            path = self.folder / f"{stem}-{number}.png"
        return path
