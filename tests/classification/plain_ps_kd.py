"""PS-KD: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import (
    Pair,
    build,
    conv_net,
    ours,
    plain,
)
from pld_mmdet.engine.run.progress import Progress


def pair() -> Pair:
    """PS-KD in the sixth epoch of ten."""
    network = conv_net(64, 128, 256, 384)
    model = build("PSKD", network=network, num_samples=1000, num_classes=10)
    model.bank.rows.copy_(torch.rand(1000, 10).softmax(1))
    model.progress = Progress(steps=10, epoch=5, epochs=10)
    twin = copy.deepcopy(model)
    x, y, index = torch.randn(32, 3, 32, 32), torch.arange(32) % 10, torch.arange(32)
    past, alpha = twin.bank.rows, 0.8 * 6 / 10

    def mathematics() -> Tensor:
        log_p = twin.network(x).log_softmax(1)
        soft = (1 - alpha) * F.one_hot(y, 10) + alpha * past[index]
        past[index] = log_p.detach().exp()
        return -(soft * log_p).sum(1).mean()

    batch = dict(inputs=x, targets=y, index=index)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("PS-KD", "32 images of 32 x 32", model, twin, *sides)
