"""Mean Teacher for source-free adaptation (SFOD) of any mmdet detector."""

from collections.abc import Sequence

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
)
from pld_mmdet.detection.detectors.two_stage import zero_loss
from pld_mmdet.detection.pseudo_labels import (
    Labels,
    build_labeller,
    loss_of_boxes,
    silence_semantic_heads,
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
        predict_on: See :class:`TeacherStudentDetector`, also for ``norm_eval``,
            ``data_preprocessor`` and ``init_cfg``.
        labeller: Configs of the steps from the teacher's view to pseudo labels, in
            their order: ``PredictBoxes``, ``SelectConfident`` (the default),
            ``SecondOpinion``, ``SpareDoubtful`` or others of
            :class:`~pld_mmdet.detection.pseudo_labels.LabelStep`.
        second_opinion: Short for a last step ``SecondOpinion`` with these arguments.

    Raises:
        UserError: A step means nothing, or does not fit the detector.

    Source: IRG-SFDA repository (82c84894) and LPLD repository (61192a05).
    """

    uses_labels = False

    def __init__(
        self,
        detector: dict,
        hpl_threshold: float = 0.7,
        predict_on: str = "teacher",
        labeller: Sequence[dict] | None = None,
        second_opinion: dict | None = None,
        norm_eval: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            detector,
            predict_on=predict_on,
            norm_eval=norm_eval,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.hpl_threshold = hpl_threshold
        self.labeller = build_labeller(labeller, second_opinion)
        for step in self.labeller:
            step.prepare(self.student, hpl_threshold)
        silence_semantic_heads(self.student)
        self.pseudo_scores: Tensor | None = None

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
        labels = self.label(batch_inputs["weak"], batch_data_samples["weak"])
        self._count(high=labels.high)
        return self.student_loss(labels.high, batch_inputs, batch_data_samples)

    @torch.no_grad()
    def label(self, weak_inputs: Tensor, weak_samples: list[DetDataSample]) -> Labels:
        """What the labeller makes of a batch; only a training step changes any state.

        Args:
            weak_inputs: N x 3 x H x W.
            weak_samples: Their data samples; only the meta information is used.
        """
        labels = Labels(
            self.teacher,
            self.student,
            weak_inputs,
            weak_samples,
            self.hpl_threshold,
            self.training,
        )
        for step in self.labeller:
            step(labels)
        self.pseudo_scores = labels.score_sums
        return labels

    def pseudo_labels(
        self, weak_inputs: Tensor, weak_samples: list[DetDataSample]
    ) -> PseudoLabels:
        """Confident detections of the teacher, in pixels of the weak view."""
        return PseudoLabels(self.label(weak_inputs, weak_samples).high)

    def _teacher_detections(
        self, weak_inputs: Tensor, weak_samples: list[DetDataSample]
    ) -> list[InstanceData]:
        """Detections of all scores."""
        return self.label(weak_inputs, weak_samples).seen

    def student_loss(
        self,
        high: list[InstanceData],
        batch_inputs: dict[str, Tensor],
        batch_data_samples: dict[str, list[DetDataSample]],
    ) -> dict[str, Tensor]:
        """Losses of the student on the strong view with ``high`` as ground truth."""
        views = batch_data_samples["weak"], batch_data_samples["strong"]
        samples = [
            _supervised_sample(instances, weak, strong)
            for instances, weak, strong in zip(high, *views, strict=True)
        ]
        losses = loss_of_boxes(self.student, batch_inputs["strong"], samples)
        if hasattr(self.student, "roi_head") and "loss_cls" not in losses:
            # A RoI head without one single box returns nothing; a zero on its
            # parameters keeps logs and distributed gradient buckets complete.
            losses["loss_cls"] = zero_loss(self.student.roi_head)
        return losses


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
