"""MGD: a wide and a deep teacher for a light student, few labels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill._checks import wide as float32
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.segmentation.learners.losses import IGNORE, pixel_ce
from pld_mmdet.segmentation.networks.segmentors import (
    TaughtSegmentor,
    full_logits,
    head_logits,
    normalise,
)
from pld_mmdet.shared.mixing import mix, xor_boxes


@MODELS.register_module()
class MGD(TaughtSegmentor):
    r"""Multi-granularity distillation, semi-supervised (Qin et al. 2022).

    u0 and u1 are two halves of the unlabelled images, m three CutMix boxes, u the
    mixture of both; W is the wide and D the deep teacher, y_n the argmax of teacher n
    on u0 and u1, mixed by m; A_n the cosines between the 7 x 7 regions of n's features
    before the classifier; x, y the labelled images and their labels::

        L = CE(S(u), y_W) + CE(S(u), y_D)                            loss_pixel
          + image_weight  sum_{b,c} |mean S(u) - mean D(u)|          loss_image
          + region_weight mean (A_S(u) - A_W(u))^2                   loss_region
          + CE(S(x), y)                                              loss_ce
          + CE(S(x), argmax W(x)) + CE(S(x), argmax D(x))            loss_known

    Hard labels, no threshold, no temperature. The image term is a sum over images and
    classes: its weight depends on both.

    Stage ``teachers`` of ``StagedLoop`` makes both teachers in the same run, by cross
    pseudo supervision with the same boxes: ``CE(W(u), y_D) + CE(D(u), y_W)`` beside
    cross-entropy on the labelled images. The authors train each teacher so against
    another copy of itself; here the two teach each other, and the weight of it grows
    with the stage, as nothing is pretrained. ``agreement`` in the log is the share of
    pixels with y_W = y_D: at 1 the two are one teacher.

    Further deviations from JayQine/MGD-SSSS, 9309105: the teachers' batch norms are in
    evaluation mode (there their statistics drift); the student's passes over u0 and u1,
    whose loss is a constant there, are left out; pixels without a label (padding) have
    no teacher's label either; u0 and u1 are drawn together, without a repeat; a region
    without any feature has cosine 0 with all (there NaN).

    Args:
        student: Config of a light segmentor of mmsegmentation whose head ends in
            ``cls_seg``.
        wide: Config of the wide teacher; any number of features.
        deep: Config of the deep teacher.
        image_weight: lambda_1 [0.002, authors' config of VOC and ResNet-18; 2 images a
            process].
        region_weight: lambda_2 [100, ibid.].
        grid: Rows and columns of regions [7, authors' train.py].
        cross: Final weight of the teachers' labels for each other [1.5, CPS on VOC].
        predict_on: ``student``, ``wide`` or ``deep``.
    """

    def __init__(
        self,
        student: dict,
        wide: dict,
        deep: dict,
        image_weight: float = 0.002,
        region_weight: float = 100.0,
        grid: int = 7,
        cross: float = 1.5,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(student, dict(wide=wide, deep=deep), predict_on, init_cfg)
        self.image_weight, self.region_weight = image_weight, region_weight
        self.grid, self.cross = grid, cross

    def loss_teachers(
        self, inputs: Tensor, targets: Tensor, labelled: Tensor, **_
    ) -> dict[str, Tensor]:
        """The teachers' losses: arguments as in :meth:`loss_distill`."""
        x, y = inputs[labelled], targets[labelled]
        u0, u1 = halves(inputs[~labelled])
        masks = xor_boxes(len(u0), tuple(inputs.shape[-2:]))
        mixed = mix(u0, u1, masks)
        both = self.wide, self.deep
        with torch.no_grad():
            pairs = [full_logits(net, torch.cat([u0, u1])).argmax(1) for net in both]
            labels = [mix(*pair.chunk(2), masks) for pair in pairs]
        losses = {}
        for name, net, other in zip(self.named, both, labels[::-1], strict=True):
            losses[f"loss_{name}"] = pixel_ce(full_logits(net, x), y)
            taught = pixel_ce(full_logits(net, mixed), other)
            losses[f"loss_{name}_taught"] = self.cross * self.progress.share * taught
        losses["agreement"] = agreement(*labels)
        return losses

    def loss_distill(
        self, inputs: Tensor, targets: Tensor, labelled: Tensor, **_
    ) -> dict[str, Tensor]:
        """The student's losses.

        Args:
            inputs: N x 3 x H x W, 0-255.
            targets: N x H x W; read where ``labelled`` only.
            labelled: N, bool; an even number are not.
        """
        x, y = inputs[labelled], targets[labelled]
        u0, u1 = halves(inputs[~labelled])
        size = tuple(inputs.shape[-2:])
        masks = xor_boxes(len(u0), size)
        mixed = mix(u0, u1, masks)
        parts = [len(u0), len(u1), len(mixed), len(x)]
        asked, labels, known = torch.cat([u0, u1, mixed, x]), [], []
        with torch.no_grad():
            w, f_w = self._answer(self.wide, asked, size)
            d = full_logits(self.deep, asked)
            f_w, z_d = f_w.split(parts)[2], d.split(parts)[2]
            for logits in (w, d):
                first, second, _, on_x = logits.argmax(1).split(parts)
                labels.append(mix(first, second, masks))
                known.append(on_x.where(y != IGNORE, IGNORE))
        z, f = self._answer(self.student, mixed, size)
        losses = {"loss_pixel": sum(pixel_ce(z, label) for label in labels)}
        if self.image_weight:
            gap = (z.mean((2, 3)) - z_d.mean((2, 3))).abs().sum()
            losses["loss_image"] = self.image_weight * gap
        if self.region_weight:
            pooled = [F.adaptive_avg_pool2d(m, self.grid).flatten(2) for m in (f, f_w)]
            losses["loss_region"] = self.region_weight * region_similarity_loss(*pooled)
        z = full_logits(self.student, x)
        losses["loss_ce"] = pixel_ce(z, y)
        losses["loss_known"] = sum(pixel_ce(z, label) for label in known)
        losses["agreement"] = agreement(*labels)
        return losses

    @staticmethod
    def _answer(
        network: nn.Module, images: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        maps = network.extract_feat(normalise(network, images))
        return head_logits(network, maps, size, with_features=True)


def region_similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """How differently two networks relate an image's regions to each other.

    The mean squared difference of the R x R matrices of cosines between regions. The
    teacher's gradient is stopped. A region without any feature (below 1e-6) has cosine
    0 with all, itself included.

    Args:
        student: Pooled vectors of R regions, [N, D, R].
        teacher: [N, E, R]; the channels need not be as many.

    Returns:
        A scalar, the mean over N x R x R; 0 for an empty batch.

    Raises:
        UserError: Other shapes, or another number of images or regions.

    Examples:
        >>> one = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> region_similarity_loss(one, torch.tensor([[[1.0, 1.0], [0.0, 1.0]]])).item()
        0.25
    """
    fits = student.dim() == teacher.dim() == 3
    if not fits or student.shape[::2] != teacher.shape[::2]:
        raise UserError(
            f"region_similarity_loss: {tuple(student.shape)} and "
            f"{tuple(teacher.shape)} do not fit.",
            "Give [N, D, R] and [N, E, R]: the same images and regions.",
        )
    squared = (similarity(student) - similarity(teacher.detach())).square()
    return squared.sum() / max(squared.numel(), 1)


def similarity(regions: Tensor) -> Tensor:
    """Cosines between regions: [N, D, R] -> [N, R, R]."""
    unit = F.normalize(float32(regions), dim=1, eps=1e-6)
    return unit.transpose(1, 2) @ unit


def halves(images: Tensor) -> tuple[Tensor, Tensor]:
    """The unlabelled images of a batch as two of the same size.

    Raises:
        UserError: Their number is odd.
    """
    if len(images) % 2:
        raise UserError(
            f"MGD mixes pairs, and a batch has {len(images)} unlabelled images.",
            "Make their number even: batch_size and source_ratio of SemiSampler.",
        )
    return tuple(images.chunk(2)) if len(images) else (images, images)


def agreement(one: Tensor, two: Tensor) -> Tensor:
    """Share of pixels that two label maps agree on; 1 where there are none."""
    return (one == two).float().mean() if one.numel() else torch.ones(())
