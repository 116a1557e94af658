"""Pooling, networks and encoders over the steps so far: what the whole gives of each beginning."""

import pytest
import torch

from elman.nn import Features, FrameEncoder, Pooling, RunningPooling, SequenceClassifier, recurrent_stack


@pytest.mark.parametrize("kinds", ["last", "mean", "max", "attention", "max+mean", "attention+last+mean+max"])
def test_pooling_of_what_has_come_is_that_of_each_beginning(kinds: str) -> None:
    torch.manual_seed(0)
    pooling, y = Pooling(5, kinds), 3 * torch.randn(9, 2, 5)
    running = RunningPooling(pooling)
    for t in range(9):
        torch.testing.assert_close(running(y[t]), pooling(y[: t + 1]), rtol=1e-5, atol=1e-6)


def test_what_runs_backward_needs_the_whole() -> None:
    with pytest.raises(ValueError, match="run backward"):
        RunningPooling(Pooling(4, "last", ends="halves"))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_prefixes_are_the_beginnings_by_themselves(bidirectional: bool) -> None:
    torch.manual_seed(1)
    stack = recurrent_stack("gru", 3, 4, options={"bidirectional": bidirectional})
    network = SequenceClassifier(Features(3), stack, 2, pooling="max+mean").eval()
    x = torch.randn(6, 1, 3)
    alone = torch.cat([network(x[: t + 1]) for t in range(6)])
    torch.testing.assert_close(network.prefixes(x), alone, rtol=1e-5, atol=1e-6)


def test_an_encoded_frame_is_the_same_in_any_company_and_padding_is_not_looked_at() -> None:
    torch.manual_seed(2)
    encoder = FrameEncoder(9, 4, channels=(3, 5)).eval()
    x = torch.randint(256, (4, 2, 243), dtype=torch.uint8)
    whole = encoder(x)
    lengths = torch.tensor([4, 2])
    found = encoder(x, lengths)
    torch.testing.assert_close(found[:2], whole[:2])
    assert not found[2:, 1].any()
    torch.testing.assert_close(encoder(x[1:2, :1]), whole[1:2, :1])
    # A picture lies in a row as rows, columns, colours.
    picture = x[0, 0].reshape(9, 9, 3).permute(2, 0, 1)
    slow = encoder.dense(encoder.pictures(picture[None].float() / 255).flatten(1)).relu()
    torch.testing.assert_close(whole[0, :1], slow)
    with pytest.raises(ValueError, match="expected 3 x 9 x 9"):
        encoder(x[..., :10])


def test_in_training_padding_has_no_part_in_the_norms() -> None:
    torch.manual_seed(3)
    encoder = FrameEncoder(8, 4, channels=(3,)).train()
    x = torch.randint(256, (4, 2, 192), dtype=torch.uint8)
    lengths = torch.tensor([4, 2])
    first = encoder(x, lengths)
    x[2:, 1] = 255
    torch.testing.assert_close(encoder(x, lengths), first)


def test_pictures_that_lie_behind_each_other_in_a_row_are_planes_of_one() -> None:
    torch.manual_seed(3)
    encoder = FrameEncoder(8, 4, channels=(3, 5), pictures=3).eval()
    x = torch.randint(256, (2, 3, 3 * 3 * 64), dtype=torch.uint8)
    grids = [x[1, 2].reshape(3, 8, 8, 3)[i].permute(2, 0, 1).float() / 255 for i in range(3)]
    slow = encoder.dense(encoder.pictures(torch.cat(grids)[None]).flatten(1)).relu()
    torch.testing.assert_close(encoder(x)[1, 2:], slow)
    other = x.clone()
    other[1, 2, -1] += 128
    assert not torch.equal(encoder(other)[1, 2], encoder(x)[1, 2])
    with pytest.raises(ValueError, match="expected 3 x 3 x 8 x 8"):
        encoder(x[..., :192])
