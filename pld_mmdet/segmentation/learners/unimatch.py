"""UniMatch: weak-to-strong consistency with two views and perturbed features."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS, TRANSFORMS
from pld_mmdet.segmentation.data.pipelines import to_tensor
from pld_mmdet.segmentation.data.views import photo_view
from pld_mmdet.segmentation.learners.losses import IGNORE, pixel_ce
from pld_mmdet.segmentation.networks.segmentors import (
    SegmentationMethod,
    build_segmentor,
    confident_labels,
    full_logits,
    head_logits,
    normalise,
)
from pld_mmdet.shared.mixing import maybe_boxes, mix

SOURCES = ("labelled", "unlabelled", "ood")


class Labels(NamedTuple):
    """Label maps, how sure they are, and where there is an image: N x H x W each."""

    classes: Tensor
    confidence: Tensor
    valid: Tensor

    def paste(self, other: "Labels", boxes: Tensor) -> "Labels":
        """``other`` inside the boxes, N x H x W bool: all three alike."""
        return Labels(*(mix(a, b, boxes) for a, b in zip(self, other, strict=True)))


class Views(NamedTuple):
    """One part of a batch: the weak and both strong views, N x 3 x H x W, and maps."""

    weak: Tensor
    strong: tuple[Tensor, Tensor]
    targets: Tensor

    def pasted(self, other: "Views", boxes: Sequence[Tensor]) -> Tensor:
        """Both strong views with those of ``other`` in the boxes, 2 N x 3 x H x W."""
        triples = zip(self.strong, other.strong, boxes, strict=True)
        return torch.cat([mix(*triple) for triple in triples])


@MODELS.register_module()
class UniMatch(SegmentationMethod):
    r"""Semi-supervised segmentation by consistency (Yang et al. 2023).

    Labelled images x, two draws u and u' of unlabelled ones, with a weak view w and
    strong views s1 and s2 of one crop; boxes m1, m2::

        y', c' = argmax, max softmax S(u'_w)          in evaluation mode
        z_x, z_u, z_u^fp: one pass over x and u_w; for fp half of the channels of the
                          lowest and of the highest map are dropped
        y, c   = argmax, max softmax z_u              a constant
        u_si   = u'_si inside m_i; y and c likewise
        l(z; y, c) = sum CE [c >= threshold] [valid] / sum [valid]
        L = (CE(x) + l(u_s1) / 4 + l(u_s2) / 4 + l(z_u^fp; y, c) / 2) / 2

    It divides by all pixels of images, not by the confident ones. The rows of SemiOVS
    need it; it is not one of the project's methods. u and u' are drawn together,
    without a repeat (the authors draw them apart).

    Args:
        segmentor: Config of a segmentor of mmsegmentation.
        threshold: Of the confidence [0.95, authors' configs].
        drop: Share of channels dropped for fp [0.5, ibid.].
        box_probability: Of a box in an image [0.5, ibid.].
    """

    def __init__(
        self,
        segmentor: dict,
        threshold: float = 0.95,
        drop: float = 0.5,
        box_probability: float = 0.5,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.student = build_segmentor(segmentor)
        self.threshold, self.drop = threshold, drop
        self.box_probability = box_probability

    def loss(
        self,
        inputs: Tensor,
        strong_1: Tensor,
        strong_2: Tensor,
        targets: Tensor,
        source: Tensor,
        **_,
    ) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            inputs: Weak views, N x 3 x H x W, 0-255.
            strong_1: Of the same shape and geometry.
            strong_2: Likewise.
            targets: N x H x W: labels of labelled images; of the others only 255,
                where there is no image, is read.
            source: N, number of each image's source in :data:`SOURCES`.
        """
        x, u, other, _ = split(inputs, (strong_1, strong_2), targets, source)
        boxes = self.boxes(u)
        theirs = self.ask(other)
        z_x, (z_u, fp), _ = self.weak_pass(x, u)
        ours = self.labels(z_u, u)
        z = full_logits(self.student, u.pasted(other, boxes)).chunk(2)
        pasted = [ours.paste(theirs, m) for m in boxes]
        return {
            "loss_ce": pixel_ce(z_x, x.targets) / 2,
            "loss_u": self.consistency(z, pasted, fp, ours) / 2,
            "confident": self.confident(ours),
        }

    def boxes(self, part: Views) -> tuple[Tensor, Tensor]:
        """A draw for each strong view, N x H x W bool."""
        size = tuple(part.weak.shape[-2:])
        return tuple(
            maybe_boxes(len(part.weak), size, self.box_probability) for _ in (1, 2)
        )

    @torch.no_grad()
    def ask(self, part: Views) -> Labels:
        """The network's labels of weak views, in evaluation mode."""
        mode = self.student.training
        self.student.eval()
        labels = self.labels(full_logits(self.student, part.weak), part)
        self.student.train(mode)
        return labels

    def labels(self, logits: Tensor, part: Views) -> Labels:
        """Argmax labels of logits as constants, and where there is an image."""
        confidence, classes = confident_labels(logits)
        return Labels(classes, confidence, part.targets != IGNORE)

    def weak_pass(self, *parts: Views) -> list:
        """One pass over the weak views of all parts.

        Returns:
            The logits of the first part, (logits, logits with perturbed features) of
            each other one, and for two parts a third, empty pair.
        """
        images = torch.cat([part.weak for part in parts])
        maps = self.student.extract_feat(normalise(self.student, images))
        both = [torch.cat([m, m]) for m in maps]
        for place in {0, len(maps) - 1}:
            m = maps[place]
            both[place] = torch.cat([m, F.dropout2d(m, self.drop)])
        z = head_logits(self.student, tuple(both), tuple(images.shape[-2:]))
        lengths = [len(part.weak) for part in parts]
        plain, perturbed = (half.split(lengths) for half in z.chunk(2))
        rest = list(zip(plain[1:], perturbed[1:], strict=True))
        return [plain[0], *rest, *[(None, None)] * (3 - len(parts))]

    def term(self, logits: Tensor, labels: Labels) -> Tensor:
        """``l`` above: the confident pixels' loss over all valid pixels."""
        sure = (labels.confidence >= self.threshold).to(logits)
        return pixel_ce(logits, labels.classes.where(labels.valid, IGNORE), sure)

    def consistency(
        self,
        strong: Sequence[Tensor],
        pasted: Sequence[Labels],
        perturbed: Tensor,
        labels: Labels,
    ) -> Tensor:
        """Both strong views and the perturbed features of one stream."""
        views = [self.term(z, y) for z, y in zip(strong, pasted, strict=True)]
        return stream(*views, self.term(perturbed, labels))

    def confident(self, labels: Labels) -> Tensor:
        """Share of the valid pixels whose label counts, for the log."""
        sure = (labels.confidence >= self.threshold) & labels.valid
        return sure.sum() / labels.valid.sum().clamp(min=1)


def stream(strong_1: Tensor, strong_2: Tensor, perturbed: Tensor) -> Tensor:
    """A stream's loss from its three terms: a quarter, a quarter, a half."""
    return (strong_1 + strong_2) / 4 + perturbed / 2


def split(
    weak: Tensor, strong: tuple[Tensor, Tensor], targets: Tensor, source: Tensor
) -> tuple[Views, Views, Views, Views]:
    """A batch as labelled, two halves of the unlabelled, and OOD images.

    Raises:
        UserError: The number of unlabelled images is odd.
    """
    rows = [(source == n).nonzero()[:, 0] for n in range(len(SOURCES))]
    if len(rows[1]) % 2:
        raise UserError(
            f"UniMatch pairs unlabelled images, and a batch has {len(rows[1])}.",
            "Make their number even: batch_size and source_ratio of SemiSampler.",
        )
    half = len(rows[1]) // 2
    parts = rows[0], rows[1][:half], rows[1][half:], rows[2]
    return tuple(
        Views(weak[r], (strong[0][r], strong[1][r]), targets[r]) for r in parts
    )


@TRANSFORMS.register_module()
class BlankMap:
    """A label map of zeros for an image without one, so that padding can mark it."""

    def __call__(self, results: dict) -> dict:
        """Add ``gt_seg_map``, H x W."""
        results["gt_seg_map"] = np.zeros(results["img"].shape[:2], np.uint8)
        results.setdefault("seg_fields", []).append("gt_seg_map")
        return results


@TRANSFORMS.register_module()
class PackConsistency:
    """End a pipeline: a weak and two strong views of one geometry, and the map.

    The sample is ``dict(inputs=, strong_1=, strong_2=, targets=, source=)``. Labelled
    images have no strong views of their own (the weak one, so that all sources share a
    batch).

    Args:
        source: ``labelled``, ``unlabelled`` or ``ood``.
        probabilities: Arguments of
            :func:`pld_mmdet.segmentation.data.views.photo_view`.
    """

    def __init__(self, source: str, **probabilities: float) -> None:
        one_of("PackConsistency", source=(source, SOURCES))
        self.source, self.probabilities = SOURCES.index(source), probabilities

    def __call__(self, results: dict) -> dict:
        """Pack."""
        image, views = results["img"], []
        for _ in range(2):
            strong = image
            if self.source:
                strong = photo_view(image, **self.probabilities)
            views.append(to_tensor(strong))
        targets = results["gt_seg_map"].astype(np.int64)
        return {
            "inputs": to_tensor(image),
            "strong_1": views[0],
            "strong_2": views[1],
            "targets": torch.from_numpy(targets),
            "source": self.source,
        }
