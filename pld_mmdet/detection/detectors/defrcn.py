"""DeFRCN's building blocks for stock mmdet detectors (Qiao et al., ICCV 2021).

Two gradient-decoupling points lie on the shared feature map: one towards the RPN, one
towards the RoI head. Each is the identity with a scaled gradient, followed by a learned
channel-wise affine. They sit inside the RPN head and the RoI extractor, so a config
that names these two types *is* DeFRCN; the detector, its losses and its RoI head stay
mmdet's. Values follow the repository er-muyue/DeFRCN, commit d07c3dff.
"""

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import RPNHead
from mmdet.models.necks import FPN
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.roi_heads.shared_heads import ResLayer
from torch import Tensor, nn

from pld_mmdet.registry import MODELS


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        # exactly 0 also where the upstream gradient is infinite
        if ctx.scale == 0:
            return torch.zeros_like(gradient), None
        return gradient * ctx.scale, None


def decouple(x: Tensor, scale: float) -> Tensor:
    """The identity whose gradient is multiplied by ``scale``.

    Args:
        x: Any shape.
        scale: DeFRCN's lambda: 0 stops the gradient (as zeros, not as None).

    Returns:
        The values of ``x``, whatever the scale.
    """
    return _ScaleGradient.apply(x, scale)


class GradientDecouple(nn.Module):
    """:func:`decouple`, then ``weight * x + bias`` for each channel.

    The affine starts as the identity and its own gradients are not scaled. On several
    levels it is shared (DeFRCN itself has one level).

    Args:
        channels: Channels of the feature maps.
        scale: DeFRCN's lambda.
    """

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Decouple maps [N, C, H, W] of all levels."""
        weight, bias = self.weight[:, None, None], self.bias[:, None, None]
        return tuple(decouple(x, self.scale) * weight + bias for x in features)


@MODELS.register_module()
class DecoupledRPNHead(RPNHead):
    """mmdet's RPN head behind a gradient-decoupling point.

    Args:
        gradient_scale: lambda towards the backbone; 0 in all of DeFRCN's configs: the
            RPN never trains the backbone.
        **kwargs: As in mmdet's ``RPNHead``.
    """

    def __init__(self, *args, gradient_scale: float = 0.0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.decouple = GradientDecouple(self.in_channels, gradient_scale)

    def forward(self, x: tuple[Tensor, ...]) -> tuple:
        """Objectness and deltas of all levels; see mmdet."""
        return super().forward(self.decouple(x))


@MODELS.register_module()
class DecoupledRoIExtractor(SingleRoIExtractor):
    """mmdet's RoI extractor behind a gradient-decoupling point.

    Args:
        gradient_scale: lambda towards the backbone. Base training 0.75; K shots 0.001
            (VOC) or 0.01 (COCO).
        **kwargs: As in mmdet's ``SingleRoIExtractor``.
    """

    def __init__(self, *args, gradient_scale: float = 0.75, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.decouple = GradientDecouple(self.out_channels, gradient_scale)

    def forward(self, feats: tuple[Tensor, ...], rois: Tensor, *args, **kwargs):
        """Pooled features [R, C, h, w]; see mmdet."""
        return super().forward(self.decouple(feats), rois, *args, **kwargs)


@MODELS.register_module()
class DropoutLinear(nn.Linear):
    """A linear layer with dropout on its input, in training mode only.

    As ``cls_predictor_cfg=dict(type='pld_mmdet.DropoutLinear', p=0.8)`` it drops on
    the class branch of a box head and not on the box branch. Checkpoints are those of
    a plain linear layer.

    Args:
        in_features: As in ``torch.nn.Linear``.
        out_features: As in ``torch.nn.Linear``.
        p: Probability to drop (DeFRCN's K-shot stage: 0.8).
        bias: As in ``torch.nn.Linear``.
    """

    def __init__(
        self, in_features: int, out_features: int, p: float = 0.8, bias: bool = True
    ) -> None:
        super().__init__(in_features, out_features, bias)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_features] -> [N, out_features]."""
        return super().forward(F.dropout(x, self.p, self.training))


@MODELS.register_module()
class FrozenResLayer(ResLayer):
    """res5 as RoI head without gradients (DeFRCN's K-shot stage and PS-TTL).

    Args:
        **kwargs: As in mmdet's ``ResLayer``.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.requires_grad_(False)


@MODELS.register_module()
class FrozenFPN(FPN):
    """mmdet's FPN without gradients: features stay those of base training.

    DeFRCN's detector has no neck. Where one has, it belongs to the features that a
    K-shot step leaves alone; ``backbone.frozen_stages`` does not reach it.

    Args:
        **kwargs: As in mmdet's ``FPN``.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.requires_grad_(False)


@MODELS.register_module()
class FrozenShared2FCBBoxHead(Shared2FCBBoxHead):
    """mmdet's head of two shared layers, which get no gradients.

    They make the features of a RoI, as res5 does in a C4 detector, and the release
    freezes those in the K-shot step and at test time (``ROI_HEADS.FREEZE_FEAT``).
    ``fc_cls`` and ``fc_reg`` learn.

    Args:
        **kwargs: As in mmdet's ``Shared2FCBBoxHead``.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.shared_fcs.requires_grad_(False)
