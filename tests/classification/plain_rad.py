"""RAD: a step on bought labels and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor

from pld_mmdet.benchmark.pairs import Pair, build, conv_net, ours, plain


def pair() -> Pair:
    """Two convolutional networks on 32 x 32 images."""
    model = build(
        "RAD",
        student=conv_net(64, 128, 256, 512),
        teachers=[conv_net(16)],
        num_samples=100,
        num_classes=10,
        batch=10,
        budget=20,
    )
    twin = copy.deepcopy(model)
    x, soft = torch.randn(32, 3, 32, 32), torch.randn(32, 10).softmax(1)

    def mathematics() -> Tensor:
        return -(soft * twin.student(x).log_softmax(1)).sum(1).mean()

    batch = dict(inputs=x, targets=soft.argmax(1), soft=soft)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("RAD", "32 images of 32 x 32", model, twin, *sides)
