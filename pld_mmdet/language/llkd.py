"""LLKD: pseudo-labels that the teacher is sure of and the student is not."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from pld_mmdet.distill._gather import gathered
from pld_mmdet.distill.losses import entropy
from pld_mmdet.distill.selection import MeanThresholds
from pld_mmdet.distill.teachers import Averaged
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.taught import PartLearns


@MODELS.register_module()
class LLKD(PartLearns):
    r"""Learning with less: distillation through unlabelled data (NAACL Findings 2025).

    The teacher answers once. Of each batch the student learns the samples whose
    pseudo-label y the teacher is sure of and the student, as it is now, is not::

        c = max p_T,   y = arg max p_T,   u = entropy of the student / log C
        tau <- lambda tau + (1 - lambda) mean of the batch       of c and of u
        m(y) the same, of the batch's samples of class y
        tau(y) = tau m(y) / max m                                easy classes: higher
        kept:  c >= tau_T(y)  and  u >= tau_S(y)
        L = mean over the kept of w CE(z_S, y),   w = c u, scaled to mean 1

    Only z_S in the cross-entropy has a gradient. Stages: ``teacher`` trains it on
    labels (leave it out where it has weights), ``student`` distils; its
    ``work_dataloader`` holds the unlabelled data in order. A batch is ``inputs`` or
    ``input_ids`` and ``attention_mask`` (and ``text``, which a teacher that reads
    texts is given), with ``index``.

    No code was found, and not the paper's text: two thresholds per class and a weighted
    loss are certain (abstract), the form of tau(y), lambda and w are not.

    Args:
        teacher: Config of a network, inputs or texts -> [B, C] logits.
        student: Config of the network that learns.
        samples: Of the unlabelled data.
        num_classes: C.
        keep: lambda [.9; not found].
        rule: ``both``, ``teacher`` or ``student`` alone, ``all``: every sample.
        confidence: A fixed tau_T for all classes [none: as above].
        weight: ``product`` (w above) or ``none`` (1).
        budgets: Copies of the student are kept when so many samples have been learnt
            (a visit is one sample in a backward pass), for comparisons at equal visits;
            after the last it learns nothing more [none].
        predict_on: ``student``, ``teacher`` or, of the budgets, ``at_<visits>``;
            ``budgets``: ``predict`` says of all of them and of the teacher which
            answers are right.

    Raises:
        UserError: Unknown words.
    """

    default_stage = "student"
    work = {"student": "the unlabelled data in order"}
    answers: Tensor
    visits: Tensor

    def __init__(
        self,
        teacher: dict,
        student: dict,
        samples: int,
        num_classes: int,
        keep: float = 0.9,
        rule: str = "both",
        confidence: float | None = None,
        weight: str = "product",
        budgets: Sequence[int] = (),
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        known = ("student", "teacher", "budgets", *(f"at_{one}" for one in budgets))
        one_of(
            "LLKD",
            rule=(rule, ("both", "teacher", "student", "all")),
            weight=(weight, ("product", "none")),
            predict_on=(predict_on, known),
        )
        self.student = MODELS.build(student)  # its weights are a plain student's
        self.teacher = MODELS.build(teacher)
        self.rule, self.confidence, self.weight = rule, confidence, weight
        self.predict_on = predict_on
        self.tau_t = MeanThresholds(1, keep, start=1 / num_classes)
        self.tau_s = MeanThresholds(1, keep)
        self.mean_t = MeanThresholds(num_classes, keep, start=1 / num_classes)
        self.mean_s = MeanThresholds(num_classes, keep)
        self.register_buffer("answers", torch.full((samples, num_classes), -1.0))
        self.register_buffer("visits", torch.tensor(0))
        self.budgets = tuple(sorted(budgets))
        self.copies = nn.ModuleDict(
            {f"at_{one}": Averaged(self.student) for one in self.budgets}
        )
        self.enter_stage(self.default_stage)

    @property
    def learners(self) -> list[nn.Module]:
        """What the current stage trains."""
        return [self.teacher if self.progress.stage == "teacher" else self.student]

    @torch.no_grad()
    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """The teacher answers all unlabelled samples, once."""
        if name != "student":
            return
        self.check_work(name, loader)
        self.train(False)
        for batch in loader:
            batch = self.data_preprocessor(batch, False)
            asked = (batch["text"],) if "text" in batch else _inputs(**batch)
            self.answers[batch["index"]] = self.teacher(*asked).float().softmax(-1)
        all_reduce(self.answers, op="max")  # -1 where another process answered

    def loss_teacher(self, targets: Tensor, **batch) -> dict[str, Tensor]:
        """Cross-entropy of the teacher with the labels."""
        return {
            "loss_teacher": F.cross_entropy(self.teacher(*_inputs(**batch)), targets)
        }

    def loss_student(self, index: Tensor, **batch) -> dict[str, Tensor]:
        """Weighted cross-entropy of what is kept; also logs how much and how right."""
        self._copy()
        p = self.answers[index]
        if bool((p < 0).any()):
            raise UserError(
                "LLKD: samples of this batch have no answer of the teacher.",
                "Let stage student's work_dataloader be all of its training data.",
            )
        z = self.student(*_inputs(**batch))
        c, y = p.max(-1)
        u = entropy(z.detach(), normalise=True)
        kept = self.select(c, u, y)
        if self.budgets and int(self.visits) >= self.budgets[-1]:
            kept = torch.zeros_like(kept)
        w = kept * (c * u if self.weight == "product" else torch.ones_like(c))
        w = w * kept.sum() / w.sum().clamp(min=1e-12)  # mean 1 over the kept
        ce = F.cross_entropy(z.float(), y, reduction="none")
        learnt = kept.sum()
        all_reduce(learnt)
        self.visits += learnt
        logs = {"kept": kept.float().mean(), "visits": self.visits.float()}
        return {"loss_student": (w * ce).sum() / kept.sum().clamp(min=1)} | logs

    @torch.no_grad()
    def select(self, c: Tensor, u: Tensor, y: Tensor) -> Tensor:
        """Move the thresholds with a batch and say which samples [B] are kept.

        Args:
            c: The teacher's confidence [B].
            u: The student's normalised entropy [B].
            y: Pseudo-labels [B].
        """
        c_all, u_all, y_all = (gathered(one) for one in (c.float(), u, y))
        one = torch.zeros_like(y_all)
        self.tau_t.update(c_all, one)
        self.tau_s.update(u_all, one)
        self.mean_t.update(c_all, y_all)
        self.mean_s.update(u_all, y_all)
        tau_t = class_thresholds(self.tau_t.thresholds[0], self.mean_t.thresholds)
        if self.confidence is not None:
            tau_t = torch.full_like(tau_t, self.confidence)
        tau_s = class_thresholds(self.tau_s.thresholds[0], self.mean_s.thresholds)
        kept = torch.ones_like(c, dtype=torch.bool)
        if self.rule in ("both", "teacher"):
            kept &= c.to(tau_t) >= tau_t[y]
        if self.rule in ("both", "student"):
            kept &= u.to(tau_s) >= tau_s[y]
        return kept

    @torch.no_grad()
    def _copy(self) -> None:
        """Keep the student while its visits lie below the next budget."""
        for one in self.budgets:
            copy = self.copies[f"at_{one}"]
            if int(self.visits) <= one:
                copy.network.load_state_dict(self.student.state_dict())

    def predict(self, targets: Tensor, **batch) -> list[dict]:
        """Logits and targets; with ``budgets`` a column [B] of right answers each."""
        if self.predict_on != "budgets":
            return super().predict(targets=targets, **batch)
        networks = {"teacher": self.teacher, **self.copies}
        answers = {k: net(*_inputs(**batch)) for k, net in networks.items()}
        right = {k: (z.argmax(-1) == targets).float() for k, z in answers.items()}
        return [right]

    def outputs(self, **batch) -> Tensor:
        """Logits [B, C] of the network that ``predict_on`` names."""
        if self.predict_on in self.copies:
            return self.copies[self.predict_on](*_inputs(**batch))
        if self.predict_on == "teacher" and "text" in batch:
            return self.teacher(batch["text"])
        return getattr(self, self.predict_on)(*_inputs(**batch))


def class_thresholds(tau: Tensor, means: Tensor) -> Tensor:
    """A global threshold, lower for classes with a lower mean.

    Args:
        tau: A scalar.
        means: [C], not negative.

    Returns:
        [C]: ``tau * means / max(means)``; tau everywhere if all means are 0.
    """
    most = means.max()
    return tau * (means / most if most > 0 else torch.ones_like(means))


def _inputs(
    inputs: Tensor | None = None,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    **_,
) -> tuple[Tensor, ...]:
    return (inputs,) if inputs is not None else (input_ids, attention_mask)
