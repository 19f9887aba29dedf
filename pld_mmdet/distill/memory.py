"""What is remembered: rows by sample, first in first out, or by class.

All state lies in buffers, so a checkpoint holds it and resuming is exact.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pld_mmdet.distill._gather import gathered
from pld_mmdet.errors import UserError


class SampleBank(nn.Module):
    """Rows by data set index, in the checkpoint, on the CPU.

    The rows stay on the CPU and in float32, whatever the model is moved or cast to:
    softmax rows of ImageNet are 5 GB. A model under DDP keeps them out of the broadcast
    of buffers with ``_ddp_params_and_buffers_to_ignore = ["<name>.rows"]``; ``write``
    makes all processes store the same.

    Args:
        num_samples: Images N of the training set.
        width: Numbers W of a row.

    Attributes:
        rows: [N, W]; zero until written.
    """

    rows: Tensor

    def __init__(self, num_samples: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(num_samples, width))

    def _apply(self, fn, recurse: bool = True) -> "SampleBank":
        """Neither move nor cast."""
        return self

    def read(self, index: Tensor) -> Tensor:
        """Rows [B, W] of the images ``index`` [B], on the device of ``index``."""
        return self.rows[index.cpu()].to(index.device)

    @torch.no_grad()
    def write(self, index: Tensor, rows: Tensor) -> None:
        """Store the rows of this batch on all processes.

        Rows with a number that is not finite are left out: the optimizer wrapper skips
        such a batch, and the bank must not remember it.

        Args:
            index: [B], as many on every process.
            rows: [B, W].

        Raises:
            UserError: A number that is no row.
        """
        index = gathered(index).cpu()
        if index.numel() and not 0 <= index.min() <= index.max() < len(self.rows):
            raise UserError(
                f"SampleBank of {len(self.rows)} rows: samples {int(index.min())} to "
                f"{int(index.max())}.",
                "Set model.num_samples to the number of training samples.",
            )
        rows = gathered(rows.float()).cpu()
        finite = rows.isfinite().all(1)
        self.rows[index[finite]] = rows[finite]


class FeatureQueue(nn.Module):
    """The latest rows, first in first out, with several fields a row (MoCo's queue).

    Args:
        size: Rows S that are kept.
        fields: Width of each field by name, e.g. ``dict(key=128, score=10)``; or one
            number D, and rows are plain tensors.

    Attributes:
        rows_<name>: [S, width] for each field; zero until written.
        written: Rows ever stored, a scalar.

    Raises:
        UserError: A size or width below 1, or no field.

    Examples:
        >>> queue = FeatureQueue(size=3, fields=1)
        >>> queue.push(torch.tensor([[1.0], [2.0]]))
        >>> queue.push(torch.tensor([[3.0], [4.0]]))
        >>> queue.read().flatten().tolist()
        [2.0, 3.0, 4.0]
    """

    written: Tensor

    def __init__(self, size: int, fields: int | Mapping[str, int]) -> None:
        super().__init__()
        self.single = not isinstance(fields, Mapping)
        self.fields = {"rows": fields} if self.single else dict(fields)
        if not self.fields or min(size, *self.fields.values()) < 1:
            raise UserError(
                f"FeatureQueue: size={size}, fields={fields} hold nothing.",
                "Give a size and widths of 1 or more.",
            )
        self.size = size
        for name, width in self.fields.items():
            self.register_buffer(f"rows_{name}", torch.zeros(size, width))
        self.register_buffer("written", torch.zeros((), dtype=torch.long))

    def __len__(self) -> int:
        """Rows that are there."""
        return min(int(self.written), self.size)

    @torch.no_grad()
    def push(self, rows: Tensor | Mapping[str, Tensor]) -> None:
        """Store the rows of all processes; the oldest leave.

        Rows with a number that is not finite in any field are left out, because the
        optimizer skips such a batch. Of more than S rows the last S stay.

        Args:
            rows: [B, D], or a tensor [B, width] for each field. As many rows on every
                process.

        Raises:
            UserError: Fields or shapes do not fit.
        """
        rows = {"rows": rows} if self.single else dict(rows)
        shapes = {name: tuple(value.shape) for name, value in rows.items()}
        count = next(iter(shapes.values()), (0,))[0]
        if shapes != {name: (count, width) for name, width in self.fields.items()}:
            raise UserError(
                f"FeatureQueue: rows {shapes} for fields {self.fields}.",
                "Push a tensor [B, width] for each field, all with the same B.",
            )
        rows = {
            name: gathered(value).to(getattr(self, f"rows_{name}"))
            for name, value in rows.items()
        }
        finite = torch.stack([v.isfinite().all(1) for v in rows.values()]).all(0)
        rows = {name: value[finite][-self.size :] for name, value in rows.items()}
        count = int(finite.sum())
        first = self.written + max(count - self.size, 0)
        stored = torch.arange(min(count, self.size), device=finite.device)
        for name, value in rows.items():
            getattr(self, f"rows_{name}")[(first + stored) % self.size] = value
        self.written += count

    def read(self) -> Tensor | dict[str, Tensor]:
        """The rows that are there, oldest first: [M, D], or by field; a copy."""
        begin = int(self.written) - len(self)
        order = torch.arange(begin, int(self.written), device=self.written.device)
        rows = {n: getattr(self, f"rows_{n}")[order % self.size] for n in self.fields}
        return rows["rows"] if self.single else rows


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

    Examples:
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
        if features.shape != (len(labels), self.queue.shape[2]):
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
        self.queue[labels, place] = features[rows].to(self.queue)
        end = self.pointer + arrived.clamp(max=self.length)
        self.full |= end >= self.length
        self.pointer.copy_(end % self.length)

    def _means(self) -> Tensor:
        """Mean of the filled places, [C, D]; the zero vector for an empty ring."""
        # places that were never written are zero and add nothing to the sum
        return self.queue.sum(1) / self.counts.clamp(min=1)[:, None]

    def init_prototypes(self) -> None:
        """Prototype = mean of its ring, for every class."""
        self.prototypes.copy_(self._means())

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
        features = F.normalize(features.to(self.prototypes), dim=1)
        cosine = features @ F.normalize(self.prototypes, dim=1).T
        return F.pad((scale * cosine).softmax(1), (0, 1))
