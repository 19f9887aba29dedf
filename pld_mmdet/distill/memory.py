"""Queues of features by class, and the prototypes that are their slow mean."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PrototypeQueue(nn.Module):
    """One ring of recent features and one prototype for each class (PS-TTL).

    All state lies in buffers, so a checkpoint holds it and resuming is exact (in the
    released code of PS-TTL, commit bd718199, prototypes are plain tensors). Nothing
    here gets a gradient. The rings belong to the student: keep them out of an EMA.

    Args:
        num_classes: Foreground classes C.
        feat_dim: Length D of a feature.
        length: Places L of a ring (released code: 128).
        momentum: Share of the old prototype that stays in an update (released code:
            0.5, fixed).

    Attributes:
        queue: [C, L, D] features; places never written are zero.
        pointer: [C] place that is written next.
        full: [C] whether the ring has been filled once.
        prototypes: [C, D].

    Raises:
        ValueError: A size is below 1 or ``momentum`` lies outside [0, 1].

    Example:
        >>> memory = PrototypeQueue(num_classes=1, feat_dim=1, length=4)
        >>> memory.push(torch.tensor([[2.0]]), torch.tensor([0]))
        >>> memory.init_prototypes()
        >>> memory.push(torch.tensor([[6.0]]), torch.tensor([0]))  # mean 4
        >>> memory.update_prototypes()
        >>> memory.prototypes.item()
        3.0
    """

    queue: Tensor
    pointer: Tensor
    full: Tensor
    prototypes: Tensor

    def __init__(
        self,
        num_classes: int,
        feat_dim: int,
        length: int = 128,
        momentum: float = 0.5,
    ) -> None:
        super().__init__()
        if min(num_classes, feat_dim, length) < 1:
            raise ValueError(
                "num_classes, feat_dim and length must be at least 1, got "
                f"{num_classes}, {feat_dim} and {length}"
            )
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"momentum must lie in [0, 1], got {momentum}")
        self.num_classes = num_classes
        self.length = length
        self.momentum = momentum
        self.register_buffer("queue", torch.zeros(num_classes, length, feat_dim))
        self.register_buffer("pointer", torch.zeros(num_classes, dtype=torch.long))
        self.register_buffer("full", torch.zeros(num_classes, dtype=torch.bool))
        self.register_buffer("prototypes", torch.zeros(num_classes, feat_dim))

    @property
    def counts(self) -> Tensor:
        """Filled places of each ring, [C]."""
        return torch.where(self.full, self.length, self.pointer)

    @torch.no_grad()
    def push(self, features: Tensor, labels: Tensor) -> None:
        """Write features into the rings of their classes, in row order.

        At most the first L rows of a class are stored in one call, as released: 150
        rows into L = 128 leave rows 0..127, and the pointer where it was.

        Args:
            features: [M, D]; detached.
            labels: [M]; rows with a label outside 0..C-1 (background, unknown) are
                ignored.

        Raises:
            ValueError: Shapes do not fit together.
        """
        if features.ndim != 2 or features.shape != (len(labels), self.queue.shape[2]):
            raise ValueError(
                f"expected features [{len(labels)}, {self.queue.shape[2]}], got "
                f"{tuple(features.shape)}"
            )
        known = ((labels >= 0) & (labels < self.num_classes)).nonzero().squeeze(1)
        labels, order = labels[known].sort(stable=True)
        rows = known[order]
        arrived = torch.bincount(labels, minlength=self.num_classes)
        start = arrived.cumsum(0) - arrived
        rank = torch.arange(len(labels), device=labels.device) - start[labels]
        first = rank < self.length
        labels, rank, rows = labels[first], rank[first], rows[first]
        place = (self.pointer[labels] + rank) % self.length
        self.queue[labels, place] = features.detach()[rows].to(self.queue)
        end = self.pointer + arrived.clamp(max=self.length)
        self.full |= end >= self.length
        self.pointer.copy_(end % self.length)

    def _means(self) -> Tensor:
        """Mean of the filled places, [C, D]; the zero vector for an empty ring."""
        # places that were never written are zero and add nothing to the sum
        return self.queue.sum(1) / self.counts.clamp(min=1)[:, None]

    @torch.no_grad()
    def init_prototypes(self) -> None:
        """Prototype = mean of its ring, for every class."""
        self.prototypes.copy_(self._means())

    @torch.no_grad()
    def update_prototypes(self) -> None:
        """``momentum * prototype + (1 - momentum) * mean of the ring``, every class.

        Also for classes without new features; one whose ring is empty drifts to zero.
        """
        self.prototypes.mul_(self.momentum).add_(self._means(), alpha=1 - self.momentum)

    @torch.no_grad()
    def soft_labels(self, features: Tensor, scale: float = 10.0) -> Tensor:
        """``softmax_c(scale * cos(feature, prototype_c))``, and 0 for background.

        The cosine with a zero vector is 0.

        Args:
            features: [M, D].
            scale: Inverse temperature (released code: 10).

        Returns:
            [M, C + 1], detached; rows sum to 1.
        """
        features = F.normalize(features.detach().to(self.prototypes), dim=1)
        cosine = features @ F.normalize(self.prototypes, dim=1).T
        return F.pad((scale * cosine).softmax(1), (0, 1))
