"""Pictures of every kind against what they were made from; the store of features against making them anew."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from elman.config import UserError
from elman.data.feature_store import digests, keep
from elman.data.pictures import (
    Fitting,
    PictureError,
    fitted,
    load_pictures,
    pictures_in,
    png,
    read_picture,
    thumbnails,
)


def drawn(height: int = 12, width: int = 20) -> np.ndarray[Any, Any]:
    """A picture that looks different in any of its four turns."""
    found = np.full((height, width, 3), 200, dtype=np.uint8)
    found[: height // 2, : width // 2] = (250, 10, 20)
    found[height // 2 :, : width // 4] = (10, 30, 240)
    return found


def assert_near(a: Any, b: Any, most: float = 12) -> None:
    assert a.shape == b.shape
    assert float(np.abs(a.astype(float) - b.astype(float)).mean()) < most


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "gif", "jpg", "ppm", "jp2"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(drawn()).save(path)
    found = read_picture(path)
    assert found.dtype == np.uint8
    assert_near(found, drawn(), most=20 if suffix in {"jpg", "webp", "jp2"} else 1)


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_turns(tmp_path: Path, turn: int) -> None:
    upright = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda a: np.rot90(a, 1),
    }[turn](drawn())
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(drawn()).save(tmp_path / "a.jpg", exif=exif, quality=98)
    assert_near(read_picture(tmp_path / "a.jpg"), upright)


def test_transparent_places_are_white(tmp_path: Path) -> None:
    rgba = np.dstack([drawn(), np.full((12, 20), 255, dtype=np.uint8)])
    rgba[:6, :, 3], rgba[6:8, :, 3] = 0, 128
    Image.fromarray(rgba).save(tmp_path / "a.png")
    found = read_picture(tmp_path / "a.png")
    assert (found[:6] == 255).all()
    np.testing.assert_allclose(found[6:8], (drawn()[6:8].astype(float) + 255) / 2, atol=1.5)
    assert (found[8:] == drawn()[8:]).all()


def test_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("P", (4, 2), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    found = read_picture(tmp_path / "a.png")
    assert found[0, 1].tolist() == [0, 0, 255]
    assert found[0, 0].tolist() == [255, 255, 255]


def test_gray_with_alpha_and_one_bit(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([drawn()[..., 0], drawn()[..., 1] * 0])).convert("LA").save(tmp_path / "a.png")
    assert (read_picture(tmp_path / "a.png") == 255).all()
    Image.fromarray(drawn()[..., 0] > 220).save(tmp_path / "b.png")
    assert set(np.unique(read_picture(tmp_path / "b.png"))) == {0, 255}


def test_sixteen_bits_and_floating_point(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 60).reshape(3, 20)
    right = np.repeat(np.round(ramp / 257)[..., None], 3, axis=2)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "a.png")
    assert np.abs(read_picture(tmp_path / "a.png") - right).max() <= 1
    Image.fromarray((ramp / 65535).astype(np.float32)).save(tmp_path / "a.tif")
    assert np.abs(read_picture(tmp_path / "a.tif") - right).max() <= 1
    Image.fromarray((ramp * 1000).astype(np.int32)).save(tmp_path / "b.tif")
    assert np.abs(read_picture(tmp_path / "b.tif") - right).max() <= 1


def test_cmyk(tmp_path: Path) -> None:
    for suffix in ("jpg", "tif"):
        Image.fromarray(drawn()).convert("CMYK").save(tmp_path / f"a.{suffix}")
        assert_near(read_picture(tmp_path / f"a.{suffix}"), drawn(), most=20)


def test_an_animation_is_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4, 3), value, dtype=np.uint8)) for value in (10, 200)]
    for suffix in ("gif", "webp", "png"):
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert_near(read_picture(path), np.full((4, 4, 3), 10), most=4)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(255, size=(40, 40, 3), dtype=np.uint8)).save(
        whole, "JPEG"
    )
    cases = {
        "a.jpg": (whole.getvalue()[:900], "truncated picture"),
        "b.png": (b"no picture at all", "file that cannot be read as a picture"),
        "c.png": (b"", "empty file"),
        "d.heic": (b"\0\0\0\x18ftypheic", "heic, which cannot be read: convert it to png or jpg"),
    }
    for name, (content, said) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PictureError, match=said):
            read_picture(tmp_path / name)
    with pytest.raises(PictureError, match="no such picture"):
        read_picture(tmp_path / "nothing.png")
    cut = png(np.random.default_rng(0).integers(255, size=(40, 40, 3), dtype=np.uint8))[:800]
    (tmp_path / "e.png").write_bytes(cut)
    with pytest.raises(PictureError, match=r"truncated|damaged"):
        read_picture(tmp_path / "e.png")


def test_too_many_pixels_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(drawn()).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PictureError, match="picture of more than 200 pixels"):
        read_picture(tmp_path / "a.png")


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.sampled_from(["pad", "crop", "stretch"]))
def test_fitting_gives_the_size_and_keeps_a_flat_colour(height: int, width: int, fit: Any) -> None:
    found = fitted(np.full((height, width, 3), 77, dtype=np.uint8), Fitting(16, 24, fit))
    assert found.shape == (16, 24, 3)
    inside = {255, 77} if fit == "pad" else {77}
    assert set(np.unique(found)) <= inside
    assert 77 in found
    if fit == "pad":
        tall, wide = ((found == 77).all(2).any(axis).sum() for axis in (1, 0))
        assert tall == 16 or wide == 24


def test_a_crop_is_the_middle() -> None:
    picture = np.zeros((10, 30, 3), dtype=np.uint8)
    picture[:, 10:20] = 255
    assert (fitted(picture, Fitting(10, 10, "crop")) == 255).all()


def test_thumbnails_are_means() -> None:
    picture = np.random.default_rng(0).integers(255, size=(1, 32, 48, 3), dtype=np.uint8)
    found = thumbnails(picture)[0].reshape(16, 16, 3)
    right = picture[0].reshape(16, 2, 16, 3, 3).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(found, right, atol=1e-6)
    assert thumbnails(np.full((1, 5, 7, 3), 51, dtype=np.uint8)).max() <= 0.2 + 1e-6


def test_pictures_come_from_the_cache_as_they_were_made(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        Image.fromarray(drawn() + (name == "b.png")).save(tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"broken")
    paths = pictures_in(tmp_path)
    assert [path.name for path in paths] == ["a.png", "b.png", "c.png"]
    marks = digests([*paths, tmp_path / "d.png"])
    assert len(set(marks)) == 4
    assert marks[-1] == ""
    fitting, cache = Fitting(8, 8), tmp_path / ".cache"
    fresh = load_pictures(paths, marks[:3], fitting)
    first = load_pictures(paths, marks[:3], fitting, cache=cache)
    (tmp_path / "a.png").unlink()
    again = load_pictures(paths, marks[:3], fitting, cache=cache)
    for one in (fresh, first, again):
        assert one.faults == {2: "file that cannot be read as a picture"}
        assert one.lengths.tolist() == [1, 1, 0]
        assert (one.of(0)[0] == fitted(drawn(), fitting)).all()
        assert (one.of(1)[0] == fitted(drawn() + 1, fitting)).all()
    other = load_pictures(paths, marks[:3], Fitting(8, 8, "crop"), cache=cache)
    assert other.faults[0] == "no such picture"


def test_a_cut_off_cache_is_made_anew(tmp_path: Path) -> None:
    made = []

    def make() -> Iterator[tuple[Any, str]]:
        made.append(1)
        yield np.arange(6).reshape(2, 3), ""
        yield np.zeros((0, 3)), "a fault"

    def get() -> Any:
        return keep(make, ["x", 1], (3,), np.float32, tmp_path / "cache")

    assert get().rows.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert get().faults == {1: "a fault"}
    assert len(made) == 1
    (file,) = (tmp_path / "cache").glob("*.rows")
    file.write_bytes(file.read_bytes()[:-1])
    assert get().rows.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert len(made) == 2


def test_without_a_cache_that_can_be_written_all_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    def make() -> Iterator[tuple[Any, str]]:
        yield np.ones((1, 2)), ""

    assert keep(make, "x", (2,), np.uint8, tmp_path / "file").rows.tolist() == [[1, 1]]


def test_a_failure_leaves_nothing_half_made(tmp_path: Path) -> None:
    def make() -> Iterator[tuple[Any, str]]:
        yield np.ones((1, 2)), ""
        raise UserError("no")

    with pytest.raises(UserError):
        keep(make, "x", (2,), np.uint8, tmp_path)
    assert not [*tmp_path.iterdir()]
