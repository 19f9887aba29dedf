"""Two mean-teacher learners: semi-supervised with CutMix, adaptation with ClassMix."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill.losses import entropy, masked_mean
from pld_mmdet.distill.selection import below_percentile
from pld_mmdet.distill.teachers import Frozen
from pld_mmdet.registry import MODELS
from pld_mmdet.segmentation.data.mixing import class_masks
from pld_mmdet.segmentation.data.views import blur, color_jitter
from pld_mmdet.segmentation.learners.losses import (
    IGNORE,
    pixel_ce,
)
from pld_mmdet.segmentation.networks.segmentors import (
    TeacherStudent,
    confident_labels,
    full_logits,
    head_logits,
    normalise,
    supervised_losses,
)
from pld_mmdet.shared.mixing import box_masks, mix

_NORMS = nn.modules.batchnorm._NormBase


@MODELS.register_module()
class CutMixSelfTraining(TeacherStudent):
    """Semi-supervised self-training of FST's code: argmax labels, CutMix, entropy rule.

    The teacher labels unlabelled images u in evaluation mode. With probability
    ``cutmix`` a box of every image and its labels is the next image's. A second pass of
    the teacher on labelled and mixed images, in training mode, moves its batch-norm
    statistics, and pixels whose entropy there reaches the ``drop_percent``-th
    percentile lose their label::

        L = CE(labelled) + (B H W / kept) mean_kept CE(mixed)

    Use FST's ``buffers='keep'`` with it: the teacher makes its own statistics.

    Args:
        segmentor: Config of a segmentor of mmsegmentation.
        cutmix: Probability of mixing in an iteration [0.5].
        drop_percent: Percentile of the entropy from which labels are dropped [80, the
            authors' VOC setting; 100 drops none, their Cityscapes setting].
        weight: Of the unlabelled term [1].
        aux_weight: Of the auxiliary head on labelled images [0.4].
        predict_on: [``teacher``].
    """

    def __init__(
        self,
        segmentor: dict,
        cutmix: float = 0.5,
        drop_percent: float = 80.0,
        weight: float = 1.0,
        aux_weight: float = 0.4,
        predict_on: str = "teacher",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(segmentor, predict_on, init_cfg)
        self.cutmix, self.drop_percent = cutmix, drop_percent
        self.weight, self.aux_weight = weight, aux_weight

    def loss(
        self, inputs: Tensor, targets: Tensor, labelled: Tensor, **_
    ) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            inputs: N x 3 x H x W, 0-255.
            targets: N x H x W; read where ``labelled`` only.
            labelled: N, bool.
        """
        known, images = inputs[labelled], inputs[~labelled]
        if self.labelled_only:
            features = self.student.extract_feat(normalise(self.student, known))
            truth = targets[labelled]
            return supervised_losses(self.student, features, truth, self.aux_weight)
        size, first = tuple(inputs.shape[-2:]), len(known)
        with torch.no_grad():
            _, labels = confident_labels(full_logits(self.teacher, images))
            if torch.rand(()) < self.cutmix:
                masks = box_masks(len(images), size)
                images = mix(images, images.roll(-1, 0), masks)
                labels = mix(labels, labels.roll(-1, 0), masks)
            both = torch.cat([known, images])
            self.teacher.train()
            doubt = entropy(full_logits(self.teacher, both)[first:], dim=1)
            self.teacher.eval()
            valid = torch.ones_like(labels, dtype=torch.bool)
            kept = below_percentile(doubt, self.drop_percent, valid)
            labels = torch.where(kept, labels, IGNORE)
        features = self.student.extract_feat(normalise(self.student, both))
        logits = head_logits(self.student, features, size)
        losses = {"loss_ce": pixel_ce(logits[:first], targets[labelled])}
        if self.student.with_auxiliary_head:
            aux = head_logits(self.student, features, size, "auxiliary")[:first]
            losses["loss_aux"] = self.aux_weight * pixel_ce(aux, targets[labelled])
        scale = self.weight * labels.numel() / kept.sum().clamp(min=1)
        losses["loss_unlabelled"] = scale * pixel_ce(logits[first:], labels)
        return losses


@MODELS.register_module()
class ClassMixSelfTraining(TeacherStudent):
    r"""Adaptation by self-training of FST's code: ClassMix with one weight for all.

    On source (labelled) and target (unlabelled) images::

        L = CE(source) + w_fd mean ||f_S - f_ImageNet||_2 + sum(w CE(mixed)) / (B H W)

    Target labels are the teacher's argmax. q, the share of pixels of the batch whose
    confidence reaches ``tau``, weighs every target pixel; source pixels weigh 1. A half
    of the source classes is pasted onto the target, then colours are jittered and the
    image is blurred, each with its own chance. The feature distance holds at those
    pixels of the last feature map whose label is, for at least ``purity``, one of
    ``things``. The teacher's batch norms use the batch; its dropout is off.

    Deviations: images are jittered with one draw of strengths for a batch (the code
    draws whether for a batch and how much for each image), and hue is turned in YIQ,
    not HSV. Rare-class sampling is the data set's affair.

    Args:
        segmentor: Config of a segmentor of mmsegmentation.
        tau: Confidence of a pixel that counts for q [0.968].
        ignore_rows: Rows at the top and bottom of a target whose weight is 0
            [15, 120].
        feature_weight: w_fd [0.005]; 0 builds no ImageNet encoder.
        things: Numbers of the thing classes [Cityscapes': lights, signs, and what
            moves].
        purity: [0.75].
        encoder: Backbone config of the ImageNet encoder, with its ``init_cfg``
            [that of the segmentor].
        jitter: Strength s of the colour jitter [0.2].
        source_over: What divides CE(source): ``all`` pixels [released, mmsegmentation's
            own average] or the ``valid`` ones.
        predict_on: [``student``].
    """

    def __init__(
        self,
        segmentor: dict,
        tau: float = 0.968,
        ignore_rows: tuple[int, int] = (15, 120),
        feature_weight: float = 0.005,
        things: tuple[int, ...] = (6, 7, 11, 12, 13, 14, 15, 16, 17, 18),
        purity: float = 0.75,
        encoder: dict | None = None,
        jitter: float = 0.2,
        source_over: str = "all",
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(segmentor, predict_on, init_cfg)
        self.tau, self.ignore_rows, self.jitter = tau, tuple(ignore_rows), jitter
        self.feature_weight, self.purity = feature_weight, purity
        self.things, self.source_over = list(things), source_over
        if feature_weight:
            backbone = encoder or segmentor["backbone"]
            self.encoder = Frozen(
                MODELS.build({"_scope_": "mmseg", **copy.deepcopy(backbone)})
            )

    def loss(
        self, inputs: Tensor, targets: Tensor, labelled: Tensor, **_
    ) -> dict[str, Tensor]:
        """Losses of a batch of as many source as target images.

        Args:
            inputs: N x 3 x H x W, 0-255.
            targets: N x H x W; read where ``labelled`` only.
            labelled: N, bool: source images.
        """
        source, target, truth = inputs[labelled], inputs[~labelled], targets[labelled]
        images = normalise(self.student, source)
        features = self.student.extract_feat(images)
        losses = supervised_losses(self.student, features, truth, 0.0, self.source_over)
        if self.feature_weight:
            losses["loss_features"] = self._feature_distance(images, features, truth)
        if self.labelled_only:
            return losses
        with torch.no_grad():
            self._batch_statistics()
            confidence, labels = confident_labels(full_logits(self.teacher, target))
            self.teacher.eval()
            share = (confidence >= self.tau).float().mean()
            weight = share.expand(labels.shape).clone()
            top, bottom = self.ignore_rows
            weight[:, :top] = 0
            weight[:, weight.shape[1] - bottom :] = 0
            masks = class_masks(truth)
            mixed = mix(target, source, masks).float()
            labels = mix(labels, truth, masks)
            weight = mix(weight, torch.ones_like(weight), masks)
            if torch.rand(()) > 0.2:
                mixed = color_jitter(mixed, self.jitter)
            if torch.rand(()) > 0.5:
                mixed = blur(mixed, 0.15 + float(torch.rand(())))
        logits = full_logits(self.student, mixed)
        losses["loss_mixed"] = pixel_ce(logits, labels, weight, over="all")
        losses["confident"] = share
        return losses

    def _batch_statistics(self) -> None:
        for module in self.teacher.modules():
            module.training = isinstance(module, _NORMS)

    def _feature_distance(
        self, images: Tensor, features: list[Tensor], truth: Tensor
    ) -> Tensor:
        with torch.no_grad():
            wanted = self.encoder(images)[-1]
            thing = torch.isin(truth, truth.new_tensor(self.things))
            # the largest share that one thing class has of a cell
            best = wanted.new_zeros(len(truth), 1, *wanted.shape[2:])
            for number in truth[thing].unique():
                here = (truth == number)[:, None].to(best)
                best = best.maximum(F.adaptive_avg_pool2d(here, best.shape[2:]))
        distance = (features[-1] - wanted).norm(dim=1)
        mask = best[:, 0] >= self.purity
        return self.feature_weight * masked_mean(distance, mask)
