"""LPLD: low-confidence pseudo label distillation (ECCV 2024).

Numbers and order of work follow the released code (repository LPLD, commit 61192a05).
Deviations, none of which changes a value for the released batch of one image:
the teacher runs without autograd; the KL uses log-softmax, so that a saturated logit
stays finite; the kept rows of all images of a batch are pooled and N counts them all;
the teacher's RoI head runs once and not twice.
"""

import math

import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi, bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

from pld_mmdet.detection.boxes.views import map_to_strong
from pld_mmdet.detection.detectors.teacher_student import PseudoLabels, high_confidence
from pld_mmdet.detection.detectors.two_stage import (
    box_head,
    own_class,
    require_softmax_head,
    run_box_head,
)
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.distill.feature_tap import FeatureTap
from pld_mmdet.registry import MODELS

__all__ = [
    "LPLD",
    "decode_argmax_boxes",
    "feature_distance",
    "high_confidence",
    "lpld_loss",
    "mine_low_confidence",
]

# exp(dw) and exp(dh) are capped so that a stray delta cannot overflow. The released
# decoder caps from above only, mmdet's from both sides.
MAX_LOG_RATIO = math.log(1000.0 / 16)


@torch.no_grad()
def decode_argmax_boxes(
    proposals: Tensor,
    logits: Tensor,
    deltas: Tensor,
    stds: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2),
    means: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0),
) -> Tensor:
    """Each proposal, refined by the deltas of its arg-max class.

    Args:
        proposals: [P, 4] in pixels.
        logits: [P, C + 1], background last.
        deltas: [P, 4C] class-specific, or [P, 4] class-agnostic.
        stds: Normalisation of the deltas.
        means: Normalisation of the deltas.

    Returns:
        [P, 4] boxes, not clipped to the image; the raw proposal where background wins.
    """
    num_classes = logits.shape[1] - 1
    winner = logits.argmax(dim=1)
    foreground = winner < num_classes
    deltas = own_class(deltas, winner.clamp(max=num_classes - 1))
    deltas = deltas * deltas.new_tensor(stds) + deltas.new_tensor(means)
    size = proposals[:, 2:] - proposals[:, :2]
    centre = proposals[:, :2] + 0.5 * size + deltas[:, :2] * size
    half = 0.5 * size * deltas[:, 2:].clamp(max=MAX_LOG_RATIO).exp()
    refined = torch.cat([centre - half, centre + half], dim=1)
    return torch.where(foreground[:, None], refined, proposals)


@torch.no_grad()
def mine_low_confidence(
    logits: Tensor,
    boxes: Tensor,
    high_boxes: Tensor,
    max_iou: float = 0.4,
    min_certainty: float = 0.9,
    max_background: float = 0.99,
    image: Tensor | None = None,
    high_image: Tensor | None = None,
) -> Tensor:
    """Which proposals are low-confidence pseudo labels (LPL).

    A proposal is kept when it overlaps no confident box of its image, when the teacher
    is sure *which* class it would be, and when it is not almost surely background.
    There is no threshold on the class score itself.

    Args:
        logits: [P, C + 1] of the teacher, background last.
        boxes: [P, 4] from :func:`decode_argmax_boxes`.
        high_boxes: [G, 4] confident boxes. With G = 0 nothing is covered; the early
            return of the released code is :class:`LPLD`'s ``mine_without_high``.
        max_iou: Largest IoU with a confident box, inclusive.
        min_certainty: Smallest maximum of the softmax without background, inclusive.
        max_background: Largest probability of background, inclusive.
        image: [P], which image each proposal is of. None: all of one.
        high_image: [G], likewise for the confident boxes.

    Returns:
        bool [P].
    """
    logits = logits.float()
    certain = logits[:, :-1].softmax(1).amax(1) >= min_certainty
    keep = certain & (logits.softmax(1)[:, -1] <= max_background)
    if len(high_boxes) == 0:
        return keep
    overlap = bbox_overlaps(boxes, high_boxes)
    if image is not None:
        overlap.masked_fill_(image[:, None] != high_image, 0.0)
    return keep & (overlap.amax(1) <= max_iou)


@torch.no_grad()
def feature_distance(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """``1 - cosine`` of pooled RoI features: [N, D], [N, D] -> [N] in [0, 2], detached.

    The larger the distance between the two views, the larger the weight.
    """
    return 1.0 - F.cosine_similarity(
        student_features.float(), teacher_features.float(), dim=1
    )


def lpld_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    weight: Tensor | None = None,
    loss_weight: float = 0.1,
) -> Tensor:
    """Distil the teacher's class relation into the student at the mined boxes.

    ``loss_weight / N * sum_i w_i KL(t_i || softmax(z_S,i))``, where ``t_i`` is the
    teacher's softmax *without* background and 1e-9 in the background's place, while
    the student's softmax keeps all columns: that is what pushes its background down.

    Args:
        student_logits: [N, C + 1] of the mined boxes, background last. Gets gradient.
        teacher_logits: [N, C + 1]; detached.
        weight: [N] from :func:`feature_distance`; detached. None counts as 1.
        loss_weight: 0.1 in the released code.

    Returns:
        Scalar; 0 (with a gradient of 0) when N = 0. N is a count, not a sum of weights.
    """
    if len(student_logits) == 0:
        return student_logits.sum()  # of nothing
    with torch.no_grad():
        target = teacher_logits[:, :-1].float().softmax(dim=1)
        target = torch.cat([target, torch.full_like(target[:, :1], 1e-9)], dim=1)
    log_student = student_logits.float().log_softmax(dim=1)
    divergence = F.kl_div(log_student, target, reduction="none").sum(dim=1)
    if weight is not None:
        divergence = divergence * weight.detach()
    return loss_weight * divergence.mean()


@MODELS.register_module()
class LPLD(MeanTeacherSFOD):
    """Mean Teacher plus distillation at low-confidence proposals.

    The teacher's one prediction pass is tapped: its proposals, logits, deltas and the
    input of its classification layer serve the detections and the mining alike. The
    student runs its RoI head on the mined boxes only.

    Args:
        detector: Config of any two-stage mmdet detector with a softmax box head.
        lpl_max_iou: See :func:`mine_low_confidence` (released code: 0.4).
        lpl_min_certainty: See :func:`mine_low_confidence` (released code: 0.9).
        lpl_max_background: See :func:`mine_low_confidence` (released code: 0.99).
        lpl_loss_weight: 0 gives Mean Teacher bit for bit (released code: 0.1).
        mine_without_high: Also mine in images without a confident box. The released
            code returns early there.
        stage: Stage that mines in a cascade of box heads; its own logits and its own
            input boxes are used. Irrelevant for a single head.
        **kwargs: See :class:`MeanTeacherSFOD`.

    Raises:
        UserError: The detector has no proposals or no softmax box head.
    """

    def __init__(
        self,
        detector: dict,
        *,
        lpl_max_iou: float = 0.4,
        lpl_min_certainty: float = 0.9,
        lpl_max_background: float = 0.99,
        lpl_loss_weight: float = 0.1,
        mine_without_high: bool = False,
        stage: int = -1,
        **kwargs,
    ) -> None:
        super().__init__(detector, **kwargs)
        require_softmax_head(self.student, "LPLD", cascade=True, decodes=True)
        self.lpl_max_iou = lpl_max_iou
        self.lpl_min_certainty = lpl_min_certainty
        self.lpl_max_background = lpl_max_background
        self.lpl_loss_weight = lpl_loss_weight
        self.mine_without_high = mine_without_high
        self.stage = stage

    def loss(
        self,
        batch_inputs: dict[str, Tensor],
        batch_data_samples: dict[str, list[DetDataSample]],
    ) -> dict[str, Tensor]:
        """Mean Teacher's losses and ``loss_lpl``; see the base class."""
        if self.lpl_loss_weight == 0:
            return super().loss(batch_inputs, batch_data_samples)
        high, proposals, keep = self._teacher_pass(
            batch_inputs["weak"], batch_data_samples["weak"]
        )
        low = proposals[keep.nonzero().squeeze(1)]  # one wait for the GPU, not seven
        self._count(high=high, low=_by_image(low, len(high)))
        extractor, _ = box_head(self.student, self.stage)
        with FeatureTap(extractor=extractor) as tap:
            losses = self.student_loss(high, batch_inputs, batch_data_samples)
        if tap.called("extractor") and len(low):
            features = tap.inputs("extractor")[0]
            losses["loss_lpl"] = self._distil(features, low, batch_data_samples)
        else:
            losses["loss_lpl"] = batch_inputs["strong"].new_zeros(())
        return losses

    @torch.no_grad()
    def pseudo_labels(
        self, weak_inputs: Tensor, weak_samples: list[DetDataSample]
    ) -> PseudoLabels:
        """Confident detections, mined and dropped proposals of the teacher.

        ``low`` and ``dropped`` hold per proposal: ``bboxes`` (the proposal),
        ``decoded``, ``scores`` and ``labels`` (best class without background),
        ``logits`` [C + 1] and ``features`` [D].
        """
        high, proposals, keep = self._teacher_pass(weak_inputs, weak_samples)
        return PseudoLabels(
            high,
            low=_by_image(proposals[keep], len(high)),
            dropped=_by_image(proposals[~keep], len(high)),
        )

    @torch.no_grad()
    def _teacher_pass(
        self, weak_inputs: Tensor, weak_samples: list[DetDataSample]
    ) -> tuple[list[InstanceData], InstanceData, Tensor]:
        """Predict once; return HPL per image, all proposals pooled, and who is LPL."""
        extractor, head = box_head(self.teacher, self.stage)
        with FeatureTap(rois=extractor, cls=head.fc_cls, reg=head.fc_reg) as tap:
            high = self.label(weak_inputs, weak_samples).high
        if not tap.called("cls"):  # no proposal in the whole batch
            nothing = _no_proposals(weak_inputs, self.num_classes)
            return high, nothing, nothing.labels.bool()
        rois, logits = tap.inputs("rois")[1], tap.output("cls")
        coder = head.bbox_coder
        decoded = decode_argmax_boxes(
            rois[:, 1:], logits, tap.output("reg"), coder.stds, coder.means
        )
        image = rois[:, 0].long()
        counts = image.new_tensor([len(h) for h in high])
        owner = torch.arange(len(high), device=image.device).repeat_interleave(
            counts, output_size=sum(map(len, high))
        )
        keep = mine_low_confidence(
            logits,
            decoded,
            torch.cat([h.bboxes for h in high]),
            self.lpl_max_iou,
            self.lpl_min_certainty,
            self.lpl_max_background,
            image,
            owner,
        )
        if not self.mine_without_high:
            keep &= counts[image] > 0
        labels = logits[:, :-1].argmax(1)
        proposals = InstanceData(
            image=image,
            bboxes=rois[:, 1:],
            decoded=decoded,
            scores=logits.softmax(1).gather(1, labels[:, None]).squeeze(1),
            labels=labels,
            logits=logits,
            features=tap.inputs("cls")[0],
        )
        return high, proposals, keep

    def _distil(
        self,
        features: tuple[Tensor, ...],
        low: InstanceData,
        batch_data_samples: dict[str, list[DetDataSample]],
    ) -> Tensor:
        weak, strong = batch_data_samples["weak"], batch_data_samples["strong"]
        views = zip(_by_image(low, len(weak)), weak, strong, strict=True)
        rois = bbox2roi([map_to_strong(i.bboxes, w, s) for i, w, s in views])
        out = run_box_head(self.student, features, rois, self.stage)
        weight = feature_distance(out.features, low.features)
        return lpld_loss(out.logits, low.logits, weight, self.lpl_loss_weight)


def _by_image(proposals: InstanceData, num_images: int) -> list[InstanceData]:
    """Pooled proposals, which are sorted by image, one entry an image."""
    ends = torch.bincount(proposals.image, minlength=num_images).cumsum(0).tolist()
    return [proposals[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def _no_proposals(like: Tensor, num_classes: int) -> InstanceData:
    return InstanceData(
        image=like.new_zeros(0, dtype=torch.long),
        bboxes=like.new_zeros(0, 4),
        decoded=like.new_zeros(0, 4),
        scores=like.new_zeros(0),
        labels=like.new_zeros(0, dtype=torch.long),
        logits=like.new_zeros(0, num_classes + 1),
        features=like.new_zeros(0, 0),
    )
