"""A classifier without training: the nearest class mean in frozen features."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS, MODELS
from pld_mmdet.shared.readers import gathered

_CHUNK = 100


@MODELS.register_module()
class FrozenFeatures(BaseModule):
    """A frozen backbone's maps, averaged over their pixels and put side by side.

    Args:
        backbone: Config of a network, N x 3 x H x W -> map or maps; its ``init_cfg`` is
            executed when this is built.
        size: Images are resized to this side first [as they are].
        mean, std: Subtracted from and divided out of images in [0, 1]; one number or
            one a channel.
    """

    def __init__(
        self,
        backbone: dict,
        size: int | None = None,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.backbone, self.size = MODELS.build(backbone), size
        if isinstance(self.backbone, BaseModule):
            self.backbone.init_weights()
        self.requires_grad_(False)
        for name, value in (("mean", mean), ("std", std)):
            value = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1)
            self.register_buffer(name, value, persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenFeatures":
        """Norms stand still."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x H x W in [0, 1] -> N x D."""
        x = (x - self.mean) / self.std
        if self.size is not None and x.shape[-1] != self.size:
            x = F.interpolate(x, (self.size, self.size), mode="bicubic")
        maps = self.backbone(x)
        maps = maps if isinstance(maps, list | tuple) else [maps]
        return torch.cat([m.mean((2, 3)) if m.dim() == 4 else m for m in maps], 1)

    def in_parts(self, x: Tensor) -> Tensor:
        """The same of many images, a hundred at a time."""
        return torch.cat([self(part) for part in x.split(_CHUNK)])


@MODELS.register_module()
class ClassMeans(nn.Module):
    """Cosine to the mean feature of each class, of labelled images: a zero-shot-like
    teacher.

    Features are standardised by the labelled images, made unit vectors and averaged
    over a class; nothing is trained. It is fitted when it is built.

    Args:
        features: Config of a :class:`FrozenFeatures`.
        dataset: Config of the labelled images: ``inputs`` and ``targets`` of a sample.
        num_classes: Outputs K.
        scale: What the cosines are multiplied by to be logits [10].

    Raises:
        UserError: A class without a labelled image.
    """

    def __init__(
        self, features: dict, dataset: dict, num_classes: int, scale: float = 10.0
    ) -> None:
        super().__init__()
        self.features, self.scale = MODELS.build(features), scale
        known = gathered(DATASETS.build(dataset))
        targets = known["targets"]
        counts = torch.bincount(targets, minlength=num_classes)
        if len(counts) > num_classes or not counts.all():
            raise UserError(
                f"ClassMeans: {num_classes} classes, and images of each class by its "
                f"label: {counts.tolist()}.",
                "Give labelled images of every class.",
            )
        found = self.features.in_parts(known["inputs"])
        self.register_buffer("centre", found.mean(0))
        self.register_buffer("spread", found.std(0) + 1e-5)
        rows = torch.zeros(num_classes, found.shape[1])
        rows.index_add_(0, targets, self._unit(found))
        self.register_buffer("means", F.normalize(rows, dim=1))

    def _unit(self, found: Tensor) -> Tensor:
        return F.normalize((found - self.centre) / self.spread, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x H x W in [0, 1] -> N x K logits."""
        return self.scale * self._unit(self.features(x)) @ self.means.T


def frozen_features(inputs: Tensor, **network: object) -> Tensor:
    """Features [N, D] of images for a trivial rival (``raw_input``'s ``features``).

    Args:
        inputs: N x 3 x H x W in [0, 1].
        network: Of :class:`FrozenFeatures`.
    """
    return FrozenFeatures(**network).in_parts(inputs)
