"""A student and the teachers that an earlier stage of the same run has made."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from mmengine.dist import all_gather
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS


class PartLearns(Method):
    """A model of which one part learns at a time; the rest is as a frozen teacher.

    A subclass says in ``learners`` what the stage trains, and calls ``enter_stage``
    once its parts are there if the run may be without ``StagedLoop``.
    """

    @property
    @abstractmethod
    def learners(self) -> list[nn.Module]:
        """What this stage trains."""

    def enter_stage(self, name: str) -> None:
        """Only what the stage trains has gradients and is in training mode."""
        self.check_stage(name)
        self.progress.stage = name
        self.requires_grad_(False)
        for part in self.learners:
            part.requires_grad_(True)
        self.zero_grad(set_to_none=True)
        self.train(self.training)

    def start_stage(self, name: str, loader: object, folder: Path) -> None:
        """Nothing to prepare."""

    def train(self, mode: bool = True) -> "PartLearns":
        """What does not learn stays in evaluation mode."""
        super().train(False)
        self.training = mode
        for part in self.learners:
            part.train(mode)
        return self


class TaughtStudent(PartLearns):
    """Stages ``teacher``, ``student`` and the method's own, of ``StagedLoop``.

    ``teacher`` trains every teacher by cross-entropy, each alone; ``student`` trains
    the student so (a baseline, or where a method starts from). In every other stage
    the teachers are in evaluation mode and get no gradient, and the student learns.
    Where teachers are given as weights, the first stage is left out.

    Args:
        student: Config of a network, N x ... -> N x C logits.
        teachers: Configs of networks with as many outputs.
        predict_on: ``student``, or ``teacher`` (the mean of probabilities of all).
        init_cfg: As in mmengine.

    Raises:
        UserError: No teacher, or an unknown ``predict_on``.
    """

    def __init__(
        self,
        student: dict,
        teachers: Sequence[dict],
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of(type(self).__name__, predict_on=(predict_on, ("student", "teacher")))
        if not teachers:
            raise UserError(
                f"{type(self).__name__}: there is no teacher.", "Give one or more."
            )
        self.predict_on = predict_on
        self.student = MODELS.build(student)
        self.teachers = nn.ModuleList([MODELS.build(config) for config in teachers])
        self.enter_stage(self.default_stage)

    @property
    def learners(self) -> list[nn.Module]:
        """What this stage trains."""
        teaching = self.progress.stage == "teacher"
        return [self.teachers] if teaching else [self.student]

    def loss_teacher(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Cross-entropy of each teacher by itself: N x ..., N labels."""
        return {
            f"loss_teacher_{i}": F.cross_entropy(teacher(inputs), targets)
            for i, teacher in enumerate(self.teachers)
        }

    def loss_student(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Cross-entropy of the student: N x ..., N labels."""
        return {"loss_ce": F.cross_entropy(self.student(inputs), targets)}

    @torch.no_grad()
    def answers(self, inputs: Tensor) -> list[Tensor]:
        """Logits [N, C] of each teacher, constants."""
        return [teacher(inputs).float() for teacher in self.teachers]

    @torch.no_grad()
    def over(
        self, loader: Iterable | None, answer: Callable[[dict], Tensor], count: int
    ) -> Tensor:
        """``answer(batch)`` for each sample of a work loader, by its ``index``.

        Every process reads its share and gets the rows of all.

        Args:
            loader: The stage's ``work_dataloader``, unshuffled; a stage that reads
                one names it in ``work``.
            answer: A batch -> [N, ...], in evaluation mode, without gradient.
            count: Samples that there must be.

        Returns:
            [count, ...]

        Raises:
            UserError: A loader of another data set.
        """
        owner, mode = type(self).__name__, self.training
        device = next(self.parameters()).device
        self.train(False)
        found = []
        for batch in loader:
            batch = {name: values.to(device) for name, values in batch.items()}
            found.append((batch["index"], answer(batch).float()))
        self.train(mode)
        index, rows = (
            torch.cat(all_gather(torch.cat(part))) for part in zip(*found, strict=True)
        )
        # the sampler of several processes may repeat some samples
        if not torch.equal(index.unique(), torch.arange(count, device=device)):
            raise UserError(
                f"{owner} was given {index.unique().numel()} samples for "
                f"num_samples={count}.",
                "Set num_samples to the size of the work_dataloader's data set.",
            )
        sorted_rows = torch.empty_like(rows[:count])
        sorted_rows[index] = rows
        return sorted_rows

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Logits [N, C]; of the teachers log-probabilities."""
        if self.predict_on == "student":
            return self.student(inputs)
        return mean_probabilities(self.answers(inputs)).log()


def mean_probabilities(logits: Sequence[Tensor]) -> Tensor:
    """Mean of the softmax of each, [N, C]: not the softmax of the mean."""
    return torch.stack([z.softmax(-1) for z in logits]).mean(0)
