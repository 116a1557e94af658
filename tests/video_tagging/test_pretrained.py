"""A tagger of clips whose pictures are read by the pretrained encoder, with drawn weights in place of ImageNet's."""

from pathlib import Path

import pytest
import torch

import elman as package
from command import elman
from elman.nn import LiteEncoder
from elman.tasks.video_tagging import footage, learning
from tests.video_tagging.made import write_films, write_frames

SMALL = ("--size", "16", "--hidden", "6", "--encoded", "6", "--epochs", "1", "--threads", "1", "--quiet")
OWN = ("--encoder", "pretrained", "--encoder-groups", "2", "--frozen")


def test_it_trains_and_answers_and_its_encoder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(footage, "require_weights", lambda: None)
    torch.manual_seed(4)
    weights = LiteEncoder(2).state_dict()

    def made(groups: int) -> LiteEncoder:
        encoder = LiteEncoder(groups)
        if not encoder.stem.conv.weight.is_meta:
            encoder.load_state_dict(weights)
        return encoder

    monkeypatch.setattr(learning, "pretrained_encoder", made)
    write_films(tmp_path / "clips", 20)
    done = elman("train", "video-tagging", "--data", "clips", "--run", "run", *SMALL, *OWN)
    assert done.code == 0, done.err
    found = package.load("run")
    own = {name: tensor for name, tensor in found.model.state_dict().items() if ".pictures." in name}
    assert len(own) == len(weights)
    for name, tensor in own.items():
        torch.testing.assert_close(tensor, weights[name.split(".pictures.")[1]], rtol=0, atol=0)
    assert found.predict(str(next((tmp_path / "clips").rglob("*.mp4"))))


def test_it_is_refused_for_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "frames.csv", 10)
    done = elman("train", "video-tagging", "--data", "frames.csv", "--encoder", "pretrained", *SMALL[2:])
    assert done.code == 2 and "--encoder pretrained reads pictures" in done.err
