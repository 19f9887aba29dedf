"""DHO: a step of ours and the shortest loop of plain torch."""

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


def pair() -> Pair:
    """DHO with as many labelled as unlabelled images."""
    student, teacher = conv_net(64, 128, 256), conv_net(64, 128, 256, 384)
    model = build("DHO", student=student, teacher=teacher, num_classes=10)
    twin = copy.deepcopy(model)
    x, y = torch.randn(32, 3, 32, 32), torch.arange(32) % 10
    y[16:] = -1
    known, unknown = slice(0, 16), slice(16, 32)

    def mathematics() -> Tensor:
        f = twin.student.features(x)
        a, k = twin.ce_head(f), twin.kd_head(f)
        with torch.no_grad():
            p_t = (twin.teacher(x) / 2).softmax(1)
        log_k = (k / 2).log_softmax(1)
        kd = sum(
            F.kl_div(log_k[part], p_t[part], reduction="batchmean")
            for part in (known, unknown)
        )
        return 0.5 * F.cross_entropy(a[known], y[known]) + 0.5 * 2**2 * kd

    batch = dict(inputs=x, targets=y)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("DHO", "16 + 16 images of 32 x 32", model, twin, *sides)
