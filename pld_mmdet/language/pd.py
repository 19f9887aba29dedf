"""PD: pre-trained distillation (Turc et al., 2019, "Well-Read Students")."""

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pld_mmdet.distill.losses import soft_cross_entropy
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.language.data.kept_answers import is_kept
from pld_mmdet.language.learners.stages import StagedEncoders, bank_for
from pld_mmdet.language.networks.transformers import one_vocabulary
from pld_mmdet.registry import MODELS

#: Layers and hidden sizes of the 24 published students.
LAYERS, WIDTHS = (2, 4, 6, 8, 10, 12), (128, 256, 512, 768)
#: The student's own steps, in the order of the paper.
ORDER = ("mlm", "distill", "finetune")


@MODELS.register_module()
class PD(StagedEncoders):
    """Pre-train a compact student, distil into it, perhaps fine-tune it.

        mlm        the student fills in masked words of general text   D_LM
        distill    -sum p_T log p_S, p_T of a fine-tuned teacher       D_T, no labels
        finetune   cross-entropy with the labels (PD+F)                D_L

    Leaving stages out gives the paper's baselines: ``finetune`` alone is basic
    training, ``mlm`` and ``finetune`` pre-training and fine-tuning (PF), ``distill``
    alone distillation (D). The student's steps go in this order only. Two more stages
    make the teacher where none is given: ``teacher_mlm`` and ``teacher``.

    Temperature 1 and no label in the second step are what the paper's text says of its
    objective; no code of the distillation was released.

    Args:
        student: Config of the student (classifier).
        teacher: Config of the teacher (classifier).
        student_lm: Config of an encoder of the student's shape with a head for masked
            words; the student begins as it [none: the student comes pre-trained].
        teacher_lm: The same for the teacher [none].
        samples: (texts of D_T, classes): the teacher answers once, when ``distill``
            begins, and its logits are kept; the stage's ``work_dataloader`` holds D_T
            in order [none: it answers at each step, with the same numbers].
        answers: File that keeps these logits, exactly, for other students of the same
            teacher: read where it is there, else written [only the checkpoint holds
            them].
        soft: Distil on probabilities; False: on the teacher's classes.
        mask_id: Id of the mask token.
        first_word: Ids below it are special: never masked.
        predict_on: ``student``, or ``teacher`` to measure it.

    Raises:
        UserError: Unknown words, vocabularies that differ, or ``answers`` without
            ``samples``.
    """

    _ddp_params_and_buffers_to_ignore = ("bank.rows",)  # rows stay on the CPU
    learns: ClassVar = {
        "mlm": ["student_lm"],
        "teacher_mlm": ["teacher_lm"],
        "teacher": ["teacher"],
    }
    reached: Tensor

    def __init__(
        self,
        student: dict,
        teacher: dict,
        student_lm: dict | None = None,
        teacher_lm: dict | None = None,
        samples: tuple[int, int] | None = None,
        answers: str | None = None,
        soft: bool = True,
        mask_id: int = 3,
        first_word: int = 4,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        self.origins = {}
        if student_lm is not None:
            self.origins |= dict.fromkeys(ORDER[1:], ("student_lm", "student"))
        if teacher_lm is not None:
            self.origins["teacher"] = ("teacher_lm", "teacher")
        super().__init__(mask_id, first_word, init_cfg)
        one_of("PD", predict_on=(predict_on, ("student", "teacher")))
        self.student = MODELS.build(student)
        if student_lm is not None:
            self.student_lm = MODELS.build(student_lm)
        self.teacher = MODELS.build(teacher)
        if teacher_lm is not None:
            self.teacher_lm = MODELS.build(teacher_lm)
        one_vocabulary("PD", student=self.student, teacher=self.teacher)
        self.bank = bank_for("PD", samples, answers)
        self.answers, self.soft, self.predict_on = answers, soft, predict_on
        self.register_buffer("reached", torch.tensor(-1))

    def wants_work(self, stage: str) -> str | None:
        """The texts that are answered, unless a file has the answers."""
        asked = stage == "distill" and self.bank is not None
        return "all texts in order" if asked and not is_kept(self.answers) else None

    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """Begin as another network; the teacher answers before ``distill``."""
        # a student that was distilled is not begun again by its fine-tuning
        if not (name == "finetune" and self.reached >= ORDER.index("distill")):
            super().start_stage(name, loader, folder)
        if name == "distill" and self.bank is not None:
            self.check_work(name, loader)
            self.keep_answers(self.teacher, loader, self.bank, self.answers)

    def loss_mlm(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_
    ) -> dict[str, Tensor]:
        """Masked words, the student."""
        self._reach("mlm")
        loss = self.masked_words(self.student_lm, input_ids, attention_mask)
        return {"loss_mlm": loss}

    def loss_teacher_mlm(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_
    ) -> dict[str, Tensor]:
        """Masked words, the teacher."""
        loss = self.masked_words(self.teacher_lm, input_ids, attention_mask)
        return {"loss_mlm": loss}

    def loss_teacher(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        targets: Tensor | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """Cross-entropy of the teacher."""
        found = self.labelled(self.teacher, input_ids, attention_mask, targets)
        return {"loss_teacher": found}

    def loss_distill(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        index: Tensor | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """Cross-entropy with the teacher's probabilities, mean over texts."""
        self._reach("distill")
        if self.bank is not None:
            z_t = self.bank.read(index)
        else:
            with torch.no_grad():
                z_t = self.teacher(input_ids, attention_mask)
        z_s = self.student(input_ids, attention_mask)
        p_t = z_t.float().softmax(-1)
        if not self.soft:
            p_t = torch.zeros_like(p_t).scatter(1, p_t.argmax(1, keepdim=True), 1.0)
        return {"loss_distill": soft_cross_entropy(z_s, p_t)}

    def loss_finetune(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        targets: Tensor | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """Cross-entropy of the student with the labels."""
        self._reach("finetune")
        found = self.labelled(self.student, input_ids, attention_mask, targets)
        return {"loss_finetune": found}

    def _reach(self, step: str) -> None:
        place = ORDER.index(step)
        if place < self.reached:
            raise UserError(
                f"PD: step {step} comes after {ORDER[int(self.reached)]}.",
                f"Put the student's stages in the order {', '.join(ORDER)}.",
            )
        self.reached.fill_(place)


def compact_bert(layers: int, width: int, vocab_size: int = 30522) -> dict:
    """Config of one of the 24 students: heads = width / 64, FFN = 4 x width.

    Args:
        layers: 2, 4, 6, 8, 10 or 12.
        width: 128, 256, 512 or 768.
        vocab_size: Words [30522, uncased].

    Raises:
        UserError: No such student.

    Examples:
        >>> compact_bert(2, 128)["num_attention_heads"]
        2
    """
    if layers not in LAYERS or width not in WIDTHS:
        raise UserError(
            f"There is no student of {layers} layers and {width} channels.",
            f"Choose layers out of {LAYERS} and channels out of {WIDTHS}.",
        )
    return dict(
        model_type="bert",
        vocab_size=vocab_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
    )
