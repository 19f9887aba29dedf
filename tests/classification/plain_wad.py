"""WAD: a step of a round and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, conv_net, ours, plain
from pld_mmdet.shared.views import weak


def pair() -> Pair:
    """16 labelled and 16 weighted images of 32 x 32."""
    settings = dict(num_classes=10, num_samples=32)
    student, teacher = conv_net(64, 128, 256, 512), conv_net(16)
    model = build("WAD", student=student, teacher=teacher, **settings)
    twin = copy.deepcopy(model)
    x, y = torch.rand(32, 3, 32, 32), torch.arange(32) % 10
    weight = torch.rand(32)
    batch = dict(inputs=x, targets=y, weight=weight, labelled=torch.arange(32) < 16)

    def mathematics() -> Tensor:
        view = weak(x, 2)
        view = view + 0.15 * torch.randn_like(view)
        known = F.cross_entropy(twin.student(view[:16]), y[:16])
        rows = F.cross_entropy(twin.student(view[16:]), y[16:], reduction="none")
        return known + (weight[16:] * rows).mean()

    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("WAD", "16 + 16 images of 32 x 32", model, twin, *sides)
