"""AGMM: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain
from tests.segmentation.small_segmentor import MEAN, STD, segmentor, street


def pair() -> Pair:
    """Points on two images, two classes in no image, some padding."""
    model = build("AGMM", segmentor=segmentor())
    twin = copy.deepcopy(model)
    images, y = street(2)
    labels = torch.full_like(y, 254)
    for place in range(0, 8192, 211):  # 39 points
        labels.view(2, -1)[:, place] = y.view(2, -1)[:, place] % 5
    labels[:, :, 120:] = 255
    present = torch.arange(7).expand(2, 7) < 5

    def mathematics() -> Tensor:
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
        head = twin.student.decode_head
        f = head._forward_feature(twin.student.backbone((images.flip(1) - mean) / std))
        z = F.interpolate(head.conv_seg(f), (64, 128), mode="bilinear")
        up = F.interpolate(f, (64, 128), mode="bilinear")
        p, pixels, known = z.softmax(1), labels != 255, labels < 254
        ce = F.cross_entropy(z, labels.where(known, 255), ignore_index=255)
        absent = -((1 - p + 1e-6).log() * ~present[:, :, None, None]).sum(1)
        hot = (labels[:, None] == torch.arange(7).view(7, 1, 1)).float()
        here = (hot.sum((2, 3)) > 0).float()
        total = torch.einsum("bchw,bdhw->bcd", hot, up)
        mu = total / (hot.sum((2, 3))[..., None] + 1e-6)
        d = (f[:, None] - mu[..., None, None]).abs().mean(2)
        inside = F.interpolate(pixels[:, None].float(), f.shape[2:], mode="bilinear")
        d = d * inside
        g = F.interpolate((-d * d).exp(), (64, 128), mode="bilinear")
        g = g * here[..., None, None]

        def bce(a: Tensor, t: Tensor) -> Tensor:
            value = -(t * (a + 1e-6).log() + (1 - t) * (1 - a + 1e-6).log()) / 2
            return (value * here[..., None, None]).sum(1) / here.sum(1)[:, None, None]

        v = mu.sum(0)[here.sum(0) > 0]
        near = (-((v[:, None] - v).abs().mean(2) ** 2)).exp()
        pairs = near[torch.ones_like(near).triu(1) > 0]
        mixture = bce(p, g)[pixels].mean() + bce(g, hot)[known].mean()
        return ce + absent[pixels].mean() + mixture + pairs.mean()

    batch = dict(inputs=images, targets=labels, present=present)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("AGMM", "2 images of 64 x 128, points", model, twin, *sides)
