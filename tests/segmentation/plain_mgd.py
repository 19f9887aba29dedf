"""MGD: a step of ours and the shortest loop of plain torch."""

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain
from tests.segmentation.small_segmentor import MEAN, STD, segmentor, street


def boxes(count: int, height: int, width: int) -> Tensor:
    """Three boxes an image, loop by loop; a pixel in two of them is out again."""
    area = np.random.uniform(0.25, 0.5, (count, 3))
    tall = np.exp(np.random.uniform(0, 1, (count, 3)) * np.log(area))
    sides = np.stack([tall, area / tall], -1) / np.sqrt(3)
    sides = np.round(sides * (height, width))
    start = np.round(((height, width) - sides) * np.random.uniform(size=sides.shape))
    masks = np.zeros((count, height, width), bool)
    for mask, places, lengths in zip(masks, start, sides, strict=True):
        for (y, x), (h, w) in zip(places.astype(int), lengths.astype(int), strict=True):
            mask[y : y + h, x : x + w] ^= True
    return torch.from_numpy(masks)


def pair() -> Pair:
    """The student's step: 2 labelled, 4 unlabelled images."""
    nets = dict(student=segmentor(), wide=segmentor(64), deep=segmentor(32))
    model = build("MGD", **nets)
    model.enter_stage("distill")
    twin = copy.deepcopy(model)
    images, y = street(6)
    labelled = torch.arange(6) < 2
    x, u0, u1, truth = images[:2], images[2:4], images[4:], y[:2]
    truth[:, :, 120:] = 255

    def answer(net: nn.Module, raw: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
        f = net.decode_head._forward_feature(net.backbone((raw.flip(1) - mean) / std))
        z = F.interpolate(net.decode_head.conv_seg(f), (64, 128), mode="bilinear")
        return z, f

    def cosines(f: Tensor) -> Tensor:
        v = F.adaptive_avg_pool2d(f, 7).flatten(2)
        v = v / v.norm(dim=1, keepdim=True).clamp(min=1e-6)
        return v.transpose(1, 2) @ v

    def mathematics() -> Tensor:
        m = boxes(2, 64, 128)
        u = torch.where(m[:, None], u1, u0)
        with torch.no_grad():
            labels, known = [], []
            for net in (twin.wide, twin.deep):
                z = answer(net, torch.cat([u0, u1, x]))[0].argmax(1)
                labels.append(torch.where(m, z[2:4], z[:2]))
                known.append(z[4:].masked_fill(truth == 255, 255))
            f_w, z_d = answer(twin.wide, u)[1], answer(twin.deep, u)[0]
        z, f = answer(twin.student, u)
        total = sum(F.cross_entropy(z, label) for label in labels)
        total = total + 0.002 * (z.mean((2, 3)) - z_d.mean((2, 3))).abs().sum()
        total = total + 100 * F.mse_loss(cosines(f), cosines(f_w))
        z = answer(twin.student, x)[0]
        for label in (truth, *known):
            total = total + F.cross_entropy(z, label, ignore_index=255)
        return total

    batch = dict(inputs=images, targets=y, labelled=labelled)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("MGD", "2 + 4 images of 64 x 128", model, twin, *sides)
