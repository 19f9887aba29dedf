"""SSLD: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor

from pld_mmdet.benchmark.pairs import Pair, build, conv_net, ours, plain


def pair() -> Pair:
    """Two convolutional networks on 32 x 32 images, running statistics."""
    student, teacher = conv_net(64, 128, 256), conv_net(64, 128, 256, 512)
    settings = dict(student=student, teachers=[teacher], teacher_statistics="running")
    model = build("SSLD", **settings)
    twin = copy.deepcopy(model)
    x = torch.randn(32, 3, 32, 32)

    def mathematics() -> Tensor:
        with torch.no_grad():
            log_t = twin.teachers[0](x).log_softmax(1)
        log_s = twin.student(x).log_softmax(1)
        # both divergences together: (p_t - p_s) (log p_t - log p_s)
        both = (log_t.exp() - log_s.exp()) * (log_t - log_s)
        return both.sum(1).mean() / 2

    sides = ours(model, dict(inputs=x)), plain(twin, mathematics)
    return Pair("SSLD", "32 images of 32 x 32", model, twin, *sides)
