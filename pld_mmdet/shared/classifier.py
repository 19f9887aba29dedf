"""Plain supervised classification: the baseline of many rows."""

from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import one_of
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.views import recoloured, strong, weak

VIEWS = {
    None: lambda images: images,
    "weak": weak,
    "jittered": lambda images: recoloured(weak(images), 0.3),
    "strong": strong,
}


@MODELS.register_module()
class Classifier(Method):
    """A network and cross-entropy, nothing else.

    Args:
        network: Config of a network, N x ... -> N x C logits.
        label_smoothing: Of the cross-entropy [0].
        view: What it learns from: ``weak``, ``strong`` or ``jittered`` (weak, in
            other colours) of ``pld_mmdet.shared.views`` [None: the images as they are].
    """

    def __init__(
        self,
        network: dict,
        label_smoothing: float = 0.0,
        view: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of("Classifier", view=(view, VIEWS))
        self.view = VIEWS[view]
        self.network = MODELS.build(network)
        self.label_smoothing = label_smoothing

    def loss(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Cross-entropy of a batch: N x ..., N labels."""
        logits = self.network(self.view(inputs))
        smoothing = self.label_smoothing
        return {"loss": F.cross_entropy(logits, targets, label_smoothing=smoothing)}

    def predict(self, inputs: Tensor, targets: Tensor, **_) -> list[dict]:
        """Logits N x C beside the labels."""
        return [{"logits": self.network(inputs), "targets": targets}]

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Logits N x C."""
        return self.network(inputs)
