"""HIAST: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import (
    Pair,
    build,
    ours,
    plain,
)
from tests.segmentation.small_segmentor import segment, segmentor, street


def pair() -> Pair:
    """A round of HIAST; 30 % of the pixels have no label."""
    model = build("HIAST", segmentor=segmentor(), adversarial=0.0, per="pixel")
    model.enter_stage("round_1")
    twin = copy.deepcopy(model)
    weak, y = street(2)
    strong = 255 - weak
    y[:, :20] = 255

    def mathematics() -> Tensor:
        log_p = segment(twin.student, strong).log_softmax(1)
        with torch.no_grad():
            e = segment(twin.teacher, weak).softmax(1)
        sure = y != 255
        p = log_p.exp()
        smooth = -log_p.mean(1)[sure].mean()
        sharpen = -(p * log_p).sum(1)[~sure].mean()
        agree = -(e * log_p).sum(1)[~sure].mean()
        ce = F.nll_loss(log_p, y, ignore_index=255)
        return ce + 0.1 * smooth + sharpen + 0.5 * agree

    batch = dict(weak=weak, strong=strong, targets=y)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("HIAST", "2 images of 64 x 128", model, twin, *sides)
