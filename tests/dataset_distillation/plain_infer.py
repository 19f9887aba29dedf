"""INFER: a step of ours and the shortest loop of plain torch."""

import copy

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, conv_net, ours, plain


def pair() -> Pair:
    """The student's step with labels of the mixed batch, by two networks."""
    model = build(
        "INFER",
        student=conv_net(64, 128, 256, 512),
        teachers=[conv_net(16, 32), conv_net(16)],
        image_shape=(3, 32, 32),
        num_classes=10,
        labels="dynamic",
        padding=0,
    )
    twin = copy.deepcopy(model)
    x = torch.rand(32, 3, 32, 32)
    batch = dict(inputs=x, targets=torch.zeros(32, 10), classes=torch.zeros(32).long())

    def mathematics() -> Tensor:
        torch.randint(1, (2, 32, 1))  # where ours crops
        flip = torch.rand(32, 1, 1, 1) < 0.5
        view = torch.where(flip, x.flip(-1), x)
        lam = np.random.beta(0.8, 0.8)
        mixed = lam * view + (1 - lam) * view[torch.randperm(32)]
        with torch.no_grad():
            soft = sum(network(mixed) for network in twin.teachers) / 2
        p = (soft / 30).softmax(1)
        log_q = (twin.student(mixed) / 30).log_softmax(1)
        return F.kl_div(log_q, p, reduction="batchmean")

    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("INFER", "32 images of 32 x 32", model, twin, *sides)
