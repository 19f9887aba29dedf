"""LPLD in the released code's order of work: the rival of our own implementation.

Written after the methods of the released code (commit 61192a05), one
image at a time: the teacher predicts; then *all* its proposals are pooled again on the
teacher, with autograd on, and on the student. So three RoI passes run over all
proposals where :class:`pld_mmdet.detection.LPLD` needs one, and the student's pass
carries gradients for rows that are not mined. Nothing of our LPLD is called: equal
values of both are evidence for either.
"""

import copy
import math

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pld_mmdet.benchmark.networks import total
from pld_mmdet.detection.lpld import LPLD


class ReleasedOrder(nn.Module):
    """Losses of one step, image by image.

    Args:
        student: A two-stage detector with a single box head.
        teacher: Likewise; its parameters get gradients that nobody uses, as in the
            release.
        hpl_threshold: Scores strictly above are pseudo ground truth.
        max_iou: Largest overlap of a mined box with a confident one.
        min_certainty: Smallest maximum of the softmax without background.
        max_background: Largest probability of background.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        hpl_threshold: float = 0.7,
        max_iou: float = 0.4,
        min_certainty: float = 0.9,
        max_background: float = 0.99,
    ) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher.eval()
        for ours, theirs in zip(
            teacher.parameters(), student.parameters(), strict=True
        ):
            ours.requires_grad_(theirs.requires_grad)
        self.hpl_threshold = hpl_threshold
        self.max_iou = max_iou
        self.min_certainty = min_certainty
        self.max_background = max_background

    def image_losses(
        self,
        weak: Tensor,
        strong: Tensor,
        weak_sample: DetDataSample,
        strong_sample: DetDataSample,
    ) -> tuple[dict[str, Tensor], int]:
        """Steps 1-9 for one image.

        Args:
            weak: 1 x 3 x H x W.
            strong: 1 x 3 x H x W, the same geometry.
            weak_sample: Its meta information.
            strong_sample: Its meta information.

        Returns:
            The loss dict, and the number of mined rows.
        """
        meta = DetDataSample(metainfo=weak_sample.metainfo)
        with torch.no_grad():  # 1. the teacher predicts
            teacher_maps = self.teacher.extract_feat(weak)
            proposals = self.teacher.rpn_head.predict(
                teacher_maps, [meta], rescale=False
            )
            found = self.teacher.roi_head.predict(
                teacher_maps, proposals, [meta], rescale=False
            )[0]
        high = found[found.scores > self.hpl_threshold]  # 2.
        truth = InstanceData(bboxes=high.bboxes, labels=high.labels)
        sample = DetDataSample(metainfo=strong_sample.metainfo, gt_instances=truth)
        student_maps = self.student.extract_feat(strong)
        losses = self._supervised(student_maps, sample)  # 3.

        boxes = proposals[0].bboxes  # 4. every proposal, again, on both networks
        z_t, d_t, g_t = _pool(self.teacher, teacher_maps, boxes)
        z_s, _, g_s = _pool(self.student, student_maps, boxes)
        losses["loss_lpl"] = boxes.new_zeros(())
        if len(high) == 0:
            return losses, 0
        coder = self.teacher.roi_head.bbox_head.bbox_coder
        decoded = _decode(boxes, z_t, d_t, coder.stds)  # 5.
        uncovered = _iou(decoded, high.bboxes).max(dim=1).values <= self.max_iou  # 6.
        relation = torch.softmax(z_t[:, :-1], dim=1)
        certain = relation.max(dim=1).values >= self.min_certainty  # 7.
        certain &= torch.softmax(z_t, dim=1)[:, -1] <= self.max_background
        kept = uncovered & certain
        if not kept.any():
            return losses, 0
        target = torch.cat(  # 8.
            [relation[kept], torch.full_like(relation[kept][:, :1], 1e-9)], dim=1
        )
        weight = 1 - (_unit(g_s[kept]) * _unit(g_t[kept])).sum(dim=1)  # 9.
        # The release takes the log of a softmax, which is -inf once a logit saturates
        # (random weights do saturate); the log-softmax has the same value elsewhere.
        student = torch.log_softmax(z_s[kept], dim=1)
        divergence = (target * (target.log() - student)).sum(dim=1)
        losses["loss_lpl"] = (weight.detach() * divergence).sum() / kept.sum() / 10
        return losses, int(kept.sum())

    def backward(
        self,
        inputs: dict[str, Tensor],
        samples: dict[str, list[DetDataSample]],
    ) -> None:
        """Gradients of the mean over the images, one image after the other."""
        images = len(inputs["weak"])
        self.teacher.zero_grad(set_to_none=True)
        for n in range(images):
            losses, _ = self.image_losses(
                inputs["weak"][n : n + 1],
                inputs["strong"][n : n + 1],
                samples["weak"][n],
                samples["strong"][n],
            )
            (total(losses) / images).backward()

    def _supervised(
        self, maps: tuple[Tensor, ...], sample: DetDataSample
    ) -> dict[str, Tensor]:
        """The detector's usual four losses, on feature maps that are there already."""
        student = self.student
        objects = copy.deepcopy(sample)
        objects.gt_instances.labels = torch.zeros_like(objects.gt_instances.labels)
        rpn, proposals = student.rpn_head.loss_and_predict(
            maps, [objects], proposal_cfg=student.train_cfg.rpn_proposal
        )
        return {**rpn, **student.roi_head.loss(maps, proposals, [sample])}


def released_rival(model: LPLD) -> ReleasedOrder:
    """The rival with copies of ``model``'s networks and with its thresholds."""
    return ReleasedOrder(
        copy.deepcopy(model.student),
        copy.deepcopy(model.teacher),
        hpl_threshold=model.hpl_threshold,
        max_iou=model.lpl_max_iou,
        min_certainty=model.lpl_min_certainty,
        max_background=model.lpl_max_background,
    )


def _pool(
    detector: nn.Module, maps: tuple[Tensor, ...], boxes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [P, C + 1], deltas, and input of the class layer [P, D]."""
    seen = []
    layer = detector.roi_head.bbox_head.fc_cls
    handle = layer.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    result = detector.roi_head._bbox_forward(maps, bbox2roi([boxes]))
    handle.remove()
    return result["cls_score"], result["bbox_pred"], seen[0]


@torch.no_grad()
def _decode(
    boxes: Tensor, logits: Tensor, deltas: Tensor, stds: tuple[float, ...]
) -> Tensor:
    """The winner's deltas applied, or the proposal itself where background wins."""
    winner = logits.argmax(dim=1)
    rows = torch.nonzero(winner != logits.shape[1] - 1)[:, 0]
    per_class = deltas.reshape(len(deltas), -1, 4)
    column = winner[rows] if per_class.shape[1] > 1 else torch.zeros_like(rows)
    dx, dy, dw, dh = (per_class[rows, column] * deltas.new_tensor(stds)).unbind(1)
    x1, y1, x2, y2 = boxes[rows].unbind(1)
    w, h = x2 - x1, y2 - y1
    x, y = (x1 + x2) / 2 + dx * w, (y1 + y2) / 2 + dy * h
    cap = math.log(1000 / 16)
    w, h = w * dw.clamp(max=cap).exp(), h * dh.clamp(max=cap).exp()
    refined = boxes.clone()
    refined[rows] = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)
    return refined


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """[P, 4], [G, 4] -> [P, G]."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clamp(min=0).prod(dim=2)
    area_a = (a[:, 2:] - a[:, :2]).prod(dim=1)
    area_b = (b[:, 2:] - b[:, :2]).prod(dim=1)
    return both / (area_a[:, None] + area_b[None] - both).clamp(min=1e-9)


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True)
