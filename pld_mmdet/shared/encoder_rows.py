"""Rows that score any method's encoder: a linear reader, or fine-tuning, of labels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class LinearProbe(Method):
    """A linear classifier on what a frozen encoder sees.

    A row with ``init`` starts from a method's checkpoint: its weights ``<part>.*``
    become the encoder's, the others are left out. Without ``init`` the encoder has
    random weights, the trivial rival. The encoder stays in evaluation mode.

    Args:
        encoder: Config of a network with ``features``: N x ... -> N x D (what is
            longer is flattened).
        num_classes: K.
        feat_dim: D [the network's ``feat_dim``].
        part: Where the method's checkpoint holds the encoder, such as ``student``.
    """

    frozen = True

    def __init__(
        self,
        encoder: dict,
        num_classes: int,
        feat_dim: int | None = None,
        part: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.encoder = MODELS.build(encoder)
        self.encoder.requires_grad_(not self.frozen)
        feat_dim = feat_dim or getattr(self.encoder, "feat_dim", None)
        if feat_dim is None:
            raise UserError(
                f"{type(self.encoder).__name__} does not say how long its features "
                "are.",
                "Set feat_dim.",
            )
        self.classifier = nn.Linear(feat_dim, num_classes)
        self.part = part
        self.register_load_state_dict_pre_hook(_take_part)

    def train(self, mode: bool = True) -> "LinearProbe":
        """The encoder stays in evaluation mode while it is frozen."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def loss(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Cross-entropy of a batch: N x ..., N labels."""
        return {"loss": F.cross_entropy(self.outputs(inputs), targets)}

    def predict(self, inputs: Tensor, targets: Tensor, **_) -> list[dict]:
        """Logits N x K beside the labels."""
        return [{"logits": self.outputs(inputs), "targets": targets}]

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Logits N x K."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.encoder.features(inputs).flatten(1)
        return self.classifier(features)


@MODELS.register_module()
class FineTune(LinearProbe):
    """As :class:`LinearProbe`, but the encoder learns too, from the same labels."""

    frozen = False


def _take_part(module: LinearProbe, state: dict, prefix: str, *_) -> None:
    """A method's checkpoint in this model's names; its own is left as it is."""
    if any(name.startswith(f"{prefix}classifier.") for name in state):
        return
    part = f"{prefix}{module.part}."
    own = module.encoder.state_dict()
    found = {name: state[part + name] for name in own if part + name in state}
    if not found:
        return  # the loader then says what is missing
    state.clear()
    state.update({f"{prefix}encoder.{name}": value for name, value in found.items()})
    for name, value in module.classifier.state_dict().items():
        state[f"{prefix}classifier.{name}"] = value
