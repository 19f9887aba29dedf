"""SemiOVS: foreign images, labelled once by an open-vocabulary model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import get_dist_info
from torch import Tensor
from torch.utils.data import DataLoader

from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.segmentation.data.oracle import NoisyOracle
from pld_mmdet.segmentation.data.pseudo_labels import (
    INDEX,
    LabelFolder,
    check_everywhere,
)
from pld_mmdet.segmentation.learners.losses import IGNORE, pixel_ce
from pld_mmdet.segmentation.learners.unimatch import Labels, UniMatch, split
from pld_mmdet.segmentation.networks.segmentors import full_logits


@MODELS.register_module()
class SemiOVS(UniMatch):
    r"""UniMatch and a stream of out-of-distribution images (Shin et al. 2025).

    OOD images o have label maps y_o that a frozen open-vocabulary segmentor made before
    the training. With UniMatch's symbols, before u gets u'::

        o_si = u_si inside m_i;  label y_o, confidence 1 outside, u's own inside
        L_o = l(o_s1) / 4 + l(o_s2) / 4 + l(z_o^fp; y_o, 1) / 2
        L = (CE(x) + L_u + ood_weight L_o) / (2 + ood_weight)

    The threshold is asked of OOD labels too, and their confidence of 1 passes it. The
    plain logits of o are not used; x, u and o share one pass (and its batch norms).

    Stages of ``StagedLoop`` whose ``work_dataloader`` reads the OOD images begin with
    their labels: ``oracle`` makes maps from true ones, with mistakes, and writes them
    as PNGs in the data set's palette into the stage's folder, which
    ``LoadPseudoLabels(folder='{folder}')`` reads. Without a ``work_dataloader`` the
    maps are a folder that any open-vocabulary model has filled, one PNG an image;
    :func:`concept_labels` are the two rules by which the authors turn its scores into
    classes.

    Not here: the PrevMatch version (labels of earlier snapshots, +0.1 to 1.8 in the
    authors' table without OOD images) and the SemiVL version (CLIP as the student).
    From wooseok-shin/SemiOVS, c205caa.

    Args:
        segmentor: Config of a segmentor of mmsegmentation.
        ood_weight: lambda, the weight of the OOD stream [1, authors' config].
        consistent: False is the simple rival: supervised on x and on o with its maps,
            nothing else, ``(CE(x) + ood_weight CE(o_w)) / (1 + ood_weight)``.
        oracle: Arguments of :class:`NoisyOracle` [none: no maps are made].
        kwargs: As in :class:`UniMatch`.
    """

    def __init__(
        self,
        segmentor: dict,
        ood_weight: float = 1.0,
        consistent: bool = True,
        oracle: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(segmentor, **kwargs)
        self.ood_weight, self.consistent = ood_weight, consistent
        self.oracle = None if oracle is None else NoisyOracle(**oracle)

    def loss(
        self,
        inputs: Tensor,
        strong_1: Tensor,
        strong_2: Tensor,
        targets: Tensor,
        source: Tensor,
        **_,
    ) -> dict[str, Tensor]:
        """Losses of a batch: as in :class:`UniMatch`; OOD images have their maps."""
        parts = split(inputs, (strong_1, strong_2), targets, source)
        x, u, other, o = parts
        if not self.consistent:
            z = full_logits(self.student, torch.cat([x.weak, o.weak]))
            z_x, z_o = z.split([len(x.weak), len(o.weak)])
            foreign = self.ood_weight * pixel_ce(z_o, o.targets)
            total = 1 + self.ood_weight
            return {
                "loss_ce": pixel_ce(z_x, x.targets) / total,
                "loss_ood": foreign / total,
            }
        if len(o.weak) != len(u.weak):
            raise UserError(
                f"SemiOVS pastes each of {len(u.weak)} unlabelled images into one of "
                f"{len(o.weak)} OOD images.",
                "Set source_ratio=[1, 2, 1] of SemiSampler: half of the unlabelled "
                "images, and as many foreign ones.",
            )
        boxes = self.boxes(u)
        theirs = self.ask(other)
        z_x, (z_u, fp), (_, fp_o) = self.weak_pass(x, u, o)
        ours = self.labels(z_u, u)
        given = foreign_labels(o.targets)
        # the foreign images first: what is pasted into them is not mixed yet
        into_o, into_u = o.pasted(u, boxes), u.pasted(other, boxes)
        z_s = full_logits(self.student, into_u).chunk(2)
        z_os = full_logits(self.student, into_o).chunk(2)
        pasted = [ours.paste(theirs, m) for m in boxes]
        pasted_o = [given.paste(ours, m) for m in boxes]
        l_u = self.consistency(z_s, pasted, fp, ours)
        l_o = self.consistency(z_os, pasted_o, fp_o, given)
        total = 2 + self.ood_weight
        return {
            "loss_ce": pixel_ce(z_x, x.targets) / total,
            "loss_u": l_u / total,
            "loss_ood": self.ood_weight * l_o / total,
            "confident": self.confident(ours),
        }

    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """Label the OOD images of a stage's work loader, once.

        Raises:
            UserError: There is a work loader and nothing to label with.
        """
        if loader is None or get_dist_info()[0]:
            return
        if self.oracle is None:
            raise UserError(
                f"Stage {name} has OOD images to label, and SemiOVS has no oracle.",
                "Give the model oracle=dict(...), or read the maps of an "
                "open-vocabulary model from a folder and leave the work_dataloader "
                "out.",
            )
        check_everywhere(name, loader)
        palette = loader.dataset.metainfo.get("palette")
        maps = LabelFolder(folder, palette)
        (maps.folder / INDEX).unlink(missing_ok=True)
        counts = np.zeros(256, np.int64)
        for batch in loader:
            labels = self.oracle(batch["targets"].numpy(), batch["path"])
            for path, one in zip(batch["path"], labels, strict=True):
                maps.write(path, one)
                counts += np.bincount(one.ravel(), minlength=256)
        classes = list(loader.dataset.metainfo["classes"])
        pixels = {n: int(c) for n, c in zip(classes, counts, strict=False)}
        maps.finish(dict(made_by=repr(self.oracle), classes=classes, pixels=pixels))


def foreign_labels(targets: Tensor) -> Labels:
    """Maps N x H x W of OOD images: sure everywhere; 255 is padding, not a label."""
    valid = targets != IGNORE
    sure = torch.ones(targets.shape, device=targets.device)
    return Labels(targets.where(valid, 0), sure, valid)


def concept_labels(
    scores: Tensor, concepts: Sequence[Sequence[int]], num_classes: int | None = None
) -> Tensor:
    """Classes from an open-vocabulary model's scores of single concepts.

    A class's score is the largest of its concepts (all known other names are concepts
    of the background); the class is the argmax. Every pixel gets one, without a
    threshold. A class's synonyms are one concept: average their text embeddings over
    templates, then over synonyms, before the model is asked.

    Args:
        scores: [..., M, H, W], one map a concept.
        concepts: For each class the places of its concepts among the M.
        num_classes: How many classes there must be [as many as given].

    Returns:
        [..., H, W], numbers of classes.

    Raises:
        UserError: A class without concepts, or places that the scores lack.
    """
    known = scores.shape[-3]
    right = bool(concepts) and num_classes in (None, len(concepts))
    for number, places in enumerate(concepts):
        if not places or min(places) < 0 or max(places) >= known:
            raise UserError(
                f"concept_labels: class {number} has concepts {list(places)} of "
                f"{known}.",
                "Give each class at least one place among the scores.",
            )
    if not right:
        raise UserError(
            f"concept_labels: {len(concepts)} classes, expected {num_classes}.",
            "Give the concepts of every class.",
        )
    best = [scores[..., list(places), :, :].amax(-3) for places in concepts]
    return torch.stack(best, -3).argmax(-3)
