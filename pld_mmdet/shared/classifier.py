"""Plain supervised classification: the baseline of many rows."""

from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.engine.method import Method
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class Classifier(Method):
    """A network and cross-entropy, nothing else.

    Args:
        network: Config of a network, N x ... -> N x C logits.
        label_smoothing: Of the cross-entropy [0].
    """

    def __init__(
        self, network: dict, label_smoothing: float = 0.0, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.network = MODELS.build(network)
        self.label_smoothing = label_smoothing

    def loss(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Cross-entropy of a batch: N x ..., N labels."""
        logits = self.network(inputs)
        smoothing = self.label_smoothing
        return {"loss": F.cross_entropy(logits, targets, label_smoothing=smoothing)}

    def predict(self, inputs: Tensor, targets: Tensor, **_) -> list[dict]:
        """Logits N x C beside the labels."""
        return [{"logits": self.network(inputs), "targets": targets}]

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Logits N x C."""
        return self.network(inputs)
