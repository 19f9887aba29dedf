"""Self-distillation: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, conv_net, ours, plain


def pair() -> Pair:
    """The second step of the chain: a network learns from its like."""
    model = build("SelfDistillationChain", student=conv_net(64, 128, 256, 512))
    model.progress.stage = "fit_2"
    twin = copy.deepcopy(model)
    x, y = torch.randn(32, 3, 32, 32), torch.arange(32) % 10

    def mathematics() -> Tensor:
        p = twin.student(x).softmax(1)
        with torch.no_grad():
            p_t = twin.teacher.network(x).softmax(1)
        truth = (p - F.one_hot(y, 10)).square().mean()
        return 0.6 * truth + 0.4 * (p - p_t).square().mean()

    sides = ours(model, dict(inputs=x, targets=y)), plain(twin, mathematics)
    return Pair("Self-distillation", "32 images of 32 x 32", model, twin, *sides)
