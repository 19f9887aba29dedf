"""FIRST: distillation of a teacher's few likely, re-calibrated answers."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import all_gather_object
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from pld_mmdet.distill._checks import positive, same_shape, wide
from pld_mmdet.engine.run.method import Method
from pld_mmdet.engine.run.metrics import calibration_error
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.language.data.kept_answers import KeptAnswers, ask_once, numbers_of
from pld_mmdet.language.learners.causal import IGNORE, next_token_loss, trimmed
from pld_mmdet.language.networks.transformers import one_vocabulary
from pld_mmdet.registry import MODELS

EPSILON = 1e-6  # what the authors' code adds before it divides by the sum


@MODELS.register_module()
class FIRST(Method):
    r"""Efficient trustworthy distillation (Shum et al., EMNLP 2024).

    Of each position of an answer the teacher's K most likely tokens are kept, made
    trustworthy, and given to the student::

        P   = top K of softmax(z_T)
        T   = exp(P / c) / sum exp(P / c)          trust='temperature'
              P / sum P, top - d, others + d/(K-1)   trust='smoothing'
              P / sum P                              trust='none'
        S   = softmax(z_S) at the same K, divided by their sum
        L   = sum over the positions of T (log T - log S), mean over sequences

    c (or d) is the one of a grid for which the teacher's confidence T_1 has the least
    calibration error on data that the teacher was not trained on.

    Stages: ``teacher`` fine-tunes it on labels (leave it out where its weights are
    those of a fine-tuned model), ``calibrate`` (no iteration; its ``work_dataloader``
    is the validation data) chooses, ``answers`` (no iteration; the training data in
    order) asks the teacher once and keeps its K probabilities in a file, ``student``
    distils. Without ``answers`` the teacher is asked at each step, for the same
    numbers. A batch is text (``input_ids``, ``labels``, ``attention_mask``, as
    :class:`CausalLanguageModel` has them) or has one answer a sample (``inputs``,
    ``targets``); with kept answers also ``index``.

    Deviations from the released code (SHUMKASHUN/FIRST, c2c7c76): kept probabilities
    have half precision, with a checksum. Smoothing and temperature are the
    teacher's alone; the code does both to the student too. The code's sixth class
    (``use_other_token``, on in its example) computes no divergence: it gives
    probabilities where logarithms are asked; it is left out.

    Args:
        teacher: Config of a network with the student's answers.
        student: Config of the network that learns.
        top_k: K [5, code].
        trust: ``temperature``, ``smoothing`` or ``none`` [temperature; the paper
            compares the two].
        grid: Candidates of c [.15 to .41 by .02] or d [.03 to .18 by .03].
        amount: c or d, known beforehand: no stage ``calibrate`` is needed [none].
        answers: File of the kept answers; one that is there is read, not written anew
            [none: the teacher is asked at each step].
        predict_on: ``student``, or ``teacher`` to measure it.

    Raises:
        UserError: Unknown words, or an amount or K out of range.
    """

    default_stage = "student"
    work = {"calibrate": "held-out data", "answers": "the training data in order"}
    amount: Tensor

    def __init__(
        self,
        teacher: dict,
        student: dict,
        top_k: int = 5,
        trust: str = "temperature",
        grid: Sequence[float] | None = None,
        amount: float | None = None,
        answers: str | None = None,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of(
            "FIRST",
            trust=(trust, ("temperature", "smoothing", "none")),
            predict_on=(predict_on, ("student", "teacher")),
        )
        if top_k < 2:
            raise UserError(
                f"FIRST: top_k={top_k} leaves nothing to tell.", "Keep 2 or more."
            )
        self.student = MODELS.build(student)  # its weights are a plain student's
        self.teacher = MODELS.build(teacher)
        one_vocabulary("FIRST", teacher=self.teacher, student=self.student)
        self.top_k, self.trust, self.predict_on = top_k, trust, predict_on
        default = {
            "temperature": [0.15 + 0.02 * i for i in range(14)],
            "smoothing": [0.03 * i for i in range(1, 7)],
            "none": [],
        }
        self.answers, self.kept = answers, None
        self.grid = list(default[trust] if grid is None else grid)
        self.register_buffer(
            "amount", torch.tensor(float("nan") if amount is None else amount)
        )
        for one in self.grid if amount is None else [amount]:
            self.trusted(torch.full((1, top_k), 1 / top_k), one)  # refuses a bad one
        self.enter_stage(self.default_stage)

    @property
    def learner(self) -> nn.Module:
        """What the current stage trains."""
        return self.teacher if self.progress.stage == "teacher" else self.student

    def enter_stage(self, name: str) -> None:
        """One of the two networks learns."""
        self.requires_grad_(False)
        self.learner.requires_grad_(True)
        self.zero_grad(set_to_none=True)
        self.train(self.training)

    def train(self, mode: bool = True) -> "FIRST":
        """The teacher stays in evaluation mode while it teaches."""
        super().train(False)
        self.training = mode
        self.learner.train(mode)
        return self

    def wants_work(self, stage: str) -> str | None:
        """Nothing to calibrate on where the teacher is trusted as it is."""
        idle = stage == "calibrate" and self.trust == "none"
        return None if idle else super().wants_work(stage)

    @torch.no_grad()
    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """Choose c or d in stage ``calibrate``; ask the teacher in ``answers``."""
        self.check_work(name, loader)
        if name == "answers":
            self._ask(loader)
        if name != "calibrate" or self.trust == "none":
            return
        self.train(False)
        parts = []
        for batch in loader:
            z, targets, _ = self._answers(
                self.teacher, **self.data_preprocessor(batch, False)
            )
            p, ids = wide(z).softmax(-1).topk(self.top_k)
            parts.append((p.cpu(), (ids[:, 0] == targets).cpu()))
        everywhere = [part for one in all_gather_object(parts) for part in one]
        p, right = (torch.cat(column) for column in zip(*everywhere, strict=True))
        if not len(right):
            raise UserError(
                "FIRST: the data of stage calibrate has no answer to judge.",
                "Give it samples with targets, or texts with labels other than -100.",
            )
        errors = [
            calibration_error(
                self.trusted(p, one).max(-1).values.double().numpy(),
                right.double().numpy(),
            )
            for one in self.grid
        ]
        self.amount.fill_(self.grid[errors.index(min(errors))])

    def _ask(self, loader: DataLoader | None) -> None:
        """Keep the teacher's K probabilities of all training data, once."""
        self.train(False)

        def ask(batch: dict) -> tuple[Tensor, Tensor, list[int]]:
            batch = self.data_preprocessor(batch, False)
            z, _, rows = self._answers(self.teacher, **batch)
            p, ids = wide(z).softmax(-1).topk(self.top_k)
            samples = len(numbers_of("FIRST", batch))
            return p.half(), ids, rows.bincount(minlength=samples).tolist()

        ask_once("FIRST", self.answers, self.teacher, loader, ask)

    def _target(
        self, index: Tensor | None, rows: int, batch: dict
    ) -> tuple[Tensor, Tensor]:
        """The teacher's K probabilities and their ids [M, K], kept or asked now."""
        if self.answers is None:
            z, _, _ = self._answers(self.teacher, **batch)
            return wide(z).softmax(-1).topk(self.top_k)
        numbers = numbers_of("FIRST", {"index": index})
        if self.kept is None:
            self.kept = KeptAnswers(self.answers, self.teacher)
        p, ids = self.kept.of(numbers, rows)
        return p.to(index.device), ids.to(index.device)

    def trusted(self, probabilities: Tensor, amount: float) -> Tensor:
        """The teacher's target [..., K] from its K probabilities."""
        if self.trust == "temperature":
            return temperature_scaled(probabilities, amount)
        if self.trust == "smoothing":
            return label_smoothed(probabilities, amount)
        return _renormalised(probabilities)

    def loss_teacher(self, **batch) -> dict[str, Tensor]:
        """Cross-entropy of the teacher with the labels."""
        z, targets, _ = self._answers(self.teacher, **batch)
        return {"loss_teacher": next_token_loss(z[None], targets[None])}

    def loss_student(self, index: Tensor | None = None, **batch) -> dict[str, Tensor]:
        """The divergence, summed over an answer's positions; also logs c or d."""
        if self.trust != "none" and self.amount.isnan():
            raise UserError(
                "FIRST: nobody has chosen how far to trust the teacher.",
                "Put a stage calibrate before stage student, or set model.amount.",
            )
        z_s, _, _ = self._answers(self.student, **batch)
        with torch.no_grad():
            p, ids = self._target(index, len(z_s), batch)
            target = self.trusted(p, self.amount)
        s = wide(z_s).softmax(-1).gather(-1, ids)
        sequences = len(batch["input_ids" if "input_ids" in batch else "inputs"])
        losses = {"loss_first": _top_k_kl(target, s).sum() / max(sequences, 1)}
        return losses | ({} if self.trust == "none" else {"amount": self.amount})

    def predict(self, **batch) -> list[dict]:
        """Logits [M, V] at the positions of the answers, and what stands there."""
        z, targets, _ = self._answers(getattr(self, self.predict_on), **batch)
        return [{"logits": z, "targets": targets}]

    def outputs(
        self,
        inputs: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **_,
    ) -> Tensor:
        """Logits of every sample, or of every position."""
        network = getattr(self, self.predict_on)
        if inputs is not None:
            return network(inputs)
        return network(input_ids, attention_mask)

    @staticmethod
    def _answers(
        network: nn.Module,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **_,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [M, V] and targets [M] of all answers, and their rows [M]."""
        if inputs is not None:
            rows = torch.arange(len(inputs), device=inputs.device)
            return network(inputs), targets, rows
        ids, mask, targets = trimmed(input_ids, labels, attention_mask)
        counted = targets != IGNORE
        return network(ids, mask)[counted], targets[counted], counted.nonzero()[:, 0]


def temperature_scaled(probabilities: Tensor, c: float | Tensor) -> Tensor:
    """Softmax of probabilities (not of logits) divided by c.

    Args:
        probabilities: [..., K], the teacher's largest.
        c: > 0. About 0.3 leaves a sure teacher sure; from 1 on all is nearly even.

    Returns:
        [..., K], sums to 1.

    Raises:
        UserError: ``c`` is not positive.
    """
    positive("temperature_scaled", c=float(c))
    return (wide(probabilities) / c).softmax(-1)


def label_smoothed(probabilities: Tensor, smoothing: float | Tensor) -> Tensor:
    """Take a share of the largest probability and give it to the others, evenly.

    Args:
        probabilities: [..., K]; first divided by their sum, as in :func:`top_k_kl`.
        smoothing: d, below 1 / K, so that nothing becomes negative. The first of
            several largest gives.

    Returns:
        [..., K], sums to 1.

    Raises:
        UserError: ``smoothing`` is out of range, or K is 1.
    """
    k = probabilities.shape[-1]
    if k < 2 or not 0 <= float(smoothing) < 1 / k:
        raise UserError(
            f"label_smoothed: {float(smoothing)} cannot be taken from {k} numbers.",
            f"Choose it from 0 to below 1 / K = {1 / max(k, 1):.3g}.",
        )
    p = _renormalised(probabilities)
    if not p.numel():
        return p
    top = F.one_hot(p.argmax(-1), k).bool()
    return torch.where(top, p - smoothing, p + smoothing / (k - 1))


def top_k_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of the K probabilities that both are asked for.

    Args:
        teacher: [..., K] probabilities, any sum; a target, without gradient.
        student: [..., K] probabilities of the same tokens.

    Returns:
        A scalar, the mean over all but the last axis; 0 with a gradient path where
        there is no row. Both are divided by their sums after 1e-6 is added (code).

    Raises:
        UserError: Shapes differ.
    """
    value = _top_k_kl(teacher, student)
    return value.sum() / max(value.numel(), 1)


def _top_k_kl(teacher: Tensor, student: Tensor) -> Tensor:
    same_shape("top_k_kl", teacher=teacher, student=student)
    t, s = _renormalised(teacher.detach()), _renormalised(student)
    return (t * (t.log() - s.log())).sum(-1)


def _renormalised(p: Tensor) -> Tensor:
    p = wide(p) + EPSILON
    return p / p.sum(-1, keepdim=True)
