"""Hybrid Distill: a contrastive teacher's features, a masked autoencoder's relations.

Shi et al. 2023, Hybrid Distillation: Connecting Masked Autoencoders with Contrastive
Learners, https://arxiv.org/abs/2306.15876. **A reconstruction**: their repository
(lygsbw/hybriddistill, commit 58f5575) holds a README and no code, and the paper's
equations could not be checked::

    F_c     = T_c(x)                         # supervised or contrastive; final tokens
    Q, K, V = T_m(x) at some middle layers   # masked autoencoder
    student: before some blocks the tokens that are most like all others leave
    L_feat  = SmoothL1(LayerNorm(project(F_s)), LayerNorm(F_c))         # kept tokens
    L_rel   = mean over layers of KL(R_QK^T || R_QK^S) + KL(R_VV^T || R_VV^S)
              R_AB = softmax(A B' / sqrt(d)) of each head, over the kept tokens
    L       = alpha L_feat + beta L_rel

From the abstract and reviews: the two kinds of teachers, where each acts, the
progressive dropping of redundant tokens, alpha = beta = 1. Ours: SmoothL1 on layer
norms without weights, the direction and the two pairs of the relations' divergence,
redundancy as the mean cosine, layers and ratios.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill.feature_tap import FeatureTap
from pld_mmdet.distill.relations import relation_kl, relation_scores
from pld_mmdet.distill.teachers import Frozen
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.masked_image_modeling.g2sd import target
from pld_mmdet.masked_image_modeling.learners.pretraining import (
    MaskedPretraining,
    decoder_for,
)
from pld_mmdet.masked_image_modeling.networks.vit import MaskedViT, take
from pld_mmdet.masked_image_modeling.scores.attention import (
    attention_distance,
    attention_nmi,
)
from pld_mmdet.registry import MODELS


def least_redundant(tokens: Tensor, ratio: float) -> Tensor:
    """Which tokens stay: those whose mean cosine with the others is lowest.

    Args:
        tokens: N x L x D, without the class token.
        ratio: Share that stays; 1 keeps all. At least one stays.

    Returns:
        N x V numbers in rising order, V = int(L ratio).
    """
    unit = F.normalize(tokens.detach().float(), dim=-1)
    alike = (unit @ unit.transpose(1, 2)).sum(2)  # with itself too: 1 for all
    count = max(1, int(round(tokens.shape[1] * ratio, 6)))
    return alike.argsort(dim=1, stable=True)[:, :count].sort(1).values


def relation_loss(teacher: Tensor, student: Tensor, heads: int) -> Tensor:
    r"""KL(teacher \|\| student) of the query-key and of the value-value relations.

    Args:
        teacher: N x T x 3D queries, keys and values side by side.
        student: Of the same tokens; its D may differ.
        heads: Of both.

    Returns:
        The sum of both pairs, each a mean over images, heads and queries.
    """
    (q_t, k_t, v_t), (q_s, k_s, v_s) = teacher.chunk(3, 2), student.chunk(3, 2)
    return relation_kl(
        relation_scores(q_t, heads, k_t), relation_scores(q_s, heads, k_s)
    ) + relation_kl(relation_scores(v_t, heads), relation_scores(v_s, heads))


def thinned(
    network: MaskedViT, x: Tensor, schedule: dict[int, float]
) -> tuple[Tensor, list[Tensor]]:
    """A pass in which redundant tokens leave on the way.

    Args:
        network: Its blocks run one after the other.
        x: N x C x H x W.
        schedule: Before block -> share of its tokens that stays.

    Returns:
        Final tokens N x (1 + V) x D, normalised; and for each block the numbers
        N x V of the patches that it saw. The class token always stays.
    """
    tokens = network.embed(x)
    kept = torch.arange(network.num_patches, device=x.device).expand(len(x), -1)
    seen = []
    for number, block in enumerate(network.blocks):
        if schedule.get(number, 1) < 1:
            stay = least_redundant(tokens[:, 1:], schedule[number])
            kept = kept.gather(1, stay)
            tokens = torch.cat([tokens[:, :1], take(tokens[:, 1:], stay)], 1)
        seen.append(kept)
        tokens = block(tokens)
    return network.norm(tokens), seen


def with_class(numbers: Tensor) -> Tensor:
    """Numbers of patches N x V as places of tokens N x (1 + V), class token first."""
    return F.pad(numbers + 1, (1, 0))


@MODELS.register_module()
class HybridDistill(MaskedPretraining):
    """Two frozen teachers, a student of the same number of heads.

    Stages, with ``StagedLoop``: ``feature_teacher`` (T_c learns from labels),
    ``relation_teacher`` (T_m learns as an MAE), ``distill``; ``relation_finetune`` goes
    on with T_m's copy as the rival ``finetune`` of it; and ``MaskedPretraining``'s.
    Teachers without a file need ``teacher_decoder`` and ``teacher_classes``.

    Args:
        student: Config of a ``MaskedViT``.
        feature_teacher: Config of T_c, a ``MaskedViT`` [DeiT or CLIP].
        relation_teacher: Config of T_m, as many blocks and heads as the student's.
        layers: Blocks whose relations are learned, from 0 [unpublished here].
        schedule: Pairs (before block, share that stays) [unpublished here].
        alpha, beta: Weights of features and relations [1 and 1].
        teacher_decoder: Config of the ``MAEDecoder`` of the stage `relation_teacher`.
        teacher_classes: For each label the class that T_c learns, such as parity.
        stop_at: T_c is taken when its running accuracy first reaches this: at 1 its
            tokens collapse onto the classes [0.95].
        num_classes: Of the heads of fine-tuning [10].
        mask_ratio: Of the MAE [0.75].
        predict_on: ``student`` or ``relation_teacher`` (its fine-tuned copy).
        mean, std: Subtracted from and divided out of all inputs [0 and 1].
    """

    feature_accuracy: Tensor
    ready: Tensor

    def __init__(
        self,
        student: dict,
        feature_teacher: dict,
        relation_teacher: dict,
        layers: Sequence[int],
        schedule: Sequence[tuple[int, float]] = (),
        alpha: float = 1.0,
        beta: float = 1.0,
        teacher_decoder: dict | None = None,
        teacher_classes: Sequence[int] | None = None,
        stop_at: float = 0.95,
        num_classes: int = 10,
        mask_ratio: float = 0.75,
        predict_on: str = "student",
        mean: float = 0.0,
        std: float = 1.0,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        answers = ("student", "relation_teacher")
        one_of("HybridDistill", predict_on=(predict_on, answers))
        super().__init__(
            student,
            None,
            mask_ratio,
            mean=mean,
            std=std,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.alpha, self.beta, self.stop_at = alpha, beta, stop_at
        self.layers, self.schedule = list(layers), dict(map(tuple, schedule))
        self.predict_on = predict_on
        self.feature_teacher = Frozen(MODELS.build(feature_teacher))
        self.relation_teacher = Frozen(MODELS.build(relation_teacher))
        theirs = self.relation_teacher.network
        self._fits(theirs)
        wide = self.feature_teacher.network.dim
        same = wide == self.student.dim
        self.project = nn.Identity() if same else nn.Linear(self.student.dim, wide)
        self.learner_features = self.learner_relations = None
        if teacher_decoder is not None:
            if teacher_classes is None:
                raise UserError(
                    "HybridDistill: teacher_decoder without teacher_classes.",
                    "Say which class T_c learns for each label, or give both "
                    "teachers a checkpoint.",
                )
            self.learner_features = MODELS.build(feature_teacher)
            self.head_features = nn.Linear(wide, max(teacher_classes) + 1)
            self.learner_relations = MODELS.build(relation_teacher)
            self.learner_decoder = decoder_for(self.learner_relations, teacher_decoder)
            self.head_relations = nn.Linear(theirs.dim, num_classes)
            groups = torch.tensor(list(teacher_classes))
            self.register_buffer("teacher_classes", groups, persistent=False)
        self.register_buffer("feature_accuracy", torch.zeros(()))
        # Whether T_c, T_m are what their stages made: a run that starts from them
        # (load_from) must not copy the learners again, which may have gone on.
        self.register_buffer("ready", torch.zeros(2, dtype=torch.bool))
        self.add_head(num_classes)

    def enter_stage(self, name: str) -> None:
        """Refuse to train teachers that are not held."""
        teaching = ("feature_teacher", "relation_teacher", "relation_finetune")
        if name in teaching and self.learner_relations is None:
            raise UserError(
                f"HybridDistill: the stage `{name}` needs teacher_decoder.",
                "Set model.teacher_decoder and model.teacher_classes, or leave the "
                "stage out.",
            )

    def start_stage(self, name: str, loader: object, folder: Path) -> None:
        """Hand on what the teachers' stages have learned, once."""
        super().start_stage(name, loader, folder)
        if self.learner_relations is None or name.endswith("_teacher"):
            return
        if not self.ready[0]:
            self._take(0, self.feature_teacher, self.learner_features)
        if not self.ready[1]:
            self._take(1, self.relation_teacher, self.learner_relations)

    def loss_feature_teacher(
        self, inputs: Tensor, targets: Tensor, **_
    ) -> dict[str, Tensor]:
        """T_c learns the coarse classes; it is copied where it first knows enough."""
        tokens = self.learner_features(self.normalised(inputs))
        logits = self.head_features(tokens[:, 1:].mean(1))
        classes = self.teacher_classes[targets]
        right = (logits.detach().argmax(1) == classes).float().mean()
        all_reduce(right, op="mean")
        self.feature_accuracy.lerp_(right.to(self.feature_accuracy), 0.1)
        if not self.ready[0] and self.feature_accuracy >= self.stop_at:
            self._take(0, self.feature_teacher, self.learner_features)
        return {
            "loss_ce": F.cross_entropy(logits, classes),
            "feature_accuracy": self.feature_accuracy.clone(),
        }

    def loss_relation_teacher(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """T_m as an MAE."""
        networks = self.learner_relations, self.learner_decoder
        return {"loss_teacher": self.reconstruction(*networks, inputs)}

    def loss_relation_finetune(
        self, inputs: Tensor, targets: Tensor, **_
    ) -> dict[str, Tensor]:
        """T_m's learner, fine-tuned: the rival that needs no distillation."""
        tokens = self.learner_relations(self.normalised(inputs))
        logits = self.head_relations(tokens[:, 1:].mean(1))
        return {"loss_ce": F.cross_entropy(logits, targets)}

    def loss_distill(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """Both terms of images N x C x H x W; a weight of 0 leaves its teacher out."""
        x = self.normalised(inputs)
        with self._tap(self.student) as ours:
            tokens, seen = thinned(self.student, x, self.schedule)
        losses = {}
        if self.alpha:
            with torch.no_grad():
                wanted = take(self.feature_teacher(x), with_class(seen[-1]))
            distance = F.smooth_l1_loss(target(self.project(tokens)), target(wanted))
            losses["loss_feat"] = self.alpha * distance
        if self.beta:
            network = self.relation_teacher.network
            with torch.no_grad(), self._tap(network) as theirs:
                network(x, until=max(self.layers))
            distances = [
                relation_loss(
                    # The kept rows and columns, before the softmax.
                    take(theirs.output(f"block_{layer}"), with_class(seen[layer])),
                    ours.output(f"block_{layer}"),
                    network.heads,
                )
                for layer in self.layers
            ]
            losses["loss_rel"] = self.beta * sum(distances) / len(distances)
        return losses

    def predict(self, inputs: Tensor, targets: Tensor, **_) -> list[dict]:
        """Logits N x K, and how the last block attends (``AttentionMetric``)."""
        student = self.predict_on == "student"
        network = self.student if student else self.learner_relations
        head = self.head if student else self.head_relations
        with FeatureTap(last=network.blocks[-1].attn.qkv) as tap:
            features = network(self.normalised(inputs))[:, 1:].mean(1)
        q, k, _v = tap.output("last").chunk(3, 2)
        scores = relation_scores(q, network.heads, k)[:, :, 1:, 1:].softmax(3)
        answer = {"features": features, "logits": head(features), "targets": targets}
        of_map = {"distance": attention_distance(scores), "nmi": attention_nmi(scores)}
        return [{**answer, **of_map}]

    def _tap(self, network: MaskedViT) -> FeatureTap:
        blocks = {f"block_{i}": network.blocks[i].attn.qkv for i in self.layers}
        return FeatureTap(**blocks)

    def _take(self, place: int, teacher: Frozen, learner: nn.Module) -> None:
        teacher.network.load_state_dict(learner.state_dict())
        self.ready[place] = True

    def _fits(self, teacher: MaskedViT) -> None:
        if self.student.heads != teacher.heads:
            raise UserError(
                f"HybridDistill: the student has {self.student.heads} heads, the "
                f"relations' teacher {teacher.heads}.",
                "Relations are compared head by head: give both the same number.",
            )
        depth = min(len(self.student.blocks), len(teacher.blocks))
        outside = [i for i in self.layers if not 0 <= i < depth]
        if outside or not self.layers:
            raise UserError(
                f"HybridDistill: layers={self.layers} of {depth} blocks.",
                f"Name one or more from 0 to {depth - 1}.",
            )
        shares = self.schedule.values()
        if any(not 0 < share <= 1 for share in shares):
            raise UserError(
                f"HybridDistill: schedule={self.schedule}.",
                "Each share of tokens that stay is above 0 and at most 1.",
            )
