"""The networks that HIAST's recipe needs and mmsegmentation lacks."""

from itertools import pairwise

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from pld_mmdet.registry import MODELS


class OutputDiscriminator(nn.Sequential):
    """Says, cell by cell, from which domain a map of probabilities is (AdaptSegNet).

    Five 4x4 convolutions of stride 2 with leaky ReLU: N x C x H x W -> N x 1 x H/32 x
    W/32.

    Args:
        num_classes: Channels C of its input.
        width: Channels of the first layer; they double three times [64].
    """

    def __init__(self, num_classes: int, width: int = 64) -> None:
        widths = [num_classes, width, 2 * width, 4 * width, 8 * width]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 4, stride=2, padding=1))


def domain_loss(answers: Tensor, domain: float) -> Tensor:
    """Squared error of the discriminator's answers (least-squares GAN)."""
    return F.mse_loss(answers, answers.new_full((), domain).expand_as(answers))


def adversarial_losses(
    discriminator: nn.Module, source: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Both sides of a game over softmax maps, N x C x H x W.

    Args:
        discriminator: Tells the domains apart.
        source: Of source images; no gradient reaches them.
        target: Of target images; the first loss's gradient goes to them, and not to the
            discriminator.

    Returns:
        The loss of being taken for the source, and half of the discriminator's own.
    """
    constant = {k: v.detach() for k, v in discriminator.named_parameters()}
    fooled = domain_loss(functional_call(discriminator, constant, (target,)), 1.0)
    known, foreign = discriminator(source.detach()), discriminator(target.detach())
    return fooled, 0.5 * (domain_loss(known, 1.0) + domain_loss(foreign, 0.0))


@MODELS.register_module()
class DeepLabV2Head(BaseModule):
    """Sum of dilated 3x3 classifiers on one feature map (Chen et al. 2017).

    It offers what ``mmseg.EncoderDecoder`` asks of a decode head for inference; the
    methods of this family compute their losses outside the head. mmsegmentation has no
    such head.

    Args:
        in_channels: Channels of the feature map.
        num_classes: Classes C.
        dilations: One classifier each [6, 12, 18, 24].
        in_index: Which feature map [-1].
        align_corners: Of the resizing of its logits [True, DeepLab].
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        dilations: tuple[int, ...] = (6, 12, 18, 24),
        in_index: int = -1,
        align_corners: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type="Normal", layer="Conv2d", std=0.01))
        self.num_classes = self.out_channels = num_classes
        self.in_index, self.align_corners = in_index, align_corners
        self.classifiers = nn.ModuleList(
            nn.Conv2d(in_channels, num_classes, 3, padding=d, dilation=d)
            for d in dilations
        )

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """Logits N x C x h x w of the chosen feature map."""
        x = features[self.in_index]
        return torch.stack([classify(x) for classify in self.classifiers]).sum(0)

    def predict(
        self, features: tuple[Tensor, ...], metas: list[dict], test_cfg: dict
    ) -> Tensor:
        """Logits at the size of the network's input, as mmsegmentation wants them."""
        meta = metas[0]
        size = meta["pad_shape" if "pad_shape" in meta else "img_shape"][:2]
        return F.interpolate(
            self(features), size, mode="bilinear", align_corners=self.align_corners
        )
