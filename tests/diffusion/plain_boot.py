"""BOOT: a step of ours and the shortest loop of plain torch."""

import copy
import math

import torch
from torch import Tensor

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain
from pld_mmdet.engine.run.progress import Progress


def pair() -> Pair:
    """BOOT: three steps of a student that is not quite its teacher."""
    mlp = dict(type="pld_mmdet.TimeMLP", dim=64, width=640, depth=4)
    process = dict(type="pld_mmdet.CosineProcess", predicts="x0")
    model = build("BOOT", process=process, network=mlp, teacher=mlp, weight=0.05)
    model.progress = Progress(step=1, steps=10)
    torch.nn.init.normal_(model.student.last.bias, std=0.1)
    twin = copy.deepcopy(model)
    g, f, zeros = twin.student, twin.teacher.network, torch.zeros(64, 64)

    def loss() -> Tensor:
        eps = torch.randn(64, 64)
        t = 0.03 + 0.96 * torch.rand(64)
        s = t - 0.02
        with torch.no_grad():
            y = g(eps, t, None)
            angle = (math.pi / 2 * t)[:, None]
            x0 = f(angle.cos() * y + angle.sin() * eps, t, None)
            r = (math.pi / 2 * s)[:, None].tan() / angle.tan()
            goal = y + (1 - r) * (x0 - y)
            end = torch.full((64,), 0.99)
            anchor = f(eps, end, None)
        error = ((g(eps, s, None) - goal) / (1 - r)).square().mean()
        return 0.05 * error + (g(eps, end, None) - anchor).square().mean()

    step, other = ours(model, dict(inputs=zeros)), plain(twin, loss)
    return Pair("BOOT", "64 vectors of 64", model, twin, step, other)
