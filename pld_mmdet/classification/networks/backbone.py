"""Any backbone of the stack as a classifier: features, mean pooling, a linear layer."""

import inspect
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class BackboneClassifier(BaseModule):
    """``mmdet.ResNet``, mmpretrain's backbones and their like: images -> logits.

    The last map that the backbone returns is averaged over its pixels; a backbone that
    returns vectors is taken as it is. Its batch norms learn: a detector's backbone
    keeps their statistics by default, so ``norm_eval`` is False here unless the config
    says it.

    A file of weights may be its own, mmpretrain's (``backbone.*``, ``head.fc.*``), or
    the bare network with its last layer (``conv1.*``, ``fc.*``: torchvision's), in
    ``init_cfg`` as in a checkpoint of a method that holds it.

    Args:
        backbone: Config of a backbone, with its scope (``mmdet.ResNet``).
        feat_dim: Channels D of its last output.
        num_classes: Outputs K.
        mean, std: Subtracted from and divided out of images in [0, 1], each one number
            or one a channel: what the backbone's weights were made for [0 and 1: the
            images as they are].
        init_cfg: Of backbone and last layer together, as in mmengine; one of the
            backbone alone stands in its config.

    Raises:
        UserError: A ``std`` that is not above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: dict,
        feat_dim: int,
        num_classes: int,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.backbone = MODELS.build(_learning(backbone))
        self.fc = nn.Linear(feat_dim, num_classes)
        self.feat_dim, self.num_classes = feat_dim, num_classes
        for name, value in (("mean", mean), ("std", std)):
            value = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1)
            self.register_buffer(name, value, persistent=False)
        if not self.std.is_meta and not (self.std > 0).all():
            raise UserError(
                f"BackboneClassifier: std={std} divides by nothing.",
                "Give the deviation of images in [0, 1], such as 0.229.",
            )

        self._register_load_state_dict_pre_hook(_own_names)

    def features(self, x: Tensor) -> Tensor:
        """N x 3 x H x W in [0, 1] -> N x D."""
        found = self.backbone((x - self.mean) / self.std)
        found = found[-1] if isinstance(found, list | tuple) else found
        return found.mean((2, 3)) if found.dim() == 4 else found

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x H x W in [0, 1] -> N x K logits."""
        return self.fc(self.features(x))


def _learning(backbone: dict) -> dict:
    """The config with ``norm_eval=False``, where its class (or one that it hands its
    arguments on to) has that word and nobody set it.
    """
    kind = backbone["type"]
    kind = MODELS.get(kind) if isinstance(kind, str) else kind
    known = inspect.getmro(kind) if inspect.isclass(kind) else ()
    taken = (inspect.signature(one.__init__).parameters for one in known)
    if any("norm_eval" in names for names in taken):
        return {"norm_eval": False, **backbone}
    return backbone


def _own_names(state: dict, prefix: str, *_) -> None:
    """Names of mmpretrain's and torchvision's files become ours."""
    names = [name for name in state if name.startswith(prefix)]
    bare = not any(name.startswith(f"{prefix}backbone.") for name in names)
    for name in names:
        rest = name.removeprefix(prefix)
        if rest.startswith("head.fc."):
            state[prefix + rest.removeprefix("head.")] = state.pop(name)
        elif bare and not rest.startswith("fc."):
            state[f"{prefix}backbone.{rest}"] = state.pop(name)
