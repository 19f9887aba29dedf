"""Mean Teacher for source-free adaptation (SFOD) of any mmdet detector."""

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors.base import BaseDetector
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.roi_extractors.base_roi_extractor import BaseRoIExtractor
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from pld_mmdet.detection.boxes import project_boxes
from pld_mmdet.detection.matching import count_agreeing
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS


@dataclass
class PseudoLabels:
    """What the teacher says about a batch; one entry an image, weak-view pixels.

    Attributes:
        high: Boxes the student is supervised with.
        low: Mined low-confidence proposals (LPLD only).
        dropped: Proposals that were neither (LPLD only).
    """

    high: list[InstanceData]
    low: list[InstanceData] = field(default_factory=list)
    dropped: list[InstanceData] = field(default_factory=list)


def high_confidence(instances: InstanceData, threshold: float) -> InstanceData:
    """Detections whose score lies strictly above ``threshold`` (HPL)."""
    return instances[instances.scores > threshold]


@MODELS.register_module()
class MeanTeacherSFOD(BaseDetector):
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
        predict_on: ``'teacher'`` or ``'student'``: the network that is the result.
        data_preprocessor: Defaults to mmdet's ``MultiBranchDataPreprocessor`` around
            the detector's own.
        init_cfg: As in mmengine; usually the weights come from ``load_from``. A
            checkpoint of the plain detector fills both networks.

    Source: IRG-SFDA repository (82c84894) and LPLD repository (61192a05).
    """

    def __init__(
        self,
        detector: dict,
        hpl_threshold: float = 0.7,
        predict_on: str = "teacher",
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        detector = ConfigDict(copy.deepcopy(detector))
        if predict_on not in ("teacher", "student"):
            raise UserError(
                f"predict_on={predict_on!r} names no network of {type(self).__name__}.",
                "Write predict_on='teacher' or predict_on='student'.",
            )
        if data_preprocessor is None:
            data_preprocessor = ConfigDict(
                type="mmdet.MultiBranchDataPreprocessor",
                data_preprocessor=detector.get(
                    "data_preprocessor", dict(type="mmdet.DetDataPreprocessor")
                ),
            )
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.student = full_precision_heads(build_detector(detector))
        self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval()
        self.hpl_threshold = hpl_threshold
        self.predict_on = predict_on
        self.num_classes = num_classes(self.student)
        self.pseudo_counts: dict[str, Tensor] = {}
        self.pseudo_scores: Tensor | None = None
        self._register_load_state_dict_pre_hook(_fill_both_networks)

    def init_weights(self) -> None:
        """Initialise the student and copy it to the teacher."""
        self.student.init_weights()
        self.teacher.load_state_dict(self.student.state_dict())

    def train(self, mode: bool = True) -> "MeanTeacherSFOD":
        """The teacher stays in evaluation mode whatever the student does."""
        super().train(mode)
        self.teacher.eval()
        return self

    @property
    def result(self) -> nn.Module:
        """The network that ``predict_on`` names."""
        return getattr(self, self.predict_on)

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
        return PseudoLabels(
            [high_confidence(d, self.hpl_threshold) for d in detections]
        )

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
        losses = self.student.loss(batch_inputs["strong"], samples)
        if hasattr(self.student, "roi_head") and "loss_cls" not in losses:
            # A RoI head without one single box returns nothing; a zero on its
            # parameters keeps logs and distributed gradient buckets complete.
            losses["loss_cls"] = sum(
                p.sum() * 0.0 for p in self.student.roi_head.parameters()
            )
        return losses

    def _teacher_detections(
        self, weak_inputs: Tensor, weak_samples: list[DetDataSample]
    ) -> list[InstanceData]:
        # Fresh samples: the teacher sees no ground truth and leaves no trace.
        samples = [DetDataSample(metainfo=s.metainfo) for s in weak_samples]
        samples = self.teacher.predict(weak_inputs, samples, rescale=False)
        detections = [s.pred_instances for s in samples]
        self.pseudo_scores = _score_sums(detections)
        return detections

    @torch.no_grad()
    def view_agreement(self, data_batch: dict) -> Tensor:
        """How far the student on the strong view sees what the teacher sees.

        Args:
            data_batch: A training batch as the loader gives it; it is not changed.

        Returns:
            [2]: boxes that have a partner of the same class (IoU at least 0.5) in the
            other view, and all boxes; of both networks, scores above
            ``hpl_threshold / 2``.
        """
        data = self.data_preprocessor(copy.deepcopy(data_batch), True)
        inputs, samples = data["inputs"], data["data_samples"]
        training = self.student.training
        self.student.eval()
        seen = [
            [
                high_confidence(s.pred_instances, self.hpl_threshold / 2)
                for s in network.predict(
                    inputs[view],
                    [DetDataSample(metainfo=s.metainfo) for s in samples[view]],
                    rescale=False,
                )
            ]
            for network, view in ((self.teacher, "weak"), (self.student, "strong"))
        ]
        self.student.train(training)
        views = zip(*seen, samples["weak"], samples["strong"], strict=True)
        counts = [
            count_agreeing(
                map_to_strong(ours.bboxes, weak, strong),
                ours.labels,
                theirs.bboxes,
                theirs.labels,
            )
            for ours, theirs, weak, strong in views
        ]
        return torch.stack(counts).sum(0)

    @torch.no_grad()
    def _count(self, **instances: list[InstanceData]) -> None:
        """Boxes per class of this step, left on the device for whoever logs them."""
        self.pseudo_counts = {}
        for name, per_image in instances.items():
            labels = torch.cat([i.labels for i in per_image])
            counts = labels.new_zeros(self.num_classes, dtype=torch.float)
            counts.index_add_(0, labels, torch.ones_like(labels, dtype=torch.float))
            self.pseudo_counts[name] = counts / len(per_image)

    def predict(
        self,
        batch_inputs: Tensor,
        batch_data_samples: list[DetDataSample],
        rescale: bool = True,
    ) -> list[DetDataSample]:
        """Detections of the network that is the result; see mmdet."""
        return self.result.predict(batch_inputs, batch_data_samples, rescale=rescale)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Features of the network that is the result; see mmdet."""
        return self.result.extract_feat(batch_inputs)

    def _forward(self, batch_inputs: Tensor, batch_data_samples=None) -> tuple:
        return self.result._forward(batch_inputs, batch_data_samples)


def _score_sums(detections: list[InstanceData]) -> Tensor:
    """[3]: sum of scores, sum of their binary entropies (nats), number of boxes."""
    scores = torch.cat([d.scores for d in detections]).float()
    entropy = torch.special.entr(scores) + torch.special.entr(1.0 - scores)
    return torch.stack([scores.sum(), entropy.sum(), scores.new_tensor(len(scores))])


def map_to_strong(boxes: Tensor, weak: DetDataSample, strong: DetDataSample) -> Tensor:
    """Carry [N, 4] boxes of the weak view to the strong view of the same image."""
    ours, theirs = _matrix(weak), _matrix(strong)
    if ours is None or theirs is None:
        same = all(
            weak.get(key) == strong.get(key)
            for key in ("img_shape", "scale_factor", "flip", "flip_direction")
        )
        if same:
            return boxes
        raise UserError(
            "The weak and the strong view differ in geometry, but their data samples "
            "carry no homography_matrix.",
            "Add 'homography_matrix' to meta_keys of both PackDetInputs.",
        )
    if np.array_equal(ours, theirs):
        return boxes
    return project_boxes(
        boxes, torch.as_tensor(ours), torch.as_tensor(theirs), strong.img_shape[:2]
    )


def _matrix(sample: DetDataSample) -> np.ndarray | None:
    """Homography original -> view. mmdet writes none until a transform moves pixels."""
    matrix = sample.get("homography_matrix")
    untouched = (
        sample.get("img_shape") == sample.get("ori_shape")
        and tuple(sample.get("scale_factor") or (1.0, 1.0)) == (1.0, 1.0)
        and not sample.get("flip")
    )
    return np.eye(3, dtype=np.float32) if matrix is None and untouched else matrix


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
    return DetDataSample(metainfo=strong.metainfo, gt_instances=truth)


def build_detector(detector: ConfigDict) -> nn.Module:
    """Build a stock detector, also where no default scope says what its names mean."""
    scope = DefaultScope.get_current_instance()
    if scope is not None and scope.scope_name not in ("mmengine", "pld_mmdet"):
        return MMDET_MODELS.build(detector)
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MMDET_MODELS.build(detector)


def full_precision_heads(detector: nn.Module) -> nn.Module:
    """Pool and decode boxes in float32 under autocast.

    mmcv's RoIAlign and NMS take no bfloat16 on a CPU, and half-precision coordinates
    are whole pixels off in images wider than 2048.
    """
    for module in detector.modules():
        if isinstance(module, (BaseDenseHead, BBoxHead)):
            module.register_forward_hook(lambda m, inputs, output: _float(output))
        elif isinstance(module, BaseRoIExtractor):
            module.register_forward_pre_hook(lambda m, inputs: _float(inputs))
    return detector


def _float(tree):
    """Cast all floating-point tensors of a nested structure to float32."""
    return tree_map(
        lambda x: x.float() if isinstance(x, Tensor) and x.is_floating_point() else x,
        tree,
    )


def num_classes(detector: nn.Module) -> int:
    """Number of classes that the last box head of a detector tells apart."""
    head = detector.bbox_head if hasattr(detector, "bbox_head") else None
    if head is None and detector.with_bbox:
        head = detector.roi_head.bbox_head
    if isinstance(head, nn.ModuleList):
        head = head[-1]
    return head.num_classes


def _fill_both_networks(state_dict: dict, prefix: str, *args) -> None:
    """Let a checkpoint of the plain detector fill student and teacher."""
    ours = (f"{prefix}student.", f"{prefix}teacher.")
    keys = [k for k in state_dict if k.startswith(prefix)]
    if not keys or any(k.startswith(ours) for k in keys):
        return
    for key in keys:
        value = state_dict.pop(key)
        for network in ours:
            state_dict[network + key[len(prefix) :]] = value
