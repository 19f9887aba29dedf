"""CV-DD: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, conv_net, ours, plain


def pair() -> Pair:
    """The student's step: stored views, half a batch at a time."""
    model = build(
        "CVDD",
        student=conv_net(64, 128, 256, 512),
        teachers=[conv_net(16), conv_net(16)],
        image_shape=(3, 32, 32),
        num_classes=10,
        priors=(60.0, 50.0),
        ipc=1,
    )
    twin = copy.deepcopy(model)
    x, soft = torch.rand(32, 3, 32, 32), 9 * torch.randn(32, 10)

    def mathematics() -> Tensor:
        total = 0.0
        for half in (slice(0, 16), slice(16, 32)):
            log_q = (twin.student(x[half]) / 20).log_softmax(1)
            p = (soft[half] / 20).softmax(1)
            total = total + F.kl_div(log_q, p, reduction="batchmean") / 2
        return total

    sides = ours(model, dict(inputs=x, targets=soft)), plain(twin, mathematics)
    return Pair("CV-DD", "32 views of 32 x 32", model, twin, *sides)
