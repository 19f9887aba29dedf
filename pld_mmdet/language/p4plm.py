"""P4PLM: pseudo-labels as a pre-training task (Guo, 2020)."""

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from pld_mmdet.distill.divergences import kl
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.language.data.kept_answers import is_kept
from pld_mmdet.language.learners.stages import StagedEncoders, bank_for, copy_body
from pld_mmdet.language.networks.transformers import one_vocabulary
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class P4PLM(StagedEncoders):
    r"""Predictions for pre-training language models, four models of one shape.

        mlm        Init -> A   masked words of all in-domain text
        labeller   A -> B      cross-entropy with the labels
        label      B answers all unlabelled text; its logits are kept
        distill    Init -> C   KL(softmax z_B || softmax z_C), mean over texts
        finetune   C -> D      cross-entropy with the labels

    C begins with the *initial* weights, not with A's or B's; its input is not masked,
    no answer is left out, no label is mixed in. ``label`` has no iteration; its
    ``work_dataloader`` holds the unlabelled texts in order.

    The initial weights are the student's own, which nothing moves before ``distill``;
    A begins as they are. No code was released. The paper's sequence tagging (a CRF) is
    left out.

    Args:
        student: Config of the classifier that becomes C and D.
        masked: Config of A, of the student's shape, with a head for masked words.
        samples: (unlabelled texts, classes), for B's logits in memory [none: B answers
            at each step, with the same numbers].
        answers: File that keeps them too, exactly: read where it is there and B is the
            same, else written [none].
        soft: KL on the logits [True]; False: cross-entropy with B's class (ablation).
        begin: Where C begins: ``init`` [the paper], or ``a`` (control).
        mlm_weight: Weight of masked words in ``distill``; above 0 its input is masked
            for both terms [0; the first version had 1].
        mask_id: Id of the mask token.
        first_word: Ids below it are special: never masked.
        predict_on: ``student`` (C, then D) or ``labeller`` (B).

    Raises:
        UserError: Unknown words, or ``answers`` without ``samples``.
    """

    _ddp_params_and_buffers_to_ignore = ("bank.rows",)  # rows stay on the CPU
    learns: ClassVar = {"mlm": ["masked"], "labeller": ["labeller"]}
    origins: ClassVar = {
        "labeller": ("masked", "labeller"),
        "distill": ("masked", "student"),  # where begin is "a"
    }

    def __init__(
        self,
        student: dict,
        masked: dict,
        samples: tuple[int, int] | None = None,
        answers: str | None = None,
        soft: bool = True,
        begin: str = "init",
        mlm_weight: float = 0.0,
        mask_id: int = 3,
        first_word: int = 4,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(mask_id, first_word, init_cfg)
        one_of(
            "P4PLM",
            begin=(begin, ("init", "a")),
            predict_on=(predict_on, ("student", "labeller")),
        )
        self.student = MODELS.build(student)
        self.masked = MODELS.build(masked)
        self.labeller = MODELS.build(student)
        one_vocabulary("P4PLM", student=self.student, masked=self.masked)
        copy_body(self.student, self.masked)
        self.labeller.load_state_dict(self.student.state_dict())
        self.bank = bank_for("P4PLM", samples, answers)
        self.soft, self.begin, self.mlm_weight = soft, begin, mlm_weight
        self.answers, self.predict_on = answers, predict_on
        if mlm_weight:  # the same body, another head
            self.second_head = MODELS.build(masked)
            net = self.second_head.model
            setattr(net, net.base_model_prefix, self.student.body)
            net.tie_weights()

    @property
    def otherwise_learns(self) -> tuple[str, ...]:
        """The student, with its second head where there is one."""
        return ("student", "second_head") if self.mlm_weight else ("student",)

    def check_stage(self, stage: str) -> None:
        """``label`` is a stage of offline work."""
        if stage != "label":
            super().check_stage(stage)

    def wants_work(self, stage: str) -> str | None:
        """The texts that are answered, unless a file has the answers."""
        asked = stage == "label" and self.bank is not None
        return "all texts in order" if asked and not is_kept(self.answers) else None

    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """B begins as A; B's answers are written down before C begins."""
        if name == "label" and self.bank is not None:
            self.check_work(name, loader)
            self.keep_answers(self.labeller, loader, self.bank, self.answers)
            return
        if name == "distill" and self.bank is not None and not self.bank.rows.any():
            raise UserError(
                "P4PLM: stage distill begins, and B has answered nothing.",
                "Put a stage label before it, or set model.samples=None.",
            )
        if name != "distill" or self.begin == "a":
            super().start_stage(name, loader, folder)

    def loss_mlm(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_
    ) -> dict[str, Tensor]:
        """Masked words, A."""
        loss = self.masked_words(self.masked, input_ids, attention_mask)
        return {"loss_mlm": loss}

    def loss_labeller(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        targets: Tensor | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """Cross-entropy with the labels, B."""
        found = self.labelled(self.labeller, input_ids, attention_mask, targets)
        return {"loss_labeller": found}

    def loss_distill(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        index: Tensor | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """KL from B's kept logits, or cross-entropy with its class; C."""
        losses = {}
        if self.bank is not None:
            z_b = self.bank.read(index)
        else:
            with torch.no_grad():
                z_b = self.labeller(input_ids, attention_mask).float()
        if self.mlm_weight:
            spoilt, words = self.spoilt(self.second_head, input_ids, attention_mask)
            loss = self.told(self.second_head, spoilt, attention_mask, words)
            losses["loss_mlm"] = self.mlm_weight * loss
            input_ids = spoilt
        z_c = self.student(input_ids, attention_mask).float()
        apart = kl(z_b, z_c) if self.soft else F.cross_entropy(z_c, z_b.argmax(1))
        return {"loss_distill": apart, **losses}

    def loss_finetune(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        targets: Tensor | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """Cross-entropy with the labels, D."""
        found = self.labelled(self.student, input_ids, attention_mask, targets)
        return {"loss_finetune": found}
