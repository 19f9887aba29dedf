"""Mean Teacher for source-free adaptation (SFOD) of any mmdet detector."""

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from torch import Tensor

from pld_mmdet.detection.boxes.views import inside_image, map_to_strong
from pld_mmdet.detection.detectors.teacher_student import (
    PseudoLabels,
    TeacherStudentDetector,
    high_confidence,
)
from pld_mmdet.detection.detectors.two_stage import zero_loss
from pld_mmdet.detection.pseudo_labels import (
    ClassThresholds,
    Ingredients,
    SecondOpinion,
    batch_statistics,
    detect_in_views,
    mark_doubtful,
    silence_semantic_heads,
    spare_doubtful,
    weigh_losses,
)
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class MeanTeacherSFOD(TeacherStudentDetector):
    """Mean Teacher on unlabelled target images only (LPLD's and IRG's baseline).

    The teacher labels the weak view, its confident detections supervise the student
    on the strong view with the detector's own losses. There is no labelled branch:
    ground truth in a batch, if any, is never looked at. The teacher gets no gradient;
    :class:`pld_mmdet.engine.hooks.TeacherEMAHook` moves it.

    A training batch is mmdet's multi-branch form: ``inputs = {'weak': N x 3 x H x W,
    'strong': N x 3 x H x W}`` and data samples likewise. Views of different geometry
    are matched through their ``homography_matrix``.

    Args:
        detector: Config of any mmdet detector.
        hpl_threshold: Detections with a score strictly above become pseudo ground
            truth. 0.7 as in LPLD's released code (IRG: 0.9).
        predict_on: See :class:`TeacherStudentDetector`, also for ``data_preprocessor``
            and ``init_cfg``.
        class_thresholds: Keys of :class:`ClassThresholds` (``dict()`` for its
            defaults): each class has its own threshold, and ``hpl_threshold`` says how
            many boxes pass in all. None: one threshold.
        ignore_above: Detections with a score above, up to the threshold, are neither
            objects nor background; see :class:`SparingAssigner`. None: background.
        teacher_scales: Sizes at which the teacher looks at the weak view; see
            :func:`detect_in_views`.
        teacher_statistics: ``'running'``: the teacher's batch norm is in evaluation
            mode. ``'batch'``: while it labels, the batch's statistics are used and the
            running ones follow (SF-UT's code).
        loss_weights: Factors of the detector's losses by name; see
            :func:`weigh_losses`.
        teacher_flip: The teacher also looks at the mirrored weak view.
        second_opinion: Keys of :class:`SecondOpinion` (``file``, ``classes``): boxes of
            another labeller that the teacher misses count as well.
        max_boxes: Most pseudo labels of an image, those with the highest scores; a
            teacher that runs away finds more and more. None: all.
        norm_eval: See :class:`TeacherStudentDetector`.
        **ingredients: See :class:`Ingredients`: ``skip_empty``, ``soft_rois``,
            ``soft_objectness``, ``soft_dense``, ``rpn_threshold``, ``mosaic``,
            ``masks``.

    Raises:
        UserError: An option means nothing, or does not fit the detector.

    Source: IRG-SFDA repository (82c84894) and LPLD repository (61192a05).
    """

    uses_labels = False

    def __init__(
        self,
        detector: dict,
        hpl_threshold: float = 0.7,
        predict_on: str = "teacher",
        class_thresholds: dict | None = None,
        ignore_above: float | None = None,
        teacher_scales: Sequence[float] = (1.0,),
        teacher_statistics: str = "running",
        loss_weights: dict[str, float] | None = None,
        teacher_flip: bool = False,
        second_opinion: dict | None = None,
        max_boxes: int | None = None,
        norm_eval: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        **ingredients,
    ) -> None:
        super().__init__(
            detector,
            predict_on=predict_on,
            norm_eval=norm_eval,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.ignore_above = ignore_above
        self.teacher_scales = tuple(teacher_scales)
        self.teacher_statistics = teacher_statistics
        self.loss_weights = loss_weights
        self.teacher_flip = teacher_flip
        self.max_boxes = max_boxes
        self.second_opinion = None
        if second_opinion is not None:
            self.second_opinion = SecondOpinion(**second_opinion)
        self.ingredients = Ingredients(**ingredients)
        self.class_thresholds = None
        self.hpl_threshold = hpl_threshold
        if class_thresholds is not None:
            self.class_thresholds = ClassThresholds(
                self.num_classes, hpl_threshold, **class_thresholds
            )
        self._check_options()
        if ignore_above is not None:
            spare_doubtful(self.student)
        silence_semantic_heads(self.student)
        self.pseudo_scores: Tensor | None = None

    def _check_options(self) -> None:
        """Refuse values that mean nothing, or that the detector has no use for."""
        if self.teacher_statistics not in ("running", "batch"):
            raise UserError(
                f"teacher_statistics={self.teacher_statistics!r} is not known.",
                "Write teacher_statistics='running' or 'batch'.",
            )
        if not self.teacher_scales or min(self.teacher_scales) <= 0:
            raise UserError(
                f"teacher_scales={self.teacher_scales} gives the teacher no view.",
                "Write factors above 0, for example teacher_scales=(1.0, 2.0).",
            )
        merged = {
            "teacher_scales": self.teacher_scales != (1.0,),
            "teacher_flip": self.teacher_flip,
            "second_opinion": self.second_opinion is not None,
        }
        given = [name for name in merged if merged[name]]
        if given and getattr(self.student, "with_mask", False):
            raise UserError(
                f"{', '.join(given)}: pseudo masks are not carried between views.",
                "Use teacher_scales=(1.0,) and neither of the others for a detector "
                "with masks.",
            )
        soft = {"soft_rois", "soft_objectness", "soft_dense"}
        if merged["teacher_scales"] and soft & {*self.ingredients.given()}:
            raise UserError(
                "soft_rois, soft_objectness and soft_dense read the teacher's view at "
                "its own size, and teacher_scales has others.",
                "Use teacher_scales=(1.0,) with them.",
            )
        lowest = self.hpl_threshold
        if self.class_thresholds is not None:
            lowest = self.class_thresholds.lowest
        if self.ignore_above is not None and not 0 <= self.ignore_above <= lowest:
            raise UserError(
                f"ignore_above={self.ignore_above} leaves no band below {lowest}.",
                "Write a score between 0 and the (lowest) threshold.",
            )
        self.ingredients.check(self.student, lowest)

    @property
    def hpl_threshold(self) -> float | Tensor:
        """Above it is confident: one number, or with ``class_thresholds`` [C]."""
        if self.class_thresholds is None:
            return self._hpl_threshold
        return self.class_thresholds.values()

    @hpl_threshold.setter
    def hpl_threshold(self, value: float) -> None:
        if self.class_thresholds is not None:
            self.class_thresholds.base = value
        self._hpl_threshold = value

    def loss(
        self,
        batch_inputs: dict[str, Tensor],
        batch_data_samples: dict[str, list[DetDataSample]],
    ) -> dict[str, Tensor]:
        """Detection losses of the student on the teacher's confident boxes.

        Args:
            batch_inputs: ``weak`` and ``strong`` images, N x 3 x H x W each.
            batch_data_samples: Their data samples; only the meta information is used.

        Returns:
            The detector's own loss dict.
        """
        pseudo = self.pseudo_labels(batch_inputs["weak"], batch_data_samples["weak"])
        self._count(high=pseudo.high)
        return self.student_loss(pseudo.high, batch_inputs, batch_data_samples)

    @torch.no_grad()
    def pseudo_labels(
        self, weak_inputs: Tensor, weak_samples: list[DetDataSample]
    ) -> PseudoLabels:
        """Confident detections of the teacher, in pixels of the weak view."""
        detections = self._teacher_detections(weak_inputs, weak_samples)
        return PseudoLabels(self._confident(detections, weak_samples))

    def student_loss(
        self,
        high: list[InstanceData],
        batch_inputs: dict[str, Tensor],
        batch_data_samples: dict[str, list[DetDataSample]],
    ) -> dict[str, Tensor]:
        """Losses of the student on the strong view with ``high`` as ground truth."""
        samples = [
            _supervised_sample(instances, weak, strong)
            for instances, weak, strong in zip(
                high,
                batch_data_samples["weak"],
                batch_data_samples["strong"],
                strict=True,
            )
        ]
        losses = self.ingredients.student_losses(
            self.student, self.teacher, high, batch_inputs, batch_data_samples, samples
        )
        weights = self.loss_weights or {}
        if self.ingredients.skip_empty:  # a batch without a box has one zero left
            weights = {k: w for k, w in weights.items() if k in losses}
        if hasattr(self.student, "roi_head") and "loss_cls" not in losses:
            # A RoI head without one single box returns nothing; a zero on its
            # parameters keeps logs and distributed gradient buckets complete.
            weights = {k: w for k, w in weights.items() if k in losses}
            losses["loss_cls"] = zero_loss(self.student.roi_head)
        return weigh_losses(losses, weights) if weights else losses

    def _teacher_detections(
        self, weak_inputs: Tensor, weak_samples: list[DetDataSample]
    ) -> list[InstanceData]:
        """What the teacher sees; only a training step changes any state."""
        follow = self.training and self.teacher_statistics == "batch"
        moving = batch_statistics(self.teacher, self.student) if follow else None
        with moving or nullcontext(), self.ingredients.watch(self.teacher):
            detections = detect_in_views(
                self.teacher,
                weak_inputs,
                weak_samples,
                self.teacher_scales,
                self.teacher_flip,
            )
        self.pseudo_scores = _score_sums(detections)
        detections = [
            inside_image(found, sample)
            for found, sample in zip(detections, weak_samples, strict=True)
        ]
        if self.class_thresholds is not None and self.training:
            self.class_thresholds.observe(
                torch.cat([d.labels for d in detections]),
                torch.cat([d.scores for d in detections]),
            )
        if self.ignore_above is not None:
            mark_doubtful(detections, self.ignore_above, self.hpl_threshold)
        self.ingredients.mark_objects(detections)
        return detections

    def _confident(
        self, detections: list[InstanceData], weak_samples: list[DetDataSample]
    ) -> list[InstanceData]:
        """Boxes that supervise the student: the teacher's, and a second opinion's."""
        high = [high_confidence(d, self.hpl_threshold) for d in detections]
        if self.max_boxes is not None:
            best = [h.scores.argsort(descending=True)[: self.max_boxes] for h in high]
            high = [h[kept] for h, kept in zip(high, best, strict=True)]
        if self.second_opinion is None:
            return high
        return self.second_opinion.join(
            detections, high, weak_samples, self.hpl_threshold, self.training
        )


def _score_sums(detections: list[InstanceData]) -> Tensor:
    """[3]: sum of scores, sum of their binary entropies (nats), number of boxes."""
    scores = torch.cat([d.scores for d in detections]).float()
    entropy = torch.special.entr(scores) + torch.special.entr(1.0 - scores)
    return torch.stack([scores.sum(), entropy.sum(), scores.new_tensor(len(scores))])


def _supervised_sample(
    instances: InstanceData, weak: DetDataSample, strong: DetDataSample
) -> DetDataSample:
    boxes = map_to_strong(instances.bboxes, weak, strong)
    truth = InstanceData(bboxes=boxes, labels=instances.labels)
    if "masks" in instances:
        if boxes is not instances.bboxes:
            raise UserError(
                "Pseudo masks are not carried between views of different geometry.",
                "Use the same resize and flip for the weak and the strong view.",
            )
        height, width = strong.img_shape[:2]
        truth.masks = BitmapMasks(
            instances.masks.cpu().numpy().astype(np.uint8), height, width
        )
    if boxes is not instances.bboxes:  # some may lie outside of the strong view
        truth = inside_image(truth, strong)
    sample = DetDataSample(metainfo=strong.metainfo, gt_instances=truth)
    if "doubtful" in instances:
        spared = instances.doubtful
        sample.ignored_instances = InstanceData(
            bboxes=map_to_strong(spared.bboxes, weak, strong), labels=spared.labels
        )
    return sample
