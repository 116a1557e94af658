"""The captioner: trained, measured, asked about files, folders and names; damaged pictures named."""

import io
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import elman as package
from command import elman
from elman.config import UserError
from elman.decoding import expected_likeness, score_targets
from elman.nn import LiteEncoder
from elman.tasks.captioning import captions, learning, measures, seen
from elman.tasks.captioning.captions import _near
from elman.tasks.captioning.changing import Changes, changed, drawn_changes
from elman.tasks.captioning.learning import Search
from elman.tasks.captioning.looking import looked_at, strip_of
from elman.tasks.captioning.settings import AugmentSettings, Config, ModelSettings, PictureSettings
from tests.captioning.shapes import drawn, write


@pytest.fixture(scope="module")
def trained(folder: Path) -> Any:
    return package.load(folder / "run")


def test_it_learns_what_there_is_to_see_and_beats_the_baselines(trained: Any) -> None:
    score = trained.evaluate()
    assert (score.name, score.higher) == ("CIDEr-D", True)
    beside = {known.name: known.score.value for known in trained.baselines() if known.part == "test"}
    assert set(beside) == {"commonest caption", "nearest training picture"}
    assert score.value > max(beside.values())
    assert score.figures["exact"] > 0.4 and score.figures["BLEU_4"] > 50
    assert score.interval[0] <= score.value <= score.interval[1]


def test_without_its_own_picture_it_knows_little(trained: Any) -> None:
    assert trained.evaluate(shuffled=True).value < 0.5 * trained.evaluate().value


def test_the_score_is_that_of_what_predict_says(trained: Any) -> None:
    part = trained.prepared.part("test")
    said = [answer["caption"] for answer in trained.predict([str(one.path) for one in part.pictures])]
    values = measures.cider_d([measures.words_of(one) for one in said], part.references)
    assert trained.evaluate().value == pytest.approx(float(values.mean()))


def test_a_beam_is_ordered_and_its_scores_are_those_of_the_model(trained: Any) -> None:
    pixels = trained.prepared.part("test").pixels[:3]
    for picture, own in zip(pixels, trained.captions_of(pixels, beam=4, n_best=3), strict=True):
        assert [one.score for one in own] == sorted((one.score for one in own), reverse=True)
        state = trained.model.encode(torch.from_numpy(picture.transpose(2, 0, 1)[None] / np.float32(255)))
        first = torch.zeros(1, dtype=torch.long)
        log = score_targets(trained.model.step, first, state, [own[0].tokens], end=0)[0]
        assert log == pytest.approx(own[0].log_probability, abs=1e-4)


def test_by_consensus_the_beam_is_ordered_by_what_it_has_in_common(trained: Any) -> None:
    pixels = trained.prepared.part("test").pixels[:6]
    beam = trained.captions_of(pixels, beam=6, n_best=6)
    found = trained.captions_of(pixels, beam=6, n_best=6, consensus=2.0)
    best = trained.captions_of(pixels, beam=6, consensus=2.0)
    cold = trained.captions_of(pixels, beam=6, consensus=0.01)
    for plain, own, (first,), (likeliest,) in zip(beam, found, best, cold, strict=True):
        assert {one.tokens for one in own} == {one.tokens for one in plain}
        words = [measures.words_of(one.text) for one in own]
        expected = expected_likeness(words, [one.log_probability for one in own], 2.0)
        assert [one.score for one in own] == pytest.approx(expected)
        assert [one.score for one in own] == sorted((one.score for one in own), reverse=True)
        assert first == own[0]
        assert likeliest.log_probability == max(one.log_probability for one in plain)
    done = trained.evaluate(beam=6, consensus=2.0)
    assert done.figures["consensus"] == 2.0 and done.figures["exact"] > 0.4


def test_where_it_looks_sums_to_one(trained: Any) -> None:
    pixels = trained.prepared.part("test").pixels[:5]
    found = trained.captions_of(pixels)
    weights = learning.looks(trained.model, pixels, [own[0].tokens for own in found])
    for own, one in zip(found, weights, strict=True):
        assert one.shape == (len(own[0].tokens) + 1, 6, 6)
        np.testing.assert_allclose(one.sum((1, 2)), 1, atol=1e-5)


def test_files_folders_and_names_on_standard_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    Path("pictures/z.jpg").write_bytes(b"broken")
    one = elman("predict", "run", "pictures/1.png")
    assert one.code == 0 and one.out.count("\n") == 1
    whole = elman("predict", "run", "pictures", "--json")
    rows = [json.loads(line) for line in whole.out.splitlines()]
    assert len(rows) == 201
    assert rows[-1] == {"place": "pictures/z.jpg", "error": "file that cannot be read as a picture"}
    assert [row["place"] for row in rows] == sorted(row["place"] for row in rows)
    lines = "pictures/1.png\n\nnothing.png\npictures/2.png"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    said = elman("predict", "run", "-", "--scores")
    found = said.out.split("\n")
    assert len(found) == 5 and found[1] == found[2] == ""
    assert found[0].endswith(f"\t{one.out.strip()}") and float(found[0].split("\t")[0]) < 0
    assert "no such picture" in said.err
    Path("pictures/z.jpg").unlink()


def test_pictures_of_where_each_word_looks(folder: Path, here: Path) -> None:
    done = elman("predict", folder / "run", folder / "pictures/1.png", "--attention", "looks", "--json")
    answer = json.loads(done.out)
    with Image.open(answer["attention"]) as image:
        words = len(answer["caption"].rstrip(".").split())
        assert image.width > 128 * (words + 1)


def test_pixels_are_inputs_too(trained: Any) -> None:
    picture = drawn("red", "square", random.Random(1))
    assert "red" in trained.predict(picture)["caption"]
    assert trained.predict(picture[..., 0])["error"] == "pixels that are not (H, W, 3) of uint8"


def test_other_data_are_measured_and_accounted_for(trained: Any, here: Path) -> None:
    write(here, 12, seed=5)
    with Path("captions.csv").open("a", encoding="utf-8") as file:
        file.write("pictures/none.png,a red square\npictures/1.png,\n")
    with pytest.raises(UserError, match="no such picture"):
        trained.evaluate(here)
    score = trained.evaluate(here, on_bad="skip")
    assert score.figures["pictures"] == 12 and score.value > 2
    assert trained.account.bad == 2


def test_a_picture_is_never_on_both_sides(here: Path) -> None:
    write(here, 40)
    for number in range(10):
        Path(f"pictures/{number + 50}.png").write_bytes(Path(f"pictures/{number}.png").read_bytes())
        with Path("captions.csv").open("a", encoding="utf-8") as file:
            file.write(f"pictures/{number + 50}.png,the same picture again\n")
    found = prepared(here)
    marks = {name: set(part.marks) for name, part in found.parts.items()}
    assert not marks["train"] & marks["test"] and not marks["train"] & marks["valid"]
    assert sum(len(part.pictures) for part in found.parts.values()) == 50
    assert all(
        len(own) == len(one.captions)
        for own, one in zip(found.parts["train"].tokens, found.parts["train"].pictures, strict=True)
    )


def prepared(data: Path, **settings: Any) -> Any:
    from elman.tasks.base import configure, find

    task = find("captioning")
    values = {f"data.{name}": value for name, value in settings.items()}
    own = {"data.train": [str(data)], "picture.size": 24, "picture.cache": str(data / ".cache")}
    return task.prepare(configure(task, {**own, **values}), None)


def test_groups_are_not_parted(here: Path) -> None:
    rows = write(here, 40, references=1)
    table = [f"{name},{caption},{int(name.split('/')[1][:-4]) // 4}" for name, caption in rows]
    Path("captions.csv").write_text("\n".join(["image,caption,scene", *table, ""]))
    found = prepared(here, group="scene")
    scenes = {name: {one.fields["scene"] for one in part.pictures} for name, part in found.parts.items()}
    assert not scenes["train"] & scenes["test"] and len(scenes["test"]) == 1
    with pytest.raises(UserError, match="no such column"):
        prepared(here, group="scenes")


def test_what_is_nearly_the_same_on_both_sides_is_said(here: Path) -> None:
    write(here, 30, references=1)
    other = here / "other"
    write(other, 6, seed=9, references=1)
    picture = Image.open("pictures/3.png").convert("RGB")
    picture.save(other / "pictures/0.png", format="JPEG", quality=95, subsampling=0)
    found = prepared(here / "captions.csv", test=[str(other)])
    (line,) = [line for line in found.lines() if "nearly like" in line]
    assert line.startswith("test has a picture that looks nearly like one of the training data: ")
    assert "other/pictures/0.png" in line
    assert _near(found.parts["train"].pixels, found.parts["train"].pixels[:0]) == []


def test_broken_pictures_are_named_with_all_their_captions(here: Path) -> None:
    write(here, 30)
    Path("pictures/3.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"2 file that cannot be read as a picture \(.*3.png\)"):
        prepared(here)
    found = prepared(here, on_bad="skip")
    assert found.accounts["train"].read == 60 and found.accounts["train"].used == 58


def test_long_captions_are_set_aside_in_training_alone(here: Path) -> None:
    write(here, 30)
    found = prepared(here, longest=4)
    assert all(len(ids) <= 4 for own in found.parts["train"].tokens for ids in own)
    assert max(len(ids) for own in found.parts["test"].tokens for ids in own) == 5
    assert any("longer than 4 tokens" in line for line in found.lines())


# What is done to pictures


def test_no_change_changes_nothing() -> None:
    how = AugmentSettings(shift=0, zoom=0, turn=0, light=0)
    changes = drawn_changes(3, how, np.random.default_rng(0))
    pictures = torch.randint(256, (3, 3, 10, 10), dtype=torch.uint8)
    torch.testing.assert_close(changed(pictures, changes), pictures / 255)


def test_a_shift_and_a_mirror_by_hand() -> None:
    pictures = torch.randint(256, (1, 3, 8, 8), dtype=torch.uint8)
    one, zero = np.ones((1, 3), np.float32), np.zeros((1, 3), np.float32)
    # A place of the new picture comes from two pixels further right in the old one: 2 * 2 / 8 of its half.
    moved = changed(pictures, Changes(np.array([[[1, 0, 0.5], [0, 1, 0]]], np.float32), one, zero))
    torch.testing.assert_close(moved[..., :6], pictures[..., 2:] / 255)
    mirrored = changed(pictures, Changes(np.array([[[-1, 0, 0], [0, 1, 0]]], np.float32), one, zero))
    torch.testing.assert_close(mirrored, pictures.flip(-1) / 255)


def test_changes_stay_within_their_limits() -> None:
    how = AugmentSettings(shift=0.1, zoom=0.2, turn=10, light=0.3, flip=True)
    where, gain, lift = drawn_changes(500, how, np.random.default_rng(0))
    assert np.abs(where[:, :, 2]).max() <= 0.2
    sizes = np.linalg.norm(where[:, :, :2], axis=2)
    assert 1 / 1.2**1.5 <= sizes.min() < 0.9 and 1.1 < sizes.max() <= 1.2**1.5
    assert {True, False} == set((where[:, 0, 0] < 0).tolist())
    assert np.abs(lift).max() <= 0.15 and gain.max() <= 1.3**1.5 and gain.min() >= 1.3**-1.5


# The loss, the settings, the code of others


def test_the_loss_is_cross_entropy_and_the_doubly_stochastic_penalty(trained: Any) -> None:
    config: Config = trained.config
    training = learning.Training(config, trained.prepared.part("train"))
    batch = training(1, 0)
    model = trained.model.eval()
    found = learning.loss_of(model, batch, config)
    x, target = changed(torch.from_numpy(batch.pictures), batch.changes), torch.from_numpy(batch.target)
    logits = model(x, target)
    weights = model.align(x, target)
    taken = torch.arange(len(target)).unsqueeze(1) < torch.from_numpy(batch.lengths)
    losses = torch.nn.functional.cross_entropy(
        logits[taken], torch.from_numpy(batch.truth)[taken], label_smoothing=config.data.smoothing
    )
    looked = (weights * taken.unsqueeze(-1)).sum(0)
    penalty = (1 - looked).square().sum(1).mean()
    torch.testing.assert_close(found.objective, losses + 0.01 * penalty, rtol=1e-4, atol=1e-5)
    assert found.predictions == int(taken.sum())


MODULE = """
import torch
class Patches(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 10, 8, stride=8)
    def forward(self, x):
        return self.conv(x)
class Vectors(Patches):
    def forward(self, x):
        return self.conv(x).mean((2, 3))
class Wrong(Patches):
    def forward(self, x):
        return x.sum()
"""
SMALL = ("--size", "24", "--hidden", "8", "--epochs", "1", "--threads", "1", "--quiet", "--max-steps", "3")


def test_an_encoder_of_the_users_own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here, 40)
    Path("my_encoders.py").write_text(MODULE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    given = ("train", "captioning", "--data", "captions.csv", *SMALL)
    done = elman(*given, "--encoder", "my_encoders:Patches", "--frozen", "--run", "a")
    assert done.code == 0, done.err
    assert "allow-code" in elman("predict", "a", "pictures/1.png").err
    trained = package.load("a", trust=True)
    assert trained.model.encoder.positions.shape == (9, 10)
    assert not any(p.requires_grad for p in trained.model.encoder.encoder.parameters())
    wrong = elman(*given, "--encoder", "my_encoders:Wrong", "--run", "c")
    assert wrong.code == 2 and "--encoder my_encoders:Wrong does not fit" in wrong.err
    assert elman(*given, "--encoder", "my_encoders:None", "--run", "d").code == 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--encoder", "resnet"], "--encoder"),
        (["--frozen"], "has to be trained"),
        (["--size", "4"], "halve it so often"),
        (["--doubly", "1", "--attention", "coverage"], "does not see where it looked"),
        (["--valid-share", "0.6", "--test-share", "0.5"], "leave nothing to train on"),
    ],
)
def test_settings_that_do_not_fit_are_refused(here: Path, flags: list[str], said: str) -> None:
    done = elman("train", "captioning", "--data", "nothing", *flags)
    assert done.code == 2 and said in done.err


# Pictures of looking


def test_what_is_looked_at_is_bright() -> None:
    weights = np.zeros((4, 4), np.float32)
    weights[0, 0] = 1
    found = looked_at(np.full((20, 20, 3), 200, np.uint8), weights, side=40)
    assert found[2, 2].min() > 150 and found[30, 30].max() < 60
    strip = strip_of(np.full((20, 20, 3), 200, np.uint8), [weights] * 9, ["word"] * 9)
    assert strip.shape[0] > 2 * 128 and strip.shape[2] == 3


def test_a_search_always_answers(trained: Any) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(4, 24, 24, 3), dtype=np.uint8)
    for beam in (1, 3):
        found = learning.describe(trained.model, pixels, Search(beam=beam), 2)
        assert all(len(own) == 1 and len(own[0].tokens) <= 2 for own in found)


# What a frozen pretrained encoder sees, computed once

PRETRAINED = ("--encoder", "pretrained", "--encoder-groups", "3", "--frozen", "--views", "2", "--grid", "6")


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some weights in place of the package's, and the package taken for installed."""
    from elman.tasks import network

    torch.manual_seed(3)
    own = LiteEncoder(3)

    def made(groups: int) -> LiteEncoder:
        encoder = LiteEncoder(groups)
        if not encoder.stem.conv.weight.is_meta:
            encoder.load_state_dict(own.state_dict())
        return encoder

    monkeypatch.setattr(network, "require_weights", lambda: None)
    for module in (captions, learning):
        monkeypatch.setattr(module, "require_weights", lambda: None)
    monkeypatch.setattr(learning, "pretrained_encoder", made)


def test_a_frozen_pretrained_encoder_looks_at_each_picture_once(here: Path, weights: None) -> None:
    write(here, 40)
    given = ("train", "captioning", "--data", "captions.csv", *SMALL, "--cache", "cache", *PRETRAINED)
    done = elman(*given, "--run", "a")
    assert done.code == 0, done.err
    found = package.load("a")
    part = found.prepared.part("valid")
    plain = seen.Seen(found.config, found.model.encoder).plain(part.pixels, part.marks)
    files = {path: path.stat().st_mtime_ns for path in Path("cache").rglob("*.rows")}
    right = found.model.encoder.seen(torch.from_numpy(part.pixels.transpose(0, 3, 1, 2) / np.float32(255)))
    torch.testing.assert_close(torch.from_numpy(plain).float(), right, rtol=2e-3, atol=2e-3)
    by_grid = learning.describe(found.model, plain, Search(), 9)
    by_picture = learning.describe(found.model, part.pixels, Search(), 9)
    assert [own[0].tokens for own in by_grid] == [own[0].tokens for own in by_picture]
    # Another training, another seed: nothing is computed anew but versions that the first one never drew.
    assert elman(*given, "--run", "b", "--seed", "5").code == 0
    assert files.items() <= {path: path.stat().st_mtime_ns for path in Path("cache").rglob("*.rows")}.items()


def test_versions_are_the_changed_pictures_and_are_all_drawn(here: Path, weights: None) -> None:
    write(here, 12)
    config = Config(
        picture=PictureSettings(size=24, cache=str(here / "cache")),
        model=ModelSettings(encoder="pretrained", encoder_groups=3, frozen=True, views=2, hidden=8),
    )
    grid = learning.grid_of(config).eval()
    own = seen.Seen(config, grid)
    pixels = prepared(here).parts["train"].pixels[:1]
    drawn_ones = {
        own.drawn(pixels, ["mark"], np.random.default_rng(seed)).tobytes(): seed for seed in range(40)
    }
    assert len(drawn_ones) == 3
    assert own.plain(pixels, ["mark"]).tobytes() in drawn_ones
    again = seen.Seen(config, grid).drawn(pixels, ["mark"], np.random.default_rng(7))
    assert again.tobytes() in drawn_ones


def test_the_weights_are_asked_for_before_any_work(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here, 12)
    missing = pytest.MonkeyPatch()
    missing.setattr("elman.config.find_spec", lambda name: None if name.startswith("efficient") else True)
    try:
        done = elman("train", "captioning", "--data", "captions.csv", *SMALL, *PRETRAINED)
    finally:
        missing.undo()
    assert done.code == 2 and "pip install 'elman[pretrained]'" in done.err
    for flags in (["--views", "3"], ["--encoder", "pretrained", "--views", "3"], ["--encoder-groups", "5"]):
        done = elman("train", "captioning", "--data", "captions.csv", *flags)
        assert done.code == 2 and "has no effect" in done.err
