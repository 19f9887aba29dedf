"""A teacher that normalises with the batch before it (SF-UT's released code)."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from pld_mmdet.distill.adabn import batch_norms
from pld_mmdet.engine.run.processes import share_statistics
from pld_mmdet.errors import UserError


@contextmanager
def batch_statistics(teacher: nn.Module, student: nn.Module) -> Iterator[None]:
    """The teacher's batch norm in training mode inside the block, nothing else.

    The layers normalise by mean and variance of the batch, and their running statistics
    move by their momentum (0.1 by default). Only layers that are in training mode in
    the student take part: frozen stages stay frozen. Proposals and detections are those
    of evaluation.

    Raises:
        UserError: No layer of the student is in training mode.
    """
    pairs = zip(batch_norms(teacher), batch_norms(student), strict=True)
    layers = [ours for ours, theirs in pairs if theirs.training]
    if not layers:
        raise UserError(
            "PredictBoxes(statistics='batch'): the student has no batch norm in "
            "training mode, so there are no statistics of a batch.",
            "Set norm_eval=False in the backbone, or use 'running' and AdaBNHook.",
        )
    for layer in layers:
        layer.train()
    try:
        yield
        share_statistics(teacher)  # one teacher on all processes
    finally:
        for layer in layers:
            layer.eval()
