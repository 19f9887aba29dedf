"""SLA+SD: one label for class and transformation together, folded into one head."""

from itertools import permutations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill.divergences import kl
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS

# Sets of transformations, the identity first: quarter turns, orders of the channels.
TRANSFORMS = {"rotation": 4, "colour": 6}


def aggregate(joint: Tensor, num_classes: int) -> Tensor:
    """Logits of the classes from joint logits: each copy read at its own transform.

    ``A[n, c] = mean over m of joint[n, m, c * M + m]`` (Lee et al. 2020, eq. 4, on
    logits as their code does).

    Args:
        joint: [N, M, C * M]: M copies of each image; columns are class-major.
        num_classes: C.

    Returns:
        [N, C].

    Raises:
        UserError: The last two sizes do not belong together.
    """
    if joint.dim() != 3 or joint.shape[2] != num_classes * joint.shape[1]:
        raise UserError(
            f"aggregate: joint logits of shape {tuple(joint.shape)} for "
            f"{num_classes} classes.",
            "Give [N, M, C * M]: M copies, C * M columns.",
        )
    by_class = joint.unflatten(2, (num_classes, joint.shape[1]))  # N, M, C, M
    return by_class.diagonal(dim1=1, dim2=3).mean(-1)


def transformed(images: Tensor, kind: str) -> Tensor:
    """All copies of each image: N x 3 x H x W -> N x M x 3 x H x W, as it is first.

    Args:
        images: Square for ``rotation``, three channels for ``colour``.
        kind: ``rotation`` (M = 4, quarter turns) or ``colour`` (M = 6, orders of the
            channels).

    Raises:
        UserError: Images that the transformations would not fit into one batch.
    """
    one_of("transformed", kind=(kind, TRANSFORMS))
    if kind == "rotation":
        if images.shape[-1] != images.shape[-2]:
            raise UserError(
                f"Quarter turns of {images.shape[-2]} x {images.shape[-1]} images do "
                "not fit into one batch.",
                "Use square images, or transform='colour'.",
            )
        return torch.stack([images.rot90(m, (2, 3)) for m in range(4)], 1)
    if images.shape[1] != 3:
        raise UserError(
            f"Images of {images.shape[1]} channels have no six orders of colours.",
            "Use RGB images, or transform='rotation'.",
        )
    orders = [list(order) for order in permutations(range(3))]
    return torch.stack([images[:, order] for order in orders], 1)


@MODELS.register_module()
class SLASD(Method):
    r"""Self-supervised label augmentation with self-distillation (Lee et al. 2020).

    M transformations of each image, copy m of class c has the joint label c M + m.
    With joint logits J = w(f(t_m(x))) and single ones U = u(f(x))::

        A_c = mean over m of J[m, c M + m]
        L = CE(J, joint labels) + beta CE(U, y)
            + tau^2 KL(softmax(A / tau) || softmax(U / tau))

    A is a constant in the divergence. Unlike plain augmentation, the network is never
    told that a turned image is the same thing. Answers: ``single`` (SLA+SD: U, one
    forward pass), ``aggregated`` (SLA+AG: A, M passes).

    ``labels="same"`` is the paper's other column, data augmentation: every copy has the
    label y and there is no joint head.

    Deviations from the released code (hankook/SLA, commit bc5d9cd): the single head
    sees the untouched copies only (theirs computes it on all and takes those: the same
    gradients). Batches are drawn from one pass over the data, as everywhere here.

    Args:
        network: Config of a network with ``features``, ``feat_dim`` and the single head
            ``fc``; N x 3 x H x W -> N x C logits.
        num_classes: C.
        transform: ``rotation`` (M = 4) or ``colour`` (M = 6) [their two].
        labels: ``joint``, or ``same``.
        beta: Weight of the single head's cross-entropy [1, code].
        tau: Temperature of the divergence [1, code].
        joint_times: Multiplies the joint term [1; the code's ImageNet runs: M].
        predict_on: ``single`` or ``aggregated``.

    Raises:
        UserError: An unknown word, or ``aggregated`` without a joint head.
    """

    def __init__(
        self,
        network: dict,
        num_classes: int,
        transform: str = "rotation",
        labels: str = "joint",
        beta: float = 1.0,
        tau: float = 1.0,
        joint_times: float = 1.0,
        predict_on: str = "single",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of(
            "SLASD",
            transform=(transform, TRANSFORMS),
            labels=(labels, ("joint", "same")),
            predict_on=(predict_on, ("single", "aggregated")),
        )
        if labels == "same" and predict_on == "aggregated":
            raise UserError(
                "SLASD: labels='same' has no joint head to answer with.",
                "Choose predict_on='single', or labels='joint'.",
            )
        self.network = MODELS.build(network)
        self.copies = TRANSFORMS[transform]
        if labels == "joint":
            self.joint = nn.Linear(self.network.feat_dim, num_classes * self.copies)
        self.num_classes, self.transform, self.labels = num_classes, transform, labels
        self.beta, self.tau, self.joint_times = beta, tau, joint_times
        self.predict_on = predict_on

    def loss(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Losses of a batch: N x 3 x H x W, N labels; M N images are seen."""
        features = self.features(inputs)  # N, M, D
        if self.labels == "same":
            logits = self.network.fc(features.flatten(0, 1))
            same = targets.repeat_interleave(self.copies)
            return {"loss_same": F.cross_entropy(logits, same)}
        return self.losses(
            self.joint(features), self.network.fc(features[:, 0]), targets
        )

    def losses(self, joint: Tensor, single: Tensor, targets: Tensor) -> dict:
        """The three terms.

        Args:
            joint: Joint logits [N, M, C * M].
            single: Logits [N, C] of the untouched copies.
            targets: [N] labels.
        """
        copies = joint.shape[1]
        number = torch.arange(copies, device=targets.device)
        labels = (targets[:, None] * copies + number).flatten()
        teacher = aggregate(joint, single.shape[1]).detach()
        of_joint = F.cross_entropy(joint.flatten(0, 1), labels)
        return {
            "loss_joint": self.joint_times * of_joint,
            "loss_single": self.beta * F.cross_entropy(single, targets),
            "loss_sd": kl(teacher, single, self.tau),
        }

    def features(self, inputs: Tensor) -> Tensor:
        """Of all copies: N x 3 x H x W -> N x M x D."""
        copies = transformed(inputs, self.transform)
        found = self.network.features(copies.flatten(0, 1))
        return found.unflatten(0, copies.shape[:2])

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Logits [N, C]."""
        if self.predict_on == "aggregated":
            return aggregate(self.joint(self.features(inputs)), self.num_classes)
        return self.network(inputs)
