"""BD-KD: a step of ours and the shortest loop of plain torch."""

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
    """BD-KD with two convolutional networks on 32 x 32 images."""
    student, teacher = conv_net(64, 128, 256), conv_net(64, 128, 256, 512)
    model = build("BDKD", student=student, teacher=teacher)
    twin = copy.deepcopy(model)
    x, y = torch.randn(64, 3, 32, 32), torch.arange(64) % 10

    def mathematics() -> Tensor:
        z_s, z_t = twin.student(x), twin.teacher(x)
        log_s, log_t = z_s.log_softmax(1), z_t.log_softmax(1)
        p_s, p_t = log_s.exp(), log_t.exp()
        sharper = (p_s * log_s).sum(1) > (p_t * log_t).sum(1)
        forward = (p_t.detach() * (log_t.detach() - log_s)).sum(1)
        reverse = (p_s * (log_s - log_t.detach())).sum(1)
        apart = torch.where(sharper, 2 * forward + reverse, forward + 2 * reverse)
        back = (p_s.detach() * (log_s.detach() - log_t)).sum(1)
        ce = F.cross_entropy(z_s, y) + F.cross_entropy(z_t, y)
        return ce + apart.mean() + back.mean()

    batch = dict(inputs=x, targets=y)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("BD-KD", "64 images of 32 x 32", model, twin, *sides)
