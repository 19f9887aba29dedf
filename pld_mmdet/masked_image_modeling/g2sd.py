"""G2SD: a small ViT learns to predict a large MAE's decoder, then its fine-tuned self.

Huang et al. 2023, Generic-to-Specific Distillation of Masked Autoencoders,
https://arxiv.org/abs/2302.14771::

    generic:   keep = random visible patches, the same for both networks
               h_T  = teacher's decoder tokens after block t   # class and all patches
               h_S  = predict(student's decoder tokens)        # no norm before it
               L    = SmoothL1_beta(h_S, LayerNorm(h_T) without affine), mean
    specific:  (x, y) = mixed images and labels, the student has a distillation token
               L    = 1/2 CE(head(class token), y)
                      + 1/2 CE(head_dist(distillation token), argmax teacher(x))

Read for facts only: pengzhiliang/G2SD, commit 6146adf. There the encoder's features
have a loss too, times 0: left out. The losses of detection and segmentation, and NKD
in place of the second stage's, are not here.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill.losses import soft_cross_entropy
from pld_mmdet.distill.teachers import Frozen
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.masked_image_modeling.learners.pretraining import (
    MaskedPretraining,
    decoder_for,
)
from pld_mmdet.masked_image_modeling.networks.vit import load_weights, take
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.mixing import cutmix, mixup


def target(features: Tensor) -> Tensor:
    """Each token with mean 0 and variance 1: a layer norm without weights.

    Args:
        features: [..., D], D of 1 or more.

    Returns:
        Of the same shape, in float32 or wider; (biased) variance, eps 1e-6.

    Examples:
        >>> [round(x, 4) for x in target(torch.tensor([1.0, 3.0, 5.0])).tolist()]
        [-1.2247, 0.0, 1.2247]
    """
    if features.dim() == 0 or features.shape[-1] == 0:
        raise UserError(
            f"g2sd.target: {tuple(features.shape)} has no channels to normalise over.",
            "Give tokens [..., D].",
        )
    if features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()
    return F.layer_norm(features, features.shape[-1:], eps=1e-6)


class PooledClassifier(nn.Module):
    """A ViT with a linear head on its normalised mean patch token (MAE's fine-tuning).

    Args:
        encoder: Config of a ``MaskedViT``.
        num_classes: K.
        checkpoint: File of a fine-tuned ViT, of this class or of the official MAE.
    """

    def __init__(
        self, encoder: dict, num_classes: int, checkpoint: str | None = None
    ) -> None:
        super().__init__()
        encoder = MODELS.build({**encoder, "checkpoint": None})
        self.patch_embed, self.cls_token = encoder.patch_embed, encoder.cls_token
        self.register_buffer("pos_embed", encoder.pos_embed)
        self.blocks = encoder.blocks
        self.fc_norm = nn.LayerNorm(encoder.dim, eps=1e-6)
        self.head = nn.Linear(encoder.dim, num_classes)
        if checkpoint is not None:
            load_weights(self, checkpoint)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x K logits."""
        first = self.cls_token.expand(len(x), -1, -1)
        tokens = torch.cat([first, self.patch_embed(x)], 1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.fc_norm(tokens[:, 1:].mean(1)))


@MODELS.register_module()
class G2SD(MaskedPretraining):
    """Student MAE, frozen teacher MAE, frozen fine-tuned teacher.

    Stages, with ``StagedLoop``: ``teacher`` (the teacher as an MAE), ``tutor`` (that
    encoder fine-tuned on labels), ``generic``, ``specific``; and those of
    ``MaskedPretraining``. The first two need ``learn_teachers``; else both come from
    files. Without ``StagedLoop`` it is ``generic``.

    Args:
        student: Config of a ``MaskedViT``.
        decoder: Config of the student's ``MAEDecoder``.
        teacher: Config of a ``MaskedViT`` (``checkpoint``: a pre-trained MAE's file).
        teacher_decoder: Config of its ``MAEDecoder`` (``checkpoint``: the same file).
        until: The decoder's block that is the target, from 0 [3 of 8].
        tutor_checkpoint: File of the fine-tuned teacher [None: it learns here].
        learn_teachers: Hold what the stages ``teacher`` and ``tutor`` train [False].
        beta: Of SmoothL1 [2].
        supervise: ``all`` tokens, class included [code], or ``masked`` patches.
        mask_ratio: Share of hidden patches [0.75].
        num_classes: K [10].
        mixup, cutmix: Alphas; one of both is drawn for each batch where both are
            above 0 [0.8 and 1].
        smoothing: Of the labels [0.1].
        predict_on: ``both`` heads' mean [code], the ``class`` head, ``finetuned`` (the
            head of the stage ``finetune``) or the ``tutor``.
        mean, std: Subtracted from and divided out of all inputs [0 and 1].
    """

    default_stage = "generic"

    def __init__(
        self,
        student: dict,
        decoder: dict,
        teacher: dict,
        teacher_decoder: dict,
        until: int = 3,
        tutor_checkpoint: str | None = None,
        learn_teachers: bool = False,
        beta: float = 2.0,
        supervise: str = "all",
        mask_ratio: float = 0.75,
        num_classes: int = 10,
        mixup: float = 0.8,
        cutmix: float = 1.0,
        smoothing: float = 0.1,
        predict_on: str = "both",
        mean: float = 0.0,
        std: float = 1.0,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        answers = ("both", "class", "finetuned", "tutor")
        one_of(
            "G2SD",
            supervise=(supervise, ("all", "masked")),
            predict_on=(predict_on, answers),
        )
        super().__init__(
            student,
            decoder,
            mask_ratio,
            mean=mean,
            std=std,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.until, self.beta, self.supervise = until, beta, supervise
        self.num_classes, self.smoothing = num_classes, smoothing
        self.mixup, self.cutmix, self.predict_on = mixup, cutmix, predict_on
        encoder = MODELS.build(teacher)
        self.teacher = Frozen(encoder)
        self.teacher_decoder = Frozen(decoder_for(encoder, teacher_decoder))
        theirs = self.teacher_decoder.network
        if not 0 <= until < len(theirs.decoder_blocks):
            raise UserError(
                f"G2SD: the teacher's decoder has no block {until}.",
                f"It has {len(theirs.decoder_blocks)}, counted from 0.",
            )
        wide, narrow = theirs.decoder_embed.out_features, self.decoder.decoder_embed
        self.predictor = nn.Sequential(
            nn.Linear(narrow.out_features, wide), nn.GELU(), nn.Linear(wide, wide)
        )
        self.tutor = Frozen(PooledClassifier(teacher, num_classes, tutor_checkpoint))
        self.learner = self.learner_decoder = self.learner_tutor = None
        if learn_teachers:
            self.learner = MODELS.build(teacher)
            self.learner_decoder = decoder_for(self.learner, teacher_decoder)
            self.learner_tutor = PooledClassifier(teacher, num_classes)
        self.dist_token = nn.Parameter(torch.zeros(1, 1, self.student.dim))
        nn.init.trunc_normal_(self.dist_token, std=0.02)
        self.add_head(num_classes)
        self.head_class = nn.Linear(self.student.dim, num_classes)
        self.head_dist = nn.Linear(self.student.dim, num_classes)

    def enter_stage(self, name: str) -> None:
        """Refuse to train teachers that are not held."""
        if name in ("teacher", "tutor") and self.learner is None:
            raise UserError(
                f"G2SD: the stage `{name}` needs learn_teachers.",
                "Set model.learn_teachers=True, or leave the stage out.",
            )

    def start_stage(self, name: str, loader: object, folder: Path) -> None:
        """Hand on what the teachers' stages have learned."""
        super().start_stage(name, loader, folder)
        if self.learner is None:
            return
        if name == "tutor":
            known = self.learner.state_dict()
            own = self.learner_tutor.state_dict()
            own.update({k: v for k, v in known.items() if k in own})
            self.learner_tutor.load_state_dict(own)
        elif name == "generic":
            self.teacher.network.load_state_dict(self.learner.state_dict())
            decoder = self.learner_decoder.state_dict()
            self.teacher_decoder.network.load_state_dict(decoder)
        if name in ("generic", "specific"):
            self.tutor.network.load_state_dict(self.learner_tutor.state_dict())

    def loss_teacher(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """The teacher as an MAE of images N x C x H x W."""
        loss = self.reconstruction(self.learner, self.learner_decoder, inputs)
        return {"loss_teacher": loss}

    def loss_tutor(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """The teacher's fine-tuning: labels alone, mixed as in ``specific``."""
        x, soft = self.mixed(self.normalised(inputs), targets)
        return {"loss_ce": soft_cross_entropy(self.learner_tutor(x), soft)}

    def loss_generic(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """The teacher's decoder as target; images N x C x H x W."""
        x, keep = self.masked(inputs)
        with torch.no_grad():
            theirs = self.teacher_decoder.network.hidden(
                self.teacher(x, keep), keep, self.until
            )
            wanted = target(theirs)
        ours = self.predictor(self.decoder.hidden(self.student(x, keep), keep)).float()
        if self.supervise == "masked":
            length = wanted.shape[1] - 1
            seen = torch.zeros(len(x), length, device=x.device).scatter(1, keep, 1.0)
            hidden = seen.argsort(dim=1, stable=True)[:, : length - keep.shape[1]] + 1
            ours, wanted = take(ours, hidden), take(wanted, hidden)
        loss = F.smooth_l1_loss(ours, wanted, beta=self.beta)
        with torch.no_grad():  # 0: no better than the mean token, whose variance is 1
            explained = 1 - (ours - wanted).square().mean()
        return {"loss_generic": loss, "explained": explained}

    def loss_finetune(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """The rival of ``specific``: the same labels and mixing, one head, no tutor."""
        x, soft = self.mixed(self.normalised(inputs), targets)
        logits = self.head(self.student(x)[:, 1:].mean(1))
        return {"loss_ce": soft_cross_entropy(logits, soft)}

    def loss_specific(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Labels and the tutor's choice on images N x C x H x W, N labels."""
        x, soft = self.mixed(self.normalised(inputs), targets)
        of_class, of_token = self.two_heads(x)
        with torch.no_grad():
            chosen = self.tutor(x).argmax(1)
        return {
            "loss_class": 0.5 * soft_cross_entropy(of_class, soft),
            "loss_dist": 0.5 * F.cross_entropy(of_token.float(), chosen),
        }

    def predict(self, inputs: Tensor, targets: Tensor, **_) -> list[dict]:
        """Logits N x K of what ``predict_on`` names, beside the labels."""
        x = self.normalised(inputs)
        if self.predict_on == "tutor":
            network = self.tutor if self.learner_tutor is None else self.learner_tutor
            logits = network(x)
        elif self.predict_on == "finetuned":
            return super().predict(inputs, targets)
        else:
            of_class, of_token = self.two_heads(x)
            both = self.predict_on == "both"
            logits = (of_class + of_token) / 2 if both else of_class
        return [{"logits": logits, "targets": targets}]

    def two_heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the class token's and the distillation token's head, N x K each."""
        tokens = self.student(x, more=self.dist_token)
        return self.head_class(tokens[:, 0]), self.head_dist(tokens[:, -1])

    def mixed(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Images and smoothed labels N x K, mixed by mixup or CutMix."""
        soft = F.one_hot(targets, self.num_classes).float()
        soft = (1 - self.smoothing) * soft + self.smoothing / self.num_classes
        if self.cutmix and (not self.mixup or torch.rand(()) < 0.5):
            return cutmix(x, soft, self.cutmix)[:2]
        return mixup(x, soft, self.mixup)[:2]
