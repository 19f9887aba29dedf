"""The frame of a method outside detection: a batch in, named losses or answers out."""

from abc import abstractmethod

from mmengine.model import BaseModel
from torch import Tensor


class Method(BaseModel):
    """An mmengine model whose batches are plain dicts of tensors.

    A subclass reads like its paper's algorithm box: it writes ``loss`` and ``predict``.
    Data loaders use ``collate_fn=dict(type='default_collate')``: the samples of a data
    set, ``dict(inputs=..., targets=...)``, become one dict of stacked tensors whose
    entries arrive as keyword arguments.

    Teachers are held in ``pld_mmdet.distill.teachers``: they stay in evaluation
    mode and without gradient, whatever ``train()`` is called with.
    """

    def forward(self, mode: str = "tensor", **batch) -> dict | list | Tensor:
        """mmengine's entry: ``loss`` while training, ``predict`` for metrics.

        Args:
            mode: ``loss``, ``predict`` or ``tensor``.
            batch: The entries of a collated batch.
        """
        if mode == "loss":
            return self.loss(**batch)
        if mode == "predict":
            return self.predict(**batch)
        return self.outputs(**batch)

    @abstractmethod
    def loss(self, **batch) -> dict[str, Tensor]:
        """Named losses; the ones whose name contains ``loss`` are summed."""

    @abstractmethod
    def predict(self, **batch) -> list[dict]:
        """One dict of whole-batch tensors, e.g. ``[dict(logits=..., targets=...)]``."""

    def outputs(self, **batch) -> Tensor:
        """What ``mode='tensor'`` answers with; by default it is not supported."""
        raise NotImplementedError(f"{type(self).__name__} has no plain tensor output.")
