"""FST: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import (
    Pair,
    build,
    descend,
    ours,
    sgd,
)
from tests.segmentation.small_segmentor import boxes, segment, segmentor, street


def pair() -> Pair:
    """FST-D of depth 3 around CutMix self-training: four steps an iteration."""
    learner = dict(
        type="pld_mmdet.CutMixSelfTraining", segmentor=segmentor(), cutmix=1.0
    )
    model = build("FST", learner=learner, depth=3, mu=0.99, buffers="keep")
    model.t.fill_(1000)  # the average is warm
    twin = copy.deepcopy(model)
    inputs, y = street(4)
    labelled = torch.tensor([True, True, False, False])
    known, unknown, truth = inputs[:2], inputs[2:], y[:2]
    student, teacher = twin.student, twin.teacher
    optimizer = sgd(student, momentum=0.9)

    def loss() -> Tensor:
        with torch.no_grad():
            label = segment(teacher, unknown).argmax(1)
            box = boxes(2, 64, 128)
            mixed = torch.where(box[:, None], unknown.roll(-1, 0), unknown)
            label = torch.where(box, label.roll(-1, 0), label)
            both = torch.cat([known, mixed])
            teacher.train()
            log_p = segment(teacher, both)[2:].log_softmax(1)
            teacher.eval()
            doubt = -(log_p.exp() * log_p).sum(1)
            kept = doubt < doubt.flatten().quantile(0.8)
            label = label.where(kept, 255)
        logits = segment(student, both)
        ce = F.cross_entropy(logits[:2], truth)
        pseudo = F.cross_entropy(logits[2:], label, ignore_index=255)
        return ce + kept.numel() / kept.sum() * pseudo

    def iteration() -> None:
        here = [*student.state_dict().values()]
        state = optimizer.state
        before = [tensor.clone() for tensor in here]
        moments = {p: s["momentum_buffer"].clone() for p, s in state.items()}
        for number in range(4):
            for t, s in zip(teacher.parameters(), student.parameters(), strict=True):
                t.data.lerp_(s.data, 0.01)
            if number == 3:
                for tensor, old in zip(here, before, strict=True):
                    tensor.copy_(old)
                state.clear()
                state.update({p: dict(momentum_buffer=m) for p, m in moments.items()})
            descend(optimizer, loss())

    batch = dict(inputs=inputs, targets=y, labelled=labelled)
    sides = ours(model, batch, momentum=0.9), iteration
    return Pair("FST", "2 + 2 images of 64 x 128, depth 3", model, twin, *sides)
