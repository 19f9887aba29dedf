"""KD-Prune: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, conv_net, ours, plain


def pair() -> Pair:
    """Two convolutional networks on 32 x 32 images."""
    student, teacher = conv_net(64, 128, 256), conv_net(64, 128, 256, 512)
    model = build("KDPrune", student=student, teachers=[teacher])
    twin = copy.deepcopy(model)
    x, y = torch.randn(32, 3, 32, 32), torch.arange(32) % 10

    def mathematics() -> Tensor:
        z_s = twin.student(x)
        with torch.no_grad():
            log_t = (twin.teachers[0](x) / 4).log_softmax(1)
        apart = (log_t.exp() * (log_t - (z_s / 4).log_softmax(1))).sum(1).mean()
        return 0.1 * F.cross_entropy(z_s, y) + 0.9 * 16 * apart

    sides = ours(model, dict(inputs=x, targets=y)), plain(twin, mathematics)
    return Pair("KD-Prune", "32 images of 32 x 32", model, twin, *sides)
