"""VGG16 up to conv5_3, the other backbone of the SFOD papers."""

from mmcv.cnn import VGG
from mmengine.model import BaseModule
from torch import Tensor

from pld_mmdet.registry import MODELS


@MODELS.register_module()
class VGG16(VGG, BaseModule):
    """VGG16 without its last pooling: one map of 512 channels, stride 16.

    mmcv's layers, so that ImageNet weights in mmcv's naming fit
    (``open-mmlab://vgg16_caffe``: BGR pixels minus the mean, not divided).

    Args:
        frozen_stages: Stages without gradient; the papers freeze conv1 and conv2 (2).
        init_cfg: Of mmengine.
    """

    def __init__(self, frozen_stages: int = 2, init_cfg: dict | None = None) -> None:
        # both parents start torch's Module afresh, so mmengine's part comes second
        VGG.__init__(
            self,
            depth=16,
            num_stages=5,
            out_indices=(4,),
            frozen_stages=frozen_stages,
            with_last_pool=False,
        )
        self._is_init, self.init_cfg = False, init_cfg

    def init_weights(self) -> None:
        """Load what ``init_cfg`` names; without it draw as He et al. 2015."""
        if self.init_cfg is None:
            VGG.init_weights(self)
        else:
            BaseModule.init_weights(self)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """N x 3 x H x W -> one map, N x 512 x H/16 x W/16."""
        return (super().forward(x),)
