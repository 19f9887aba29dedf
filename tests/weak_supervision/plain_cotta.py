"""CoTTA: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, descend, ours, sgd


def pair() -> Pair:
    """CoTTA with eight views; how a view is made is the same code on both sides."""
    network = dict(type="pld_mmdet.WideResNet", depth=10, widen=4)
    model = build("CoTTA", network=network, views=8)
    twin = copy.deepcopy(model)
    x, y = torch.rand(4, 3, 32, 32), torch.arange(4)
    student, teacher, anchor, view = (
        twin.student,
        twin.teacher.network,
        twin.anchor.network,
        twin.augment,
    )
    optimizer = sgd(student)

    def step() -> None:
        with torch.no_grad():
            if anchor(x).softmax(1).amax(1).mean() < 0.92:
                answer = sum(teacher(view(x)) for _ in range(8)) / 8
            else:
                answer = teacher(x)
        descend(optimizer, F.cross_entropy(student(x), answer.softmax(1)))
        networks = (student, teacher, anchor)
        with torch.no_grad():
            for s, t, a in zip(*(n.parameters() for n in networks), strict=True):
                t.lerp_(s, 1 - 0.999)
                s.copy_(torch.where(torch.rand_like(s) < 0.01, a, s))

    batch = dict(inputs=x, targets=y)
    sides = ours(model, batch), step
    return Pair("CoTTA", "4 images of 32 x 32, 8 views", model, twin, *sides)
