"""FerKD: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, conv_net, ours, plain


def pair() -> Pair:
    """A student on the one stored region of each of 32 images."""
    student, teacher = conv_net(64, 128, 256, 512), conv_net(16)
    settings = dict(num_samples=32, num_classes=10, crops=1, visits=1)
    model = build("FerKD", student=student, teachers=[teacher], **settings)
    x, y = torch.randn(32, 3, 32, 32), torch.arange(32) % 10
    batch = dict(inputs=x, targets=y, index=torch.arange(32))
    model.start_stage("distill", [batch], None)
    twin = copy.deepcopy(model)
    low, middle = model.thresholds

    def mathematics() -> Tensor:
        top, tall = twin.boxes[:, 0, 0], twin.boxes[:, 0, 2]
        left, wide = twin.boxes[:, 0, 1], twin.boxes[:, 0, 3]
        theta = torch.zeros(32, 2, 3)
        theta[:, 0, 0] = torch.where(twin.flips[:, 0], -wide, wide)
        theta[:, 0, 2], theta[:, 1, 2] = 2 * left + wide - 1, 2 * top + tall - 1
        theta[:, 1, 1] = tall
        grid = F.affine_grid(theta, [32, 3, 32, 32], align_corners=False)
        crop = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
        sure = twin.top[:, 0]
        soft = ((1 - sure.sum(1, keepdim=True)) / 5).repeat(1, 10)
        soft.scatter_(1, twin.classes[:, 0].long(), sure)
        hard = F.one_hot(y, 10) * (0.9 - 0.1 / 9) + 0.1 / 9
        target = torch.where(sure[:, :1] < middle, hard, soft)
        kept = sure[:, 0] >= low
        each = F.cross_entropy(twin.student(crop), target, reduction="none")
        return (each * kept).sum() / kept.sum()

    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("FerKD", "32 regions of 32 x 32", model, twin, *sides)
