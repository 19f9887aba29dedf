"""Random teachers: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, conv_net, ours, plain


def pair() -> Pair:
    """32 images of 32 x 32; a student of its own draw."""
    student = dict(
        type="pld_mmdet.HeadedEncoder",
        encoder=conv_net(64, 128, 256, 512),
        hidden=256,
        bottleneck=64,
        outputs=512,
    )
    model = build("RandomTeachers", student=student, alpha=0.7, tau_student=0.05)
    twin = copy.deepcopy(model)
    x = torch.rand(32, 3, 32, 32)

    def answer(network: torch.nn.Module) -> Tensor:
        unit = F.normalize(network.head(network.encoder.backbone(x)), dim=1)
        return unit @ F.normalize(network.last.weight, dim=1).T

    def mathematics() -> Tensor:
        with torch.no_grad():
            target = answer(twin.teacher.network).softmax(1)
        return F.cross_entropy(answer(twin.student) / 0.05, target)

    sides = ours(model, dict(inputs=x)), plain(twin, mathematics)
    return Pair("Random teachers", "32 images of 32 x 32", model, twin, *sides)
