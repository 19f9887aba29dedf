"""What detectron2 computes from its weights, in plain torch: the check of a conversion.

Written from detectron2's model definitions, with its names, so that a translated model
can be compared on a fixed image without detectron2. Covers the backbone (C4 or FPN),
the RPN's outputs, and the box head's outputs on given features.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

_EPS = 1e-5  # of FrozenBatchNorm2d


class Reference:
    """A detector made of functions and detectron2's weights.

    Args:
        weights: detectron2's names to tensors.
        stride_in_1x1: MSRA's ResNets (detectron2's default) halve the resolution in
            the first 1x1 convolution of a stage, torchvision's in the 3x3.
    """

    def __init__(self, weights: dict[str, Tensor], stride_in_1x1: bool = True) -> None:
        self.weights = {name: value.float() for name, value in weights.items()}
        self.stride_in_1x1 = stride_in_1x1
        self.fpn = "backbone.fpn_lateral2.weight" in self.weights
        self.body = "backbone.bottom_up" if self.fpn else "backbone"

    def _conv(self, x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")
        x = F.conv2d(x, weight, bias, stride, padding)
        if f"{name}.norm.weight" not in self.weights:
            return x
        scale, shift, mean, var = (
            self.weights[f"{name}.norm.{part}"].view(1, -1, 1, 1)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) * (scale / (var + _EPS).sqrt()) + shift

    def _stage(self, x: Tensor, name: str, stride: int) -> Tensor:
        block = 0
        while f"{name}.{block}.conv1.weight" in self.weights:
            at, step = f"{name}.{block}", stride if block == 0 else 1
            first, second = (step, 1) if self.stride_in_1x1 else (1, step)
            if f"{at}.conv3.weight" in self.weights:
                y = self._conv(x, f"{at}.conv1", first).relu()
                y = self._conv(y, f"{at}.conv2", second, padding=1).relu()
                y = self._conv(y, f"{at}.conv3")
            else:
                y = self._conv(x, f"{at}.conv1", step, padding=1).relu()
                y = self._conv(y, f"{at}.conv2", padding=1)
            if f"{at}.shortcut.weight" in self.weights:
                x = self._conv(x, f"{at}.shortcut", step)
            x = (x + y).relu()
            block += 1
        return x

    def maps(self, image: Tensor) -> list[Tensor]:
        """Feature maps of a normalised image, 1 x 3 x H x W: res4, or P2 to P6."""
        x = self._conv(image, f"{self.body}.stem.conv1", 2, padding=3).relu()
        x = F.max_pool2d(x, 3, 2, 1)
        stages = []
        for number in (2, 3, 4, 5) if self.fpn else (2, 3, 4):
            x = self._stage(x, f"{self.body}.res{number}", 1 if number == 2 else 2)
            stages.append(x)
        if not self.fpn:
            return [x]
        above, out = None, []
        for number in (5, 4, 3, 2):
            lateral = self._conv(stages[number - 2], f"backbone.fpn_lateral{number}")
            if above is not None:
                lateral = lateral + F.interpolate(above, scale_factor=2.0)
            above = lateral
            out.insert(0, self._conv(above, f"backbone.fpn_output{number}", padding=1))
        return [*out, F.max_pool2d(out[-1], 1, 2)]

    def rpn(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness [1, A, H, W] and deltas [1, 4A, H, W] of each map."""
        head = "proposal_generator.rpn_head"
        hidden = [self._conv(x, f"{head}.conv", padding=1).relu() for x in maps]
        return (
            [self._conv(x, f"{head}.objectness_logits") for x in hidden],
            [self._conv(x, f"{head}.anchor_deltas") for x in hidden],
        )

    def box_head(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [R, C + 1] and deltas [R, 4C] of pooled features [R, D, h, w]."""
        if self.fpn:
            x = pooled.flatten(1)
            for number in (1, 2):
                x = self._linear(x, f"roi_heads.box_head.fc{number}").relu()
        else:
            x = self._stage(pooled, "roi_heads.res5", 2).mean((2, 3))
        head = "roi_heads.box_predictor"
        return self._linear(x, f"{head}.cls_score"), self._linear(
            x, f"{head}.bbox_pred"
        )

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])


@torch.no_grad()
def largest_difference(
    detector, weights: dict[str, Tensor], size: tuple[int, int] = (96, 128)
) -> float:
    """Compare a translated mmdet detector with detectron2's arithmetic.

    A fixed noise image runs through backbone and RPN, and fixed boxes through the box
    head. Anchors are compared in detectron2's order.

    Args:
        detector: The mmdet model with the translated weights, in evaluation mode.
        weights: detectron2's weights.
        size: Height and width of the image in pixels, multiples of 32.

    Returns:
        The largest absolute difference, relative to the largest output.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, *size, generator=generator) * 50
    reference = Reference(weights, getattr(detector.backbone, "style", "") == "caffe")
    ours, theirs = detector.extract_feat(image), reference.maps(image)
    pairs = list(zip(ours, theirs, strict=True))
    scores, deltas = detector.rpn_head(ours)
    anchors = detector.rpn_head.prior_generator
    sizes, ratios = len(anchors.scales), len(anchors.ratios)
    for mine, their in zip((scores, deltas), reference.rpn(theirs), strict=True):
        for a, b in zip(mine, their, strict=True):
            each = a.shape[1] // (sizes * ratios)
            shape = (ratios, sizes, each, *a.shape[2:])
            pairs.append(
                (a[0].reshape(shape).transpose(0, 1).reshape(b[0].shape), b[0])
            )
    corners = torch.tensor([[8.0, 8.0, 72.0, 56.0], [20.0, 4.0, 60.0, 90.0]])
    rois = torch.cat([torch.zeros(len(corners), 1), corners], 1)
    head = detector.roi_head
    extractor = head.bbox_roi_extractor
    pooled = extractor(ours[: extractor.num_inputs], rois)
    features = head.shared_head(pooled) if head.with_shared_head else pooled
    found, expected = head.bbox_head(features), reference.box_head(pooled)
    pairs += list(zip(found, expected, strict=True))
    return max(
        ((a - b).abs().max() / b.abs().max().clamp(min=1e-6)).item() for a, b in pairs
    )
