"""SemiOVS: a step of ours and the shortest loop of plain torch."""

import copy

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain
from tests.segmentation.small_segmentor import MEAN, STD, segment, segmentor, street


def box(height: int, width: int) -> Tensor:
    """UniMatch's box, or none."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    if np.random.uniform() > 0.5:
        return mask
    area = np.random.uniform(0.02, 0.4) * height * width
    while True:
        ratio = np.random.uniform(0.3, 1 / 0.3)
        w, h = int((area / ratio) ** 0.5), int((area * ratio) ** 0.5)
        x, y = np.random.randint(width), np.random.randint(height)
        if x + w <= width and y + h <= height:
            break
    mask[y : y + h, x : x + w] = True
    return mask


def pair() -> Pair:
    """One labelled, one pair of unlabelled and one foreign image."""
    model = build("SemiOVS", segmentor=segmentor(), threshold=0.2)
    twin = copy.deepcopy(model)
    weak, y = street(4)
    strong = [255 - weak, weak.flip(3)]
    y[1:3] = 0
    y[:, :, 120:] = 255
    net = twin.student

    def mathematics() -> Tensor:
        boxes = [box(64, 128)[None] for _ in (1, 2)]
        x, u, other, o = weak.split(1)
        valid = (y != 255).split(1)
        with torch.no_grad():
            net.eval()
            conf_2, label_2 = segment(net, other).softmax(1).max(1)
            net.train()
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
        maps = net.backbone((torch.cat([x, u, o]).flip(1) - mean) / std)
        both = [
            torch.cat([m, m if n == 1 else F.dropout2d(m, 0.5)])
            for n, m in enumerate(maps)
        ]
        z = F.interpolate(net.decode_head(both), (64, 128), mode="bilinear").split(1)
        conf, label = z[1].detach().softmax(1).max(1)
        label_o, sure = y[3:].where(valid[3], 0), torch.ones_like(conf)

        def term(logits: Tensor, label: Tensor, conf: Tensor, valid: Tensor) -> Tensor:
            loss = F.cross_entropy(logits, label, reduction="none")
            return (loss * ((conf >= 0.2) & valid)).sum() / valid.sum()

        u_s = [
            torch.where(m[:, None], s[2:3], s[1:2])
            for s, m in zip(strong, boxes, strict=True)
        ]
        o_s = [
            torch.where(m[:, None], s[1:2], s[3:])
            for s, m in zip(strong, boxes, strict=True)
        ]
        z_u, z_o = (segment(net, torch.cat(part)).split(1) for part in (u_s, o_s))
        l_u = term(z[4], label, conf, valid[1]) / 2
        l_o = term(z[5], label_o, sure, valid[3]) / 2
        for n, m in enumerate(boxes):
            mixed = [
                torch.where(m, b, a)
                for a, b in ((label, label_2), (conf, conf_2), (valid[1], valid[2]))
            ]
            l_u = l_u + term(z_u[n], *mixed) / 4
            mixed = [
                torch.where(m, b, a)
                for a, b in ((label_o, label), (sure, conf), (valid[3], valid[1]))
            ]
            l_o = l_o + term(z_o[n], *mixed) / 4
        return (F.cross_entropy(z[0], y[:1], ignore_index=255) + l_u + l_o) / 3

    batch = dict(inputs=weak, strong_1=strong[0], strong_2=strong[1], targets=y)
    batch["source"] = torch.tensor([0, 1, 1, 2])
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("SemiOVS", "1 + 2 + 1 images of 64 x 128", model, twin, *sides)
