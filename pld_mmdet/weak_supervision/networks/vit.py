"""A vision transformer of transformers as a backbone of which the last blocks learn."""

from torch import Tensor, nn

from pld_mmdet.engine.run.optional import require
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class ViTBackbone(nn.Module):
    """Class token of a ViT; all but the last blocks are frozen.

    Args:
        weights: Folder or hub name of a pretrained model, ``facebook/dino-vitb16``.
            None: random weights from ``config``.
        config: Arguments of ``transformers.ViTConfig``, for random weights.
        trainable_blocks: Blocks at the end that learn [1].
    """

    def __init__(
        self,
        weights: str | None = None,
        config: dict | None = None,
        trainable_blocks: int = 1,
    ) -> None:
        super().__init__()
        library = require("transformers", "language")
        if weights is None:
            config = library.ViTConfig(**(config or {}))
            self.network = library.ViTModel(config, add_pooling_layer=False)
        else:
            self.network = library.ViTModel.from_pretrained(
                weights, add_pooling_layer=False
            )
        self.network.requires_grad_(False)
        blocks = getattr(self.network, "layers", None)
        if blocks is None:  # transformers before 5
            blocks = self.network.encoder.layer
        for block in list(blocks)[len(blocks) - trainable_blocks :]:
            block.requires_grad_(True)

    def forward(self, images: Tensor) -> Tensor:
        """N x 3 x H x W -> N x D."""
        return self.network(pixel_values=images).last_hidden_state[:, 0]
