"""From a teacher's view to pseudo labels: predict -> select -> refine -> weight.

A labeller is a list of small callables, one a line of the config. Each is called with
the :class:`Labels` of a batch and changes them; its place in the list is its turn.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pld_mmdet.detection.boxes.views import inside_image, into_input
from pld_mmdet.detection.detectors.teacher_student import high_confidence
from pld_mmdet.detection.pseudo_labels.batch_statistics import batch_statistics
from pld_mmdet.detection.pseudo_labels.ignore_band import KEY, spare_doubtful
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS

_UPRIGHT = dict(flip=False, flip_direction=None)


@dataclass
class Labels:
    """What the steps know and make of a batch; pixels of the weak view.

    Attributes:
        teacher: In evaluation mode.
        student: The network that learns; its layers say what is frozen.
        inputs: N x 3 x H x W, preprocessed.
        samples: N data samples; only their meta information is used.
        threshold: Score strictly above which a box is confident.
        training: In a training step; otherwise nothing may change any state.
        seen: Detections of all scores, one entry an image.
        high: Boxes that the student is supervised with, likewise.
        score_sums: [3]: sum of the scores, sum of their binary entropies (nats),
            number of boxes.
    """

    teacher: nn.Module
    student: nn.Module
    inputs: Tensor
    samples: list[DetDataSample]
    threshold: float
    training: bool
    seen: list[InstanceData] = field(default_factory=list)
    high: list[InstanceData] = field(default_factory=list)
    score_sums: Tensor | None = None


class LabelStep(nn.Module):
    """A step of a labeller. Buffers of a step travel in the checkpoint."""

    def prepare(self, student: nn.Module, threshold: float) -> None:
        """Once, before training: change or refuse a detector."""

    def forward(self, labels: Labels) -> None:
        """Change ``labels``."""
        raise NotImplementedError


@MODELS.register_module()
class PredictBoxes(LabelStep):
    """Predict: what the teacher sees, cut at the edges of the image.

    Args:
        statistics: ``'running'``: the teacher's batch norm is in evaluation mode.
            ``'batch'``: in training the batch's statistics are used, and the running
            ones follow (SF-UT's code).
    """

    def __init__(self, statistics: str = "running") -> None:
        super().__init__()
        known = ("running", "batch")
        one_of("PredictBoxes", statistics=(statistics, known))
        self.statistics = statistics

    def forward(self, labels: Labels) -> None:
        """Fill ``seen`` and ``score_sums``."""
        follow = labels.training and self.statistics == "batch"
        moving = batch_statistics(labels.teacher, labels.student) if follow else None
        # Fresh samples: the teacher sees no ground truth and leaves no trace. A flip of
        # the pipeline is no matter of its answer; HTC would turn its masks back for it.
        fresh = [DetDataSample(metainfo=s.metainfo | _UPRIGHT) for s in labels.samples]
        with moving or nullcontext():
            found = [
                into_input(s.pred_instances, s)
                for s in labels.teacher.predict(labels.inputs, fresh, rescale=False)
            ]
        labels.score_sums = score_sums(found)
        pairs = zip(found, labels.samples, strict=True)
        labels.seen = [inside_image(one, sample) for one, sample in pairs]


@MODELS.register_module()
class SelectConfident(LabelStep):
    """Select: boxes with a score strictly above the method's ``hpl_threshold``.

    Args:
        max_boxes: Most of an image, those with the highest scores; a teacher that runs
            away finds more and more. None: all.
    """

    def __init__(self, max_boxes: int | None = None) -> None:
        super().__init__()
        self.max_boxes = max_boxes

    def forward(self, labels: Labels) -> None:
        """Fill ``high``."""
        labels.high = [high_confidence(one, labels.threshold) for one in labels.seen]
        if self.max_boxes is not None:
            labels.high = [
                one[one.scores.argsort(descending=True)[: self.max_boxes]]
                for one in labels.high
            ]


@MODELS.register_module()
class SpareDoubtful(LabelStep):
    """Weight: middling boxes are neither objects nor background.

    What such a box would claim takes part in no loss; see :class:`SparingAssigner`.

    Args:
        above: Scores strictly above, up to the threshold, are middling.
    """

    def __init__(self, above: float) -> None:
        super().__init__()
        self.above = above

    def prepare(self, student: nn.Module, threshold: float) -> None:
        """Let the student's assigners leave priors out."""
        if not 0 <= self.above <= threshold:
            raise UserError(
                f"SpareDoubtful: above={self.above} leaves no band below {threshold}.",
                "Write a score between 0 and hpl_threshold.",
            )
        spare_doubtful(student)

    def forward(self, labels: Labels) -> None:
        """Note the middling boxes beside each image's confident ones."""
        for seen, high in zip(labels.seen, labels.high, strict=True):
            band = (seen.scores > self.above) & (seen.scores <= labels.threshold)
            doubt = InstanceData(bboxes=seen.bboxes[band], labels=seen.labels[band])
            high.set_metainfo({KEY: doubt})


def build_labeller(
    steps: Sequence[dict] | None, second_opinion: dict | None = None
) -> nn.ModuleList:
    """Steps of a config, in their order.

    Args:
        steps: Configs; None: :class:`PredictBoxes`, then :class:`SelectConfident`.
        second_opinion: Arguments of a last step
            :class:`~pld_mmdet.detection.pseudo_labels.second_opinion.SecondOpinion`.

    Raises:
        UserError: One that is no step.
    """
    if steps is None:
        steps = [dict(type="pld_mmdet.PredictBoxes")]
        steps.append(dict(type="pld_mmdet.SelectConfident"))
    if second_opinion is not None:
        steps = [*steps, dict(second_opinion, type="pld_mmdet.SecondOpinion")]
    built = [MODELS.build(dict(step)) for step in steps]
    for step in built:
        if not isinstance(step, LabelStep):
            raise UserError(
                f"labeller: {type(step).__name__} is no step of a labeller.",
                "Derive it from pld_mmdet.detection.pseudo_labels.LabelStep.",
            )
    return nn.ModuleList(built)


def score_sums(detections: list[InstanceData]) -> Tensor:
    """[3]: sum of scores, sum of their binary entropies (nats), number of boxes."""
    scores = torch.cat([d.scores for d in detections]).float()
    entropy = torch.special.entr(scores) + torch.special.entr(1.0 - scores)
    return torch.stack([scores.sum(), entropy.sum(), scores.new_tensor(len(scores))])
