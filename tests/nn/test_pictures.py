"""The convolutional encoder against its equations, written out with torch's functions."""

import pytest
import torch
import torch.nn.functional as F

from elman.nn import PictureEncoder


def by_hand(encoder: PictureEncoder, x: torch.Tensor) -> torch.Tensor:
    """In use: the norms take what they have kept."""
    x = (x - 0.5) / 0.25
    for stage in encoder.stages:
        layers = [(stage.enter, stage.norm), *((layer[0], layer[1]) for layer in stage.rest)]
        for number, (conv, norm) in enumerate(layers):
            y = F.conv2d(x, conv.weight, stride=1 if number else 2, padding=1)
            shape = (1, -1, 1, 1)
            y = (y - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
            y = y * norm.weight.view(shape) + norm.bias.view(shape)
            x = F.relu(y + x if number else y)
    return x


@pytest.mark.parametrize("size", [(16, 16), (9, 21)])
def test_values_and_gradients(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    encoder = PictureEncoder((4, 6), depth=3).double()
    for buffer in encoder.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    encoder.eval()
    x = torch.rand(3, 3, *size, dtype=torch.float64)
    found, right = encoder(x), by_hand(encoder, x)
    assert found.shape == (3, 6, -(-size[0] // 4), -(-size[1] // 4))
    torch.testing.assert_close(found, right)
    weight = torch.rand_like(right)
    parameters = list(encoder.parameters())
    ours, theirs = (torch.autograd.grad((y * weight).sum(), parameters) for y in (found, right))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(encoder.vectors(x), right.mean((2, 3)))


def test_bytes_are_numbers_from_zero_to_one() -> None:
    encoder = PictureEncoder((4,), depth=1).eval()
    x = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(encoder(x), encoder(x / 255))


def test_a_picture_gives_the_same_in_any_company_in_use() -> None:
    encoder = PictureEncoder((4, 6)).eval()
    x = torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(encoder(x)[1:2], encoder(x[1:2]))


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\)"):
        PictureEncoder((4,))(torch.rand(2, 1, 8, 8))
    with pytest.raises(ValueError, match="channels is empty"):
        PictureEncoder(())


def test_dropout_takes_whole_maps() -> None:
    torch.manual_seed(1)
    y = PictureEncoder((32,), depth=1, dropout=0.5)(torch.rand(2, 3, 16, 16))
    gone = (y == 0).flatten(2).all(-1)
    assert 10 < int(gone.sum()) < 54
