"""mmsegmentation's segmentors as plain networks: raw images in, logits out."""

import copy
from typing import Any

import torch
from mmengine.config import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.engine.run.method import Method
from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS
from pld_mmdet.segmentation.learners.losses import pixel_ce
from pld_mmdet.shared.taught import PartLearns


def build_segmentor(config: dict) -> nn.Module:
    """Build a segmentor of mmsegmentation.

    Args:
        config: Such as ``dict(type='mmseg.EncoderDecoder', ...)``. Types inside it are
            looked up in mmseg first, so that configs of mmsegmentation work unchanged.
            Its ``data_preprocessor`` normalises: the methods here feed raw images.

    Raises:
        UserError: If mmsegmentation is not installed.
    """
    require("mmseg", "segmentation")
    return MODELS.build(ConfigDict({"_scope_": "mmseg", **config}))


def normalise(segmentor: nn.Module, images: Tensor) -> Tensor:
    """Images as the segmentor's own preprocessor makes them.

    Args:
        segmentor: From :func:`build_segmentor`.
        images: N x 3 x H x W, 0-255, channels as loaded (BGR with mmcv).
    """
    prepare = segmentor.data_preprocessor
    flag = "channel_conversion"  # mmsegmentation 1.2; the maintained line hides it
    if getattr(prepare, flag if hasattr(prepare, flag) else f"_{flag}"):
        images = images.flip(1)
    images = images.float()
    if prepare._enable_normalize:
        images = (images - prepare.mean) / prepare.std
    return images


def head_logits(
    segmentor: nn.Module,
    features: Any,
    size: tuple[int, int],
    head: str = "decode",
    with_features: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Logits N x C x H x W of a head, float32, resized bilinearly to ``size``.

    Args:
        segmentor: From :func:`build_segmentor`.
        features: Of ``extract_feat``.
        size: Height and width of the logits.
        head: ``decode`` or ``auxiliary``.
        with_features: Also return what the head's classifier sees, N x D x h x w,
            float32, before dropout, at the head's own size.

    Raises:
        UserError: The head shows no such features.
    """
    head = getattr(segmentor, f"{head}_head")
    seen: list[Tensor] = []
    if with_features:
        logits = _seen_by_classifier(head, features, seen)
    else:
        logits = head(features)
    logits = logits.float()  # half precision would round probabilities near 1
    logits = F.interpolate(
        logits, size=size, mode="bilinear", align_corners=head.align_corners
    )
    return (logits, seen[-1].float()) if with_features else logits


def _seen_by_classifier(head: nn.Module, features: Any, seen: list[Tensor]) -> Tensor:
    """Run a head and note the input of ``cls_seg``, its dropout and classifier."""
    classify = getattr(head, "cls_seg", None)
    if classify is None:
        raise UserError(
            f"{type(head).__name__} shows no features before its classifier.",
            "Take a head of mmsegmentation that ends in `cls_seg`, such as FCNHead, "
            "ASPPHead or DepthwiseSeparableASPPHead.",
        )

    def note(feature: Tensor) -> Tensor:
        seen.append(feature)
        return classify(feature)

    head.cls_seg = note  # of this instance, for this call
    try:
        return head(features)
    finally:
        del head.cls_seg


def full_logits(segmentor: nn.Module, images: Tensor) -> Tensor:
    """Logits N x C x H x W of raw images N x 3 x H x W, at the images' size."""
    features = segmentor.extract_feat(normalise(segmentor, images))
    return head_logits(segmentor, features, tuple(images.shape[-2:]))


class SegmentationMethod(Method):
    """A method whose answer is a label map; a subclass writes ``loss``.

    ``predict`` asks the segmentor that :meth:`answering` names, on the whole image, and
    resizes logits (not labels) when targets have another size than inputs.
    """

    def answering(self) -> nn.Module:
        """The segmentor that answers at test time."""
        return self.student

    def predict(self, inputs: Tensor, targets: Tensor, **_) -> list[dict]:
        """Label maps beside the targets, both N x H x W."""
        logits = full_logits(self.answering(), inputs)
        if logits.shape[-2:] != targets.shape[-2:]:
            logits = F.interpolate(logits, targets.shape[-2:], mode="bilinear")
        return [{"predictions": logits.argmax(1), "targets": targets}]

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Logits N x C x H x W."""
        return full_logits(self.answering(), inputs)


class TeacherStudent(SegmentationMethod):
    """A student that learns and a teacher of the same architecture that does not.

    Who moves the teacher is not said here: FST or ``TeacherEMAHook`` does. While
    ``labelled_only`` is set, a learner leaves unlabelled images alone.

    Args:
        segmentor: Config of both.
        predict_on: ``student`` or ``teacher``.

    Raises:
        UserError: An unknown ``predict_on``.
    """

    labelled_only = False

    def __init__(
        self, segmentor: dict, predict_on: str, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of(type(self).__name__, predict_on=(predict_on, ("student", "teacher")))
        self.student = build_segmentor(copy.deepcopy(segmentor))
        self.teacher = build_segmentor(copy.deepcopy(segmentor)).requires_grad_(False)
        self.teacher.eval()  # offline work asks it before the first train()
        self.predict_on = predict_on

    def train(self, mode: bool = True) -> "TeacherStudent":
        """Train the student; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def answering(self) -> nn.Module:
        """The network that ``predict_on`` names."""
        return getattr(self, self.predict_on)


class TaughtSegmentor(PartLearns, SegmentationMethod):
    """A student and the teachers that an earlier stage of the same run has made.

    Stages whose name begins with ``teacher`` train the teachers, every other one the
    student; what does not learn is in evaluation mode and gets no gradient.

    Everything requires gradients until a stage is entered, so that a wrapper for
    several processes knows all parameters; configs set
    ``find_unused_parameters=True``.

    Args:
        student: Config of a segmentor of mmsegmentation.
        teachers: Such configs by name; each becomes the attribute of that name.
        predict_on: ``student`` or the name of a teacher.

    Raises:
        UserError: An unknown ``predict_on``.
    """

    def __init__(
        self,
        student: dict,
        teachers: dict[str, dict],
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of(type(self).__name__, predict_on=(predict_on, ("student", *teachers)))
        self.student = build_segmentor(copy.deepcopy(student))
        self.named = tuple(teachers)
        for name, config in teachers.items():
            setattr(self, name, build_segmentor(copy.deepcopy(config)))
        self.predict_on = predict_on
        self.train(self.training)

    @property
    def learners(self) -> list[nn.Module]:
        """What this stage trains."""
        if self.progress.stage.startswith("teacher"):
            return [getattr(self, name) for name in self.named]
        return [self.student]

    def answering(self) -> nn.Module:
        """The network that ``predict_on`` names."""
        return getattr(self, self.predict_on)


@MODELS.register_module()
class SupervisedSegmentor(SegmentationMethod):
    """A segmentor and pixel-wise cross-entropy, nothing else: the plain baseline.

    Args:
        segmentor: Config of a segmentor of mmsegmentation.
        aux_weight: Weight of the auxiliary head's cross-entropy, where it has one
            [0.4, mmsegmentation's configs].
    """

    def __init__(
        self, segmentor: dict, aux_weight: float = 0.4, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.student = build_segmentor(segmentor)
        self.aux_weight = aux_weight

    def loss(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Cross-entropy over the pixels that have a label (255: none)."""
        features = self.student.extract_feat(normalise(self.student, inputs))
        return supervised_losses(self.student, features, targets, self.aux_weight)


def supervised_losses(
    segmentor: nn.Module,
    features: Any,
    targets: Tensor,
    aux_weight: float,
    over: str = "valid",
) -> dict[str, Tensor]:
    """Cross-entropy of the heads: ``loss_ce`` and, if there is one, ``loss_aux``.

    Args:
        segmentor: The network that made the features.
        features: Of ``extract_feat``.
        targets: N x H x W, 255 for no label.
        aux_weight: Weight of the auxiliary head.
        over: As in :func:`pixel_ce`.
    """
    size = tuple(targets.shape[-2:])
    logits = head_logits(segmentor, features, size)
    losses = {"loss_ce": pixel_ce(logits, targets, over=over)}
    if segmentor.with_auxiliary_head and aux_weight:
        logits = head_logits(segmentor, features, size, "auxiliary")
        losses["loss_aux"] = aux_weight * pixel_ce(logits, targets, over=over)
    return losses


@torch.no_grad()
def confident_labels(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Largest probability and its class, both N x H x W, of logits N x C x H x W."""
    confidence, labels = logits.softmax(1).max(1)
    return confidence, labels
