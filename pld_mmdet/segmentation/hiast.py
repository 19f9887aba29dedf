"""HIAST: rounds of self-training with thresholds that follow each class."""

import math
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import is_main_process
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from pld_mmdet.distill.ema import ema_update
from pld_mmdet.distill.losses import entropy_of_log, masked_mean, soft_nll
from pld_mmdet.errors import one_of
from pld_mmdet.registry import MODELS
from pld_mmdet.segmentation.data.pseudo_labels import (
    LabelFolder,
    LabelPass,
    check_everywhere,
    fingerprint,
)
from pld_mmdet.segmentation.learners.losses import IGNORE, pixel_ce, uniform_ce
from pld_mmdet.segmentation.networks.adversarial import (
    OutputDiscriminator,
    adversarial_losses,
)
from pld_mmdet.segmentation.networks.segmentors import (
    TeacherStudent,
    confident_labels,
    full_logits,
)

HIGHEST = 0.999  # a threshold of 1 would never select again


def update_threshold(
    confidences: Tensor | np.ndarray,
    threshold: float,
    alpha: float = 0.5,
    beta: float = 0.9,
    gamma: float = 8.0,
) -> float:
    """One step of a class's threshold: the instance adaptive selector (IAS).

    ``psi = quantile(confidences + [theta], 1 - alpha theta^gamma)``, then ``theta <-
    beta theta + (1 - beta) psi``, below 1. The level uses the old theta; a hard class,
    whose theta is low, keeps a smaller top share.

    Args:
        confidences: [n] of the pixels that are predicted as this class.
        threshold: The old theta.
        alpha: Share to select when theta is 1 [0.5, GTA5 -> Cityscapes].
        beta: What stays of the old theta [0.9].
        gamma: How much hard classes are held back [8].

    Returns:
        The new theta; the old one, exactly, for a class without pixels.

    Examples:
        >>> round(update_threshold(np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]),
        ...                        0.9), 6)
        0.902467
    """
    values = np.asarray(confidences, np.float64).ravel()
    if values.size == 0:
        return float(threshold)
    level = 1 - alpha * threshold**gamma
    psi = np.quantile(np.append(values, threshold), level)
    theta = float(beta * threshold + (1 - beta) * psi)
    return theta if theta < 1 else HIGHEST


@MODELS.register_module()
class HIAST(TeacherStudent):
    r"""Hard-aware instance adaptive self-training (Zhu et al. 2023/2025).

    Stages of ``StagedLoop``, whose names may end with a number. ``source``: CE of the
    labelled images alone. ``warm_up``: labelled source and unlabelled target images;
    D is a discriminator of softmax maps::

        L = CE(source) + w_adv (D(p_t) - 1)^2 + w_ent H(p_t) / ln C  and D's own loss

    ``round``: S is the student, E its average. Before it, E labels all target
    images, a batch at a time, each class's threshold moving with the batches
    (:func:`update_threshold`); E becomes a copy of S. Then, with labels y, M the pixels
    that have one and U the rest, z = S(strong view), e = sg softmax E(weak view)::

        L = mean_M CE(z, y) + kld mean_M KL(uniform || p)      (smooth what is sure)
            + ent mean_U H(p) + cst mean_U CE(e, p)            (sharpen what is not)

    The last three means are over pixels and classes, so C times smaller than per pixel
    (``per='element'``). ``TeacherEMAHook(keep=0.999, buffers='copy')`` moves E.

    Deviations from the released code (bupt-ai-cz/HIAST, f2f357a): confidences are not
    rounded to float16; the consistency term divides by C |U|, not by the number of
    products that are not zero; empty M or U cost 0, not NaN.

    Args:
        segmentor: Config of a segmentor of mmsegmentation, for S and E.
        alpha: Of IAS [0.5, GTA5 -> Cityscapes; 0.2 in other settings].
        beta: Of IAS [0.9]. 1 keeps the threshold constant.
        gamma: Of IAS [8].
        theta: Threshold of all classes at the start of a labelling pass [0.9].
        kld: Weight of the smoothing [0.1].
        ent: Weight of the sharpening [1].
        cst: Weight of the consistency with E [0.5].
        per: ``element`` (released) or ``pixel``, see above.
        adversarial: w_adv of the warm-up [0.05]; 0 builds no discriminator.
        warm_entropy: w_ent of the warm-up, mean over pixels of an entropy that is 1 for
            a uniform prediction [3].
        discriminator_width: [64].
        freeze_affine: Rounds do not train batch norms' weights and biases; their
            statistics follow the batches [True].
        freeze_warm_up: The warm-up freezes them too; they are trained in ``source``
            stages only [True in the released code; False here, where a warm-up may
            begin with untrained norms].
        predict_on: [``student``].
    """

    default_stage = "round"
    work = {"round": "all target images, each once"}

    def __init__(
        self,
        segmentor: dict,
        alpha: float = 0.5,
        beta: float = 0.9,
        gamma: float = 8.0,
        theta: float = 0.9,
        kld: float = 0.1,
        ent: float = 1.0,
        cst: float = 0.5,
        per: str = "element",
        adversarial: float = 0.05,
        warm_entropy: float = 3.0,
        discriminator_width: int = 64,
        freeze_affine: bool = True,
        freeze_warm_up: bool = False,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(segmentor, predict_on, init_cfg)
        one_of("HIAST", per=(per, ("element", "pixel")))
        self.alpha, self.beta, self.gamma, self.theta = alpha, beta, gamma, theta
        self.kld, self.ent, self.cst, self.per = kld, ent, cst, per
        self.adversarial, self.warm_entropy = adversarial, warm_entropy
        self.freeze_affine, self.freeze_warm_up = freeze_affine, freeze_warm_up
        self.num_classes = self.student.num_classes
        if adversarial:
            self.discriminator = OutputDiscriminator(
                self.num_classes, discriminator_width
            )
        self.register_buffer("rounds", torch.zeros((), dtype=torch.long))

    def enter_stage(self, name: str) -> None:
        """Freeze what the stage does not train."""
        rounds, source = (name.startswith(stage) for stage in ("round", "source"))
        if (self.freeze_affine and rounds) or (self.freeze_warm_up and not source):
            for module in self.student.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.requires_grad_(False)

    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """Before a round: E labels the target images, then starts from S again."""
        if not name.startswith("round"):
            return
        self.check_work(name, loader)
        check_everywhere(name, loader)
        if self.rounds == 0:  # the warm-up's weights label for the first round
            ema_update(self.teacher, self.student, keep=0.0, buffers="copy")
        if is_main_process():  # thresholds move from batch to batch: one process
            self._label(loader, LabelFolder(folder))
        ema_update(self.teacher, self.student, keep=0.0, buffers="copy")
        self.rounds += 1

    @torch.no_grad()
    def _label(self, loader: DataLoader, folder: LabelFolder) -> None:
        """One pass of IAS over the target images, in the loader's order."""
        marks = dict(
            weights=fingerprint(self.teacher),
            settings=[self.alpha, self.beta, self.gamma, self.theta],
        )
        if folder.index().items() >= marks.items():
            return  # a run that was stopped after this pass goes on
        made = LabelPass(folder, self.num_classes)
        theta = np.full(self.num_classes, self.theta)
        for batch in loader:
            inputs = self.data_preprocessor(batch, False)["inputs"]
            logits = full_logits(self.teacher, inputs)
            confidence, labels = (x.cpu().numpy() for x in confident_labels(logits))
            for c in np.unique(labels):
                here, ias = confidence[labels == c], (self.alpha, self.beta, self.gamma)
                theta[c] = update_threshold(here, theta[c], *ias)
            made.add(batch["path"], confidence, labels, theta)
        made.finish(marks, theta)

    def loss_source(
        self, inputs: Tensor, targets: Tensor, labelled: Tensor, **_
    ) -> dict[str, Tensor]:
        """Cross-entropy of the labelled images: N x 3 x H x W, N x H x W, N bool."""
        logits = full_logits(self.student, inputs[labelled])
        return {"loss_ce": pixel_ce(logits, targets[labelled])}

    def loss_warm_up(
        self, inputs: Tensor, targets: Tensor, labelled: Tensor, **_
    ) -> dict[str, Tensor]:
        """Of the labelled images, and of the others' entropy and origin."""
        source = full_logits(self.student, inputs[labelled])
        losses = {"loss_ce": pixel_ce(source, targets[labelled])}
        if not (self.adversarial or self.warm_entropy):
            return losses
        log_p = full_logits(self.student, inputs[~labelled]).log_softmax(1)
        if self.warm_entropy:
            mean = entropy_of_log(log_p, 1).mean() / math.log(self.num_classes)
            losses["loss_entropy"] = self.warm_entropy * mean
        if self.adversarial:
            known, p = source.detach().softmax(1), log_p.exp()
            fooled, told = adversarial_losses(self.discriminator, known, p)
            losses["loss_adversarial"] = self.adversarial * fooled
            losses["loss_discriminator"] = told
        return losses

    def loss_round(self, weak: Tensor, strong: Tensor, targets: Tensor, **_) -> dict:
        """Of target images [N, 3, H, W] twice and their labels [N, H, W]."""
        log_p = full_logits(self.student, strong).log_softmax(1)
        sure = targets != IGNORE
        scale = 1.0 / self.num_classes if self.per == "element" else 1.0
        ce = F.nll_loss(log_p, targets, ignore_index=IGNORE, reduction="none")
        losses = {"loss_ce": masked_mean(ce, sure), "labelled": sure.float().mean()}
        if self.kld:
            smooth = masked_mean(uniform_ce(log_p), sure)
            losses["loss_smooth"] = self.kld * scale * smooth
        if self.ent:
            sharp = masked_mean(entropy_of_log(log_p, 1), ~sure)
            losses["loss_sharpen"] = self.ent * scale * sharp
        if self.cst:
            with torch.no_grad():
                soft = full_logits(self.teacher, weak).softmax(1)
            agree = masked_mean(soft_nll(log_p, soft, 1), ~sure)
            losses["loss_consistency"] = self.cst * scale * agree
        return losses
