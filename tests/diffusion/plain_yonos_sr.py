"""YONOS-SR: a step of scale distillation of ours and in plain torch."""

import copy
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain
from pld_mmdet.engine.run.progress import Progress


def pair() -> Pair:
    """YONOS-SR: x4 from x2, pixels."""
    net = dict(
        type="pld_mmdet.Beside",
        network=dict(
            type="pld_mmdet.ConvDenoiser",
            channels=6,
            out_channels=3,
            width=192,
            depth=2,
        ),
    )
    model = build(
        "YonosSR",
        process=dict(type="pld_mmdet.CosineProcess", predicts="x0"),
        network=net,
        teacher=net,
        space=dict(type="pld_mmdet.PixelSpace", width=0),
    )
    model.progress = Progress(step=1, steps=10)
    torch.nn.init.normal_(model.student.network.last.bias, std=0.1)
    twin = copy.deepcopy(model)
    images = torch.rand(4, 3, 16, 16)

    def low(factor: int) -> Tensor:
        small = F.avg_pool2d(2 * images - 1, factor)
        return small.repeat_interleave(factor, 2).repeat_interleave(factor, 3)

    def loss() -> Tensor:
        t = 0.01 + 0.98 * torch.rand(4)
        angle = (math.pi / 2 * t)[:, None, None, None]
        noise = torch.randn_like(images)
        z = angle.cos() * (2 * images - 1) + angle.sin() * noise
        with torch.no_grad():
            goal = twin.teacher.network.network(torch.cat([z, low(2)], 1), t)
        guess = twin.student.network(torch.cat([z, low(4)], 1), t)
        return F.mse_loss(guess, goal)

    step, other = ours(model, dict(inputs=images)), plain(twin, loss)
    setting = "4 images of 16 x 16"
    return Pair("YONOS-SR", setting, model, twin, step, other)
