"""AGMM: sparse labels and a Gaussian mixture of each image that teach each other."""

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.distill._checks import wide
from pld_mmdet.distill.losses import masked_mean
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS
from pld_mmdet.segmentation.learners.losses import IGNORE, UNANNOTATED, pixel_ce
from pld_mmdet.segmentation.networks.segmentors import (
    SegmentationMethod,
    build_segmentor,
    head_logits,
    normalise,
)

EPS = 1e-6


@MODELS.register_module()
class AGMM(SegmentationMethod):
    r"""Segmentation from points or scribbles with adaptive Gaussian mixtures.

    Wu et al. 2023 and 2024. For the classes c with an annotated pixel in the crop of
    image b, f being the features before the classifier and p the network's softmax::

        mu_bc = mean of f over the annotated pixels of c in b
        g_c   = exp(-d^2),  d = mean over channels |f - mu_bc|
        L = CE(annotated)                                                  loss_ce
          + negative mean_pixels sum_{c not in the image} -log(1 - p_c)    loss_negative
          + gmm      mean_pixels mean_c BCE(p_c; g_c) / 2                  loss_gmm
          + compact  mean_annotated mean_c BCE(g_c; label) / 2             loss_compact
          + separate mean_pairs exp(-d(v_c, v_e)^2)                        loss_separate

    "Pixels" are all but padding (255), also those that nobody annotated (254). The
    image's classes are those of its whole map (``present``), those of the mixture what
    the crop has kept. Nothing is detached. v_c is the sum of mu_bc over the images of
    the batch, as released (a mean was meant: its divisor cancels itself).

    From Luffy03/AGMM-SASS, 6a60ea0, the repository of the 2023 version; no code of the
    journal's was found, so its image tags and boxes are not here. The released response
    has a fixed width, 2 sigma^2 = 1; ``sigma='estimated'`` is the paper's, from the
    lines that the code has commented out. Deviation: maps are resized with the head's
    own ``align_corners``.

    Args:
        segmentor: Config of a segmentor of mmsegmentation whose head ends in
            ``cls_seg``; set the head's ``dropout_ratio=0``, as the authors' has none.
        negative: Weight of the absent classes' term [1, authors' train_voc.py].
        gmm: Of the mixture's answer as a soft label and back [1].
        compact: Of annotated pixels to their own mean [1].
        separate: Of the means from each other [1].
        sigma: ``fixed`` [released] or ``estimated`` for each image and class.

    Raises:
        UserError: An unknown ``sigma``.
    """

    def __init__(
        self,
        segmentor: dict,
        negative: float = 1.0,
        gmm: float = 1.0,
        compact: float = 1.0,
        separate: float = 1.0,
        sigma: str = "fixed",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of("AGMM", sigma=(sigma, ("fixed", "estimated")))
        self.student = build_segmentor(segmentor)
        self.negative, self.gmm = negative, gmm
        self.compact, self.separate = compact, separate
        self.sigma = sigma

    def loss(
        self, inputs: Tensor, targets: Tensor, present: Tensor | None = None, **_
    ) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            inputs: N x 3 x H x W, 0-255.
            targets: N x H x W: a class, 254 where nobody annotated, 255 on padding.
            present: N x C, bool: classes of the whole images.

        Raises:
            UserError: There is no ``present``.
        """
        if present is None:
            raise UserError(
                "AGMM needs the classes of each whole image, and the batch has none.",
                "Put dict(type='pld_mmdet.KeepPoints', num_classes=..., count=...) "
                "behind the transform that loads the label map.",
            )
        features = self.student.extract_feat(normalise(self.student, inputs))
        size = tuple(targets.shape[-2:])
        logits, f = head_logits(self.student, features, size, with_features=True)
        known = targets < UNANNOTATED
        losses = {"loss_ce": pixel_ce(logits, targets.where(known, IGNORE))}
        p, pixels = logits.softmax(1), targets != IGNORE
        if self.negative:
            absent = -((1 - p + EPS).log() * ~present[:, :, None, None]).sum(1)
            losses["loss_negative"] = self.negative * masked_mean(absent, pixels)
        if not (self.gmm or self.compact or self.separate):
            return losses
        labels = one_hot(targets, logits.shape[1])
        here = labels.flatten(2).any(2)  # N x C
        mu = centroids(f, labels, self.student.decode_head.align_corners)
        g = self._response(f, mu, here, p, pixels)
        if self.gmm:
            value = class_mean(soft_bce(p, g), here)
            losses["loss_gmm"] = self.gmm * masked_mean(value, pixels)
        if self.compact:
            losses["loss_compact"] = self.compact * compactness(g, targets, here)
        if self.separate:
            losses["loss_separate"] = self.separate * separation(mu, here)
        with torch.no_grad():  # 0 or 1 everywhere: the features are not comparable
            losses["response"] = masked_mean(class_mean(g, here), pixels)
        return losses

    def _response(
        self, f: Tensor, mu: Tensor, here: Tensor, p: Tensor, pixels: Tensor
    ) -> Tensor:
        """g, N x C x H x W; 0 for classes that the crop lacks."""
        count, _, *size = f.shape
        d = distance(f.flatten(2).transpose(1, 2), mu)
        d = d.transpose(1, 2).reshape(count, -1, *size)
        inside = self._resize(pixels[:, None].to(f), size)
        d = d * inside
        width = 1.0
        if self.sigma == "estimated":
            with torch.no_grad():
                share = self._resize(p, size) * inside
                total = share.sum((2, 3), keepdim=True)
                variance = (share * d**2).sum((2, 3), keepdim=True) / (total + EPS)
                width = 2 * variance + EPS
        g = self._resize((-(d**2) / width).exp(), pixels.shape[-2:])
        return g * here[:, :, None, None]

    def _resize(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        corners = self.student.decode_head.align_corners
        return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=corners)


def responsibilities(features: Tensor, prototypes: Tensor) -> Tensor:
    """How much each component answers for each pixel: exp(-d^2), d = mean |f - mu|.

    The distance is a mean over the channels, not a Euclidean norm, which would be so
    large in many channels that every response is 0. Rows do not sum to 1.

    Args:
        features: [N, D] (or [..., N, D]).
        prototypes: Means of the components, [K, D] (or [..., K, D]).

    Returns:
        [N, K] (or [..., N, K]), between 0 and 1.

    Raises:
        UserError: The channels differ, or one is no matrix.

    Examples:
        >>> f, mu = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 2.0], [3.0, 0.0]])
        >>> [round(x, 6) for x in responsibilities(f, mu)[0].tolist()]
        [0.778801, 0.018316]
    """
    return (-(distance(features, prototypes) ** 2)).exp()


def distance(features: Tensor, prototypes: Tensor) -> Tensor:
    """Mean over the channels of |f - mu|: [..., N, D], [..., K, D] -> [..., N, K]."""
    if (
        min(features.dim(), prototypes.dim()) < 2
        or features.shape[-1] != prototypes.shape[-1]
    ):
        raise UserError(
            f"AGMM: features {tuple(features.shape)} and prototypes "
            f"{tuple(prototypes.shape)} do not fit.",
            "Give [N, D] and [K, D] with the same channels.",
        )
    channels = max(features.shape[-1], 1)
    # no N x K x D in memory: 2 GB for a batch of VOC crops
    return torch.cdist(wide(features), wide(prototypes), p=1) / channels


def one_hot(targets: Tensor, num_classes: int) -> Tensor:
    """N x H x W labels -> N x C x H x W bool; 254 and 255 are in no class."""
    numbers = torch.arange(num_classes, device=targets.device)
    return targets[:, None] == numbers[:, None, None]


def centroids(features: Tensor, labels: Tensor, align_corners: bool = False) -> Tensor:
    """Mean feature of the annotated pixels of each class, of each image for itself.

    Features are wanted at the labels' size, resized bilinearly. A sum over resized
    features is a weighted sum over the cells, so the labels are brought to the cells
    (the transpose of the resizing) and no feature is resized.

    Args:
        features: N x D x h x w.
        labels: N x C x H x W, bool.
        align_corners: Of the resizing.

    Returns:
        N x C x D; 0 for a class without a pixel.
    """
    count, _, *cells = features.shape
    with torch.enable_grad():
        empty = features.new_zeros(count, labels.shape[1], *cells, requires_grad=True)
        large = F.interpolate(
            empty, labels.shape[2:], mode="bilinear", align_corners=align_corners
        )
    marked = labels.to(features)
    (weights,) = torch.autograd.grad(large, empty, marked)
    total = torch.einsum("ncp,ndp->ncd", weights.flatten(2), features.flatten(2))
    return total / marked.sum((2, 3))[..., None].clamp(min=1)


def compactness(g: Tensor, targets: Tensor, here: Tensor) -> Tensor:
    """Mean over annotated pixels of the classes' mean of BCE(g; label) / 2.

    Args:
        g: Responses, N x C x H x W.
        targets: N x H x W; 254 and 255 are not annotated.
        here: N x C, bool: classes that the mean is over.

    Returns:
        A scalar; 0 where nothing is annotated.
    """
    known = targets < UNANNOTATED
    answers = g.movedim(1, -1)[known]  # M x C
    labels = F.one_hot(targets[known], g.shape[1]).to(g)
    counts = here[known.nonzero()[:, 0]].to(g)
    values = (soft_bce(answers, labels) * counts).sum(1) / counts.sum(1).clamp(min=1)
    return masked_mean(values, torch.ones_like(values))


def soft_bce(answer: Tensor, target: Tensor) -> Tensor:
    """Half of the binary cross-entropy of probabilities, element by element."""
    yes, no = (answer + EPS).log(), (1 - answer + EPS).log()
    return -(target * yes + (1 - target) * no) / 2


def class_mean(values: Tensor, here: Tensor) -> Tensor:
    """Mean over the classes that an image has: N x C x H x W, N x C -> N x H x W."""
    total = (values * here[:, :, None, None]).sum(1)
    return total / here.sum(1).clamp(min=1)[:, None, None]


def separation(mu: Tensor, here: Tensor) -> Tensor:
    """Mean response of the batch's class vectors to each other.

    Args:
        mu: N x C x D, 0 for absent classes.
        here: N x C, bool.

    Returns:
        A scalar; 0 for fewer than two classes.
    """
    vectors = mu.sum(0)[here.any(0)]
    count = len(vectors)
    pairs = torch.ones(count, count, dtype=torch.bool, device=mu.device).triu(1)
    return masked_mean(responsibilities(vectors, vectors), pairs)
