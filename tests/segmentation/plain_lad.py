"""LAD: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain
from tests.segmentation.small_segmentor import MEAN, STD, segmentor, street


def pair() -> Pair:
    """The teacher's step, the longer one: two codes of each label."""
    model = build("LAD", student=segmentor())
    model.enter_stage("teacher")
    twin = copy.deepcopy(model)
    images, y = street(2)
    y[:, :, 120:] = 255
    backbone, head = twin.teacher.backbone, twin.teacher.decode_head

    def ask(channel: Tensor) -> Tensor:
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
        x = torch.cat([(images.flip(1) - mean) / std, channel], 1)
        return head(backbone(x))

    def cwd(s: Tensor, t: Tensor) -> Tensor:
        s, t = (m.flatten(2) / 4 for m in (s, t.detach()))
        apart = F.kl_div(s.log_softmax(-1), t.softmax(-1), reduction="sum")
        return 16 * apart / (s.shape[0] * s.shape[1])

    def mathematics() -> Tensor:
        answers, total = [], 0.0
        for _ in range(2):
            value = torch.randn(2, 8)
            index = y.where(y != 255, 7)
            code = torch.stack([v[i] for v, i in zip(value, index, strict=True)])
            code = 1.5 * (code + 0.03 * torch.randn(2, 64, 128))
            z = ask(code[:, None])
            answers.append(z)
            full = F.interpolate(z, (64, 128), mode="bilinear")
            total = total + F.cross_entropy(full, y, ignore_index=255)
        one, two = answers
        return total + 5 * (cwd(one, two) + cwd(two, one))

    batch = dict(inputs=images, targets=y)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("LAD", "2 images of 64 x 128, teacher's stage", model, twin, *sides)
