"""Any backbone of the stack as a classifier: features, mean pooling, a linear layer."""

from torch import Tensor, nn

from pld_mmdet.registry import MODELS


@MODELS.register_module()
class BackboneClassifier(nn.Module):
    """``mmdet.ResNet``, mmpretrain's backbones and their like: images -> logits.

    The last map that the backbone returns is averaged over its pixels; a backbone that
    returns vectors is taken as it is.

    Args:
        backbone: Config of a backbone, with its scope (``mmdet.ResNet``).
        feat_dim: Channels D of its last output.
        num_classes: Outputs K.
    """

    def __init__(self, backbone: dict, feat_dim: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.fc = nn.Linear(feat_dim, num_classes)
        self.feat_dim, self.num_classes = feat_dim, num_classes

    def features(self, x: Tensor) -> Tensor:
        """N x 3 x H x W -> N x D."""
        found = self.backbone(x)
        found = found[-1] if isinstance(found, list | tuple) else found
        return found.mean((2, 3)) if found.dim() == 4 else found

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x H x W -> N x K logits."""
        return self.fc(self.features(x))
