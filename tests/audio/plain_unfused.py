"""UnFuSeD: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.audio.networks.features import log_mel
from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
    """The stage of pseudo-labels on 32 sounds; windows as whole as they come."""
    model = build(
        "UnFuSeD",
        encoder=dict(type="pld_mmdet.AudioNTT", dim=512, dropout=0.0),
        num_samples=32,
        num_classes=8,
        background=0.0,
    )
    model.labels.copy_(torch.arange(32))
    model.enter_stage("unfused")
    model.train()
    twin = copy.deepcopy(model)
    waves = torch.randn(32, 15200)
    net = twin.student

    def view() -> Tensor:
        mel = log_mel(waves, 16000, 1024, 160, 64).transpose(1, 2)
        draw = torch.rand(2, 2, 32)
        canvas = torch.tensor([[1.0], [1.5]])
        size = torch.minimum(0.6 + 0.9 * draw[0], canvas)
        middle = (canvas - size) * (2 * draw[1] - 1)
        theta = torch.zeros(32, 2, 3)
        theta[:, 0, 0], theta[:, 0, 2] = size[1], middle[1]
        theta[:, 1, 1], theta[:, 1, 2] = size[0], middle[0]
        images = ((mel + 5) / 4.5)[:, None]
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bicubic", align_corners=False)

    def mathematics() -> Tensor:
        x, means = view(), []
        for block in net.blocks:
            x = block(x)
            means.append(x.mean(3).flatten(1))
        frames = net.fc(x.permute(0, 3, 1, 2).flatten(2))
        deep = twin.classifier(frames.amax(1) + frames.mean(1))
        y = torch.arange(32)
        total, fixed = F.cross_entropy(deep, y), deep.detach()
        for head, mean in zip(twin.shallow, means, strict=True):
            z = head(mean)
            log_q = z.log_softmax(1)
            apart = F.kl_div(log_q, fixed.softmax(1), reduction="batchmean")
            cos = (F.normalize(z) * F.normalize(fixed)).sum(1)
            total = total + 0.7 * F.nll_loss(log_q, y) + 0.3 * apart
            total = total + 0.003 * (2 - 2 * cos).mean()
        return total

    batch = dict(inputs=waves, index=torch.arange(32))
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("UnFuSeD", "32 sounds of 0.95 s", model, twin, *sides)
