"""A generator of labels: a foundation encoder with increments, read and counted."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.evaluator import BaseMetric
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.dataset_distillation.data.folders import read_distilled
from pld_mmdet.dataset_distillation.networks.low_rank import (
    LowRank,
    adapt,
    increments,
    load_increments,
)
from pld_mmdet.registry import METRICS, MODELS

PREFIX = "increment."  # of the generator's entries in labels.npz


@MODELS.register_module()
class LabelProjector(nn.Module):
    """A foundation encoder and vectors of class names, both with low-rank increments.

        f(x) = scale * unit(E(x)) . (W + B A)

    With increments of 0 it is the zero-shot classifier. W is not stored: it is made
    again from the names.

    Args:
        encoder: Config of a network with ``features`` N x ... -> N x D and ``feat_dim``
            (``CLIPImageEncoder`` has ``text_embeddings`` [K, D] as well).
        num_classes: K.
        rank: Of the encoder's increments [8, a public note on the paper]; 0: all
            weights of encoder and W learn.
        text_rank: Of W's increment [64 of 100 classes, 128 of 1000, ibid.].
        scale: Of the cosine [100, CLIP's].
    """

    def __init__(
        self,
        encoder: dict,
        num_classes: int,
        rank: int = 8,
        text_rank: int = 64,
        scale: float = 100.0,
    ) -> None:
        super().__init__()
        self.encoder = MODELS.build(encoder)
        text = nn.Linear(self.encoder.feat_dim, num_classes, bias=False)
        given = getattr(self.encoder, "text_embeddings", None)
        nn.init.zeros_(text.weight)
        if given is not None:
            text.weight.data.copy_(F.normalize(given.float(), dim=1))
        self.rank, self.scale = rank, scale
        if rank:
            # a classifier that came with the encoder is not part of it
            adapt(self.encoder, rank, skip=("fc",))
        self.text = LowRank(text, text_rank) if rank else text

    @property
    def words(self) -> nn.Parameter:
        """W, [K, D]."""
        return (self.text.layer if self.rank else self.text).weight

    def learning(self) -> list[nn.Parameter]:
        """What is trained and has to be stored: the increments, or everything."""
        if self.rank:
            return [weight for _, weight in increments(self)]
        head = getattr(self.encoder, "fc", None)
        unused = set() if head is None else set(head.parameters())
        return [p for p in self.parameters() if p not in unused]

    def forward(self, x: Tensor) -> Tensor:
        """Images N x 3 x H x W -> logits [N, K]."""
        return self.scale * self.text(F.normalize(self.encoder.features(x), dim=1))


def read_generator(folder: str | Path, projector: LabelProjector) -> None:
    """Make a projector the label generator of a distilled set.

    Args:
        folder: What the method wrote, ``distilled``.
        projector: Of the same foundation and ranks; its increments are replaced.

    Raises:
        UserError: The set has no increments, or others.
    """
    found = read_distilled(folder)
    stored = {
        name.removeprefix(PREFIX): weight
        for name, weight in found.items()
        if name.startswith(PREFIX)
    }
    load_increments(projector, stored)


@METRICS.register_module()
class StoredNumbers(BaseMetric):
    """``stored``: how many numbers a prediction's model keeps for its labels."""

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep one number a batch."""
        self.results += [sample["stored"] for sample in data_samples]

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        """It is the same in all batches."""
        return {"stored": float(max(results))}
