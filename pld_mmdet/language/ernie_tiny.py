"""ERNIE-Tiny: progressive distillation of a pre-trained encoder (Su et al., 2021)."""

from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.language.learners.stages import StagedEncoders, copy_body
from pld_mmdet.language.networks.matching import layer_map, matched
from pld_mmdet.registry import MODELS

# Section 3 of the paper: from the first stage to the last, each changes one thing.
RECIPE = {
    "GD": {"teacher": "pretrained", "data": "general", "losses": ["latent"]},
    "GED": {"teacher": "finetuned", "data": "general", "losses": ["latent"]},
    "TAD": {"teacher": "finetuned", "data": "task", "losses": ["latent"]},
    "TSD": {
        "teacher": "finetuned",
        "data": "task",
        "losses": ["latent", "soft", "hard"],
    },
}


@MODELS.register_module()
class ERNIETiny(StagedEncoders):
    """Four stages from general to task-specific distillation.

        stage                   teacher      data      losses
        GD  general             pretrained   general   latent
        GED general-enhanced    finetuned    general   latent
        TAD task-adaptive       finetuned    task      latent
        TSD task-specific       finetuned    task      latent + soft + hard

        L_latent = sum_m MSE(H_S^m W, H_T^g(m)) + MSE(A_S^m, A_T^g(m)),
                   g(m) = m L_T / L_S; hidden states from m = 0, the embeddings
        L_soft   = -sum softmax(z_F) log softmax(z_S)
        L_hard   = cross-entropy with the label

    The stages of ``StagedLoop`` carry these names; student weights stay, the optimizer
    starts afresh. Two more stages make the teachers where none are given: ``mlm``
    trains ``pretrained`` on masked words of general data, ``teacher`` copies its body
    into ``finetuned`` and trains that on the task.

    The paper's code was not found. Open points: A is taken after the softmax (that is
    what transformers returns), where its term is about 2e-4 of maps of 128 tokens
    beside a hidden term of about 2, so that unit weights make it almost nothing
    (TinyBERT's code matches scores before the softmax); temperature 1 and one W for all
    layers as in TinyBERT, whose W has a bias and whose soft term is a mean over B x K,
    K times smaller than here.

    Args:
        pretrained: Config of the encoder P (masked language model).
        finetuned: Config of the encoder F (classifier), of P's shape.
        student: Config of the student (classifier) with as many attention heads and a
            number of layers that divides the teacher's.
        recipe: Teacher, data and losses of each distillation stage; neighbours may
            differ in one of the three only.
        mask_id: Id of the mask token.
        first_word: Ids below it are special: never masked.
        predict_on: ``student``, or ``finetuned`` to measure the teacher.

    Raises:
        UserError: Networks that cannot be matched, or a recipe that changes two
            things at once.
    """

    learns: ClassVar = {"mlm": ["pretrained"], "teacher": ["finetuned"]}
    otherwise_learns = ("student", "w")

    def __init__(
        self,
        pretrained: dict,
        finetuned: dict,
        student: dict,
        recipe: dict | None = None,
        mask_id: int = 3,
        first_word: int = 4,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(mask_id, first_word, init_cfg)
        one_of("ERNIETiny", predict_on=(predict_on, ("student", "finetuned")))
        self.recipe = check_recipe(dict(RECIPE if recipe is None else recipe))
        self.pretrained = MODELS.build(pretrained)
        self.finetuned = MODELS.build(finetuned)
        self.student = MODELS.build(student)
        _check_shapes(self.student, self.pretrained, self.finetuned)
        self.w = nn.Linear(self.student.width, self.finetuned.width, bias=False)
        self.predict_on = predict_on

    def check_stage(self, stage: str) -> None:
        """Refuse a stage that is no part of the recipe."""
        if stage not in {"mlm", "teacher", *self.recipe}:
            raise UserError(
                f"ERNIETiny has no stage {stage!r}.",
                "Train it with train_cfg.type='pld_mmdet.StagedLoop' and stages out of "
                f"mlm, teacher, {', '.join(self.recipe)}, or extend `recipe`.",
            )

    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """F begins as P."""
        if name == "teacher":
            copy_body(self.pretrained, self.finetuned)

    def loss(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The losses of the current stage.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T].
            targets: [B] classes; general data has none.
        """
        stage = self.progress.stage
        self.check_stage(stage)
        general = self.recipe.get(stage, {}).get("data") == "general"
        if (general or stage == "mlm") != (targets is None):
            raise UserError(
                f"Stage {stage} was given the other kind of data.",
                "Give its entry in train_cfg.stages the dataloader that `recipe` names:"
                " general data has no targets, task data has.",
            )
        if stage == "mlm":
            net = self.pretrained
            return {"loss_mlm": self.masked_words(net, input_ids, attention_mask)}
        if stage == "teacher":
            net = self.finetuned
            found = self.labelled(net, input_ids, attention_mask, targets)
            return {"loss_teacher": found}
        return self._distill(input_ids, attention_mask, targets)

    def _distill(
        self, ids: Tensor, mask: Tensor | None, targets: Tensor | None
    ) -> dict[str, Tensor]:
        wanted = self.recipe[self.progress.stage]
        losses = wanted["losses"]
        with torch.no_grad():
            teacher = getattr(self, wanted["teacher"])
            h_t, a_t, z_f = teacher.inside(ids, mask, head="soft" in losses)
        h_s, a_s, z_s = self.student.inside(ids, mask, head=losses != ["latent"])
        found = {}
        if "latent" in losses:
            g = layer_map(len(a_s), len(a_t))
            found["loss_hidden"] = matched([self.w(h) for h in h_s], h_t, g)
            # attention m lies between hidden states m - 1 and m
            found["loss_attention"] = matched(a_s, a_t, [k - 1 for k in g[1:]])
        if "soft" in losses:
            p_f = z_f.float().softmax(-1)
            found["loss_soft"] = F.cross_entropy(z_s.float(), p_f)
        if "hard" in losses:
            found["loss_hard"] = F.cross_entropy(z_s.float(), targets)
        return found


@MODELS.register_module()
class TextClassifier(Method):
    """An encoder and cross-entropy, the baseline.

    Args:
        network: Config of a classifier, [B, T] ids -> [B, K] logits.
    """

    def __init__(self, network: dict, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.network = MODELS.build(network)

    def loss(
        self, input_ids: Tensor, targets: Tensor, attention_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Cross-entropy of a batch."""
        z = self.network(input_ids, attention_mask)
        return {"loss_hard": F.cross_entropy(z.float(), targets)}

    def outputs(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_
    ) -> Tensor:
        """Logits [B, K]."""
        return self.network(input_ids, attention_mask)


def check_recipe(recipe: dict) -> dict:
    """The paper's rule: one stage and the next differ in one component.

    Raises:
        UserError: They differ in none or in several.
    """
    for (before, one), (after, two) in pairwise(recipe.items()):
        changed = [k for k in ("teacher", "data", "losses") if one[k] != two[k]]
        if len(changed) != 1:
            raise UserError(
                f"From stage {before} to {after} ERNIETiny's recipe changes "
                f"{' and '.join(changed) or 'nothing'}.",
                "Change exactly one of teacher, data and losses from stage to stage.",
            )
    return recipe


def _check_shapes(student, pretrained, finetuned) -> None:
    for name, teacher in (("pretrained", pretrained), ("finetuned", finetuned)):
        heads = [n.model.config.num_attention_heads for n in (student, teacher)]
        if teacher.layers % student.layers or heads[0] != heads[1]:
            raise UserError(
                f"The student ({student.layers} layers, {heads[0]} heads) cannot "
                f"imitate `{name}` ({teacher.layers} layers, {heads[1]} heads).",
                "Give it as many heads, and a number of layers that divides the "
                "teacher's.",
            )
    if pretrained.width != finetuned.width or pretrained.layers != finetuned.layers:
        raise UserError(
            "`pretrained` and `finetuned` differ in shape.",
            "`finetuned` is `pretrained` after training on the task.",
        )
