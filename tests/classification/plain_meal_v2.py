"""MEAL V2: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, conv_net, ours, plain


def pair() -> Pair:
    """A student and two teachers on 32 x 32 images."""
    student, teacher = conv_net(64, 128, 256), conv_net(64, 128, 256, 512)
    model = build("MEALV2", student=student, teachers=[teacher] * 2, num_classes=10)
    twin = copy.deepcopy(model)
    x = torch.randn(32, 3, 32, 32)
    target = torch.cat([torch.eye(2)[:1].repeat(32, 1), torch.eye(2)[1:].repeat(32, 1)])

    def mathematics() -> Tensor:
        z_s = twin.student(x)
        with torch.no_grad():
            z_1, z_2 = (teacher(x) for teacher in twin.teachers)
            p_t = (z_1.softmax(1) + z_2.softmax(1)) / 2
        judged = twin.discriminator(torch.cat([z_s, (z_1 + z_2) / 2]))
        apart = F.binary_cross_entropy_with_logits(judged, target)
        return F.cross_entropy(z_s, p_t) + apart

    sides = ours(model, dict(inputs=x)), plain(twin, mathematics)
    return Pair("MEAL V2", "32 images of 32 x 32", model, twin, *sides)
