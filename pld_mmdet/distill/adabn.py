"""AdaBN: re-estimate batch-norm statistics on another domain (Li et al. 2016)."""

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """All batch-norm layers of ``model`` that keep running statistics."""
    return [
        m
        for m in model.modules()
        if isinstance(m, _BatchNorm) and m.running_mean is not None
    ]


@torch.no_grad()
def estimate_batch_norm(
    model: nn.Module,
    batches: Iterable,
    forward: Callable[[object], object],
    images: Callable[[object], int] = lambda batch: 1,
) -> int:
    """Replace running means and variances by those of ``batches``.

    The statistics are reset and become the average over all batches; no weight is
    trained and no label is read. Only batch-norm layers are in training mode
    meanwhile; afterwards every module is in the mode it was in before.

    Args:
        model: The network whose statistics are replaced, in place.
        batches: What ``forward`` is called with, one by one.
        forward: Runs the network on one batch; its result is thrown away.
        images: How much a batch counts [all the same]; its number of images, where the
            last one has fewer.

    Returns:
        Number of batch-norm layers; 0 means that there was nothing to adapt and that
        no batch was run.
    """
    layers = batch_norms(model)
    if not layers:
        return 0
    modes = {module: module.training for module in model.modules()}
    momenta = [layer.momentum for layer in layers]
    model.eval()
    weight, seen = 1, dict.fromkeys(layers, 0)

    def average(layer: _BatchNorm, _) -> None:
        seen[layer] += weight  # at each call: a head answers for several levels
        layer.momentum = weight / seen[layer]

    hooks = [layer.register_forward_pre_hook(average) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.train()
    try:
        for batch in batches:
            weight = images(batch)
            forward(batch)
    finally:
        for hook in hooks:
            hook.remove()
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    return len(layers)
