"""FST: the teacher sees the student's next states before it labels."""

from collections.abc import Callable
from functools import partial

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS
from torch import Tensor, nn

from pld_mmdet.distill.ema import ema_update, ramped_keep
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS
from pld_mmdet.segmentation.learners.virtual_step import RunningMean, StandPoint


@MODELS.register_module()
class FST(Method):
    r"""Future self-training around any mean-teacher learner (Du et al. 2022).

    theta is the student, phi the teacher, L the learner's loss with labels from phi.

    FST-D, depth K, on one batch::

        repeat K times:  phi <- mu phi + (1 - mu) theta
                         theta <- theta - eta grad L(theta; phi)      (virtual)
        phi <- mu phi + (1 - mu) theta
        theta <- what it was
        theta <- theta - eta grad L(theta; phi)                       (real)

    FST-W, width N, on N + 1 batches: one virtual step from theta on each of N batches,
    ``phi <- mu phi + (1 - mu) mean(theta_1..theta_N)``, the real step from theta on the
    main batch, and ``phi <- mu phi + (1 - mu) theta``.

    Depth 0 and width 0 are plain self-training. The teacher is never taken back, so it
    moves K + 1 times an iteration: plain self-training with ``mu ** (K + 1)`` is the
    fair rival. The first iteration is a plain step from phi = theta, after which phi
    moves (``first_move``). Nothing is differentiated through a virtual step.

    Under ``StagedLoop``, stages whose name begins with ``labelled`` are plain steps on
    the labelled images: a network that knows nothing has no labels to give.

    Deviations from the authors' code (usr922/FST, 5b44c01): a virtual step leaves the
    optimizer's state and batch-norm statistics as they were, which the equations ask
    for; ``restore_optimizer=False, restore_buffers=False`` is the released behaviour,
    and the better one in docs/segmentation.md.
    Its semi-supervised script moves the teacher once more after the real step.

    Args:
        learner: Config of the inner method, with ``student``, ``teacher`` and ``loss``.
        depth: K of FST-D [3, authors' configs].
        width: N of FST-W [0: FST-D is run]. One of the two is 0. A batch is then
            N + 1 batches long.
        mu: Share of the teacher that stays [0.999, domain adaptation; 0.99, semi-
            supervised]. Warmed up: ``min(1 - 1 / (t + 1), mu)``.
        count: What t counts: ``evaluations`` of the loss (authors' adaptation code) or
            ``iterations`` (their semi-supervised code).
        buffers: The teacher's batch-norm statistics, as in ``ema_update``
            [``average``].
        first_move: Move the teacher after the first iteration's step [True, released;
            it then stands halfway to theta].
        restore_optimizer: Undo what virtual steps did to the optimizer's state.
        restore_buffers: Undo what they did to the student's batch-norm statistics.

    Raises:
        UserError: Depth and width together, or an unknown ``count``.
    """

    def __init__(
        self,
        learner: dict,
        depth: int = 3,
        width: int = 0,
        mu: float = 0.999,
        count: str = "evaluations",
        buffers: str = "average",
        first_move: bool = True,
        restore_optimizer: bool = True,
        restore_buffers: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if min(depth, width) < 0 or (depth and width):
            raise UserError(
                f"FST: depth={depth}, width={width}.",
                "Set depth for FST-D, or width for FST-W; the other is 0.",
            )
        one_of("FST", count=(count, ("evaluations", "iterations")))
        self.learner = MODELS.build(learner)
        self.learner.labelled_only = False
        self.depth, self.width, self.mu = depth, width, mu
        self.count, self.buffers_policy = count, buffers
        self.first_move = first_move
        self.restore_optimizer = restore_optimizer
        self.restore_buffers = restore_buffers
        self.register_buffer("t", torch.zeros((), dtype=torch.long))

    @property
    def student(self) -> nn.Module:
        """theta."""
        return self.learner.student

    @property
    def teacher(self) -> nn.Module:
        """phi."""
        return self.learner.teacher

    def enter_stage(self, name: str) -> None:
        """Learn from labelled images alone, or from all, by the stage's name."""
        self.learner.labelled_only = name.startswith("labelled")

    def train_step(
        self, data: dict, optim_wrapper: OptimWrapper, network: nn.Module | None = None
    ) -> dict[str, Tensor]:
        """One iteration.

        Args:
            data: A batch, N + 1 times as long for FST-W.
            optim_wrapper: The student's optimizer.
            network: What computes the loss [this model]; a wrapper that reduces
                gradients over processes passes itself.

        Returns:
            The losses of the real step, for the log.
        """
        if optim_wrapper._accumulative_counts > 1:
            raise UserError(
                "FST steps several times on a batch and cannot accumulate gradients.",
                "Set optim_wrapper.accumulative_counts=1.",
            )
        step = partial(self._learn, optim_wrapper, network)
        main, *others = self._batches(self.data_preprocessor(data, True))
        if self.learner.labelled_only:
            return step(main)
        if self.t == 0:
            ema_update(self.teacher, self.student, keep=0.0, buffers="copy")
            log = step(main)
            if self.first_move:
                self._move_teacher()
        elif self.width:
            log = self._wide(step, self._stand_point(optim_wrapper), main, others)
        else:
            theta = self._stand_point(optim_wrapper) if self.depth else None
            log = self._deep(step, theta, main)
        if self.count == "iterations":
            self.t += 1
        return log

    def _learn(self, optim_wrapper, network, batch: dict) -> dict[str, Tensor]:
        """A step of the optimizer; every one draws its own random numbers."""
        forward = partial(self if network is None else network, mode="loss", **batch)
        log = self.step(optim_wrapper, forward, network=network)
        if self.count == "evaluations" and not self.learner.labelled_only:
            self.t += 1
        return log

    def _deep(
        self, step: Callable, theta: StandPoint | None, batch: dict
    ) -> dict[str, Tensor]:
        for _ in range(self.depth):
            self._move_teacher()
            step(batch)
        self._move_teacher()
        if theta is not None:
            theta.restore()
        return step(batch)

    def _wide(
        self, step: Callable, theta: StandPoint, main: dict, others: list[dict]
    ) -> dict[str, Tensor]:
        mean = RunningMean(self.student, self.restore_buffers)
        for batch in others:
            step(batch)
            mean.add()
            theta.restore()
        mean.put()
        self._move_teacher()
        theta.restore()
        log = step(main)
        self._move_teacher()
        return log

    def _stand_point(self, optim_wrapper: OptimWrapper) -> StandPoint:
        wrapper = optim_wrapper if self.restore_optimizer else None
        return StandPoint(self.student, self.restore_buffers, wrapper)

    def _move_teacher(self) -> None:
        keep = ramped_keep(int(self.t), self.mu)
        ema_update(self.teacher, self.student, keep, self.buffers_policy)

    def _batches(self, batch: dict) -> list[dict]:
        """The batch, or its N + 1 parts, labelled and unlabelled samples in each."""
        if not self.width:
            return [batch]
        labelled = batch["labelled"]
        parts = self.width + 1
        members = [rows.nonzero().squeeze(1) for rows in (labelled, ~labelled)]
        if any(len(rows) % parts for rows in members):
            raise UserError(
                f"FST-W of width {self.width} cannot part {len(members[0])} labelled "
                f"and {len(members[1])} unlabelled samples.",
                f"Make both numbers in a batch multiples of {parts}.",
            )
        chunks = [rows.chunk(parts) for rows in members]
        indices = [torch.cat(both) for both in zip(*chunks, strict=True)]
        return [
            {key: _take(value, rows) for key, value in batch.items()}
            for rows in indices
        ]

    def loss(self, **batch) -> dict[str, Tensor]:
        """The learner's losses."""
        return self.learner.loss(**batch)

    def predict(self, **batch) -> list[dict]:
        """The learner's answer."""
        return self.learner.predict(**batch)

    def outputs(self, **batch) -> Tensor:
        """The learner's plain output."""
        return self.learner.outputs(**batch)


def _take(value: Tensor | list, rows: Tensor) -> Tensor | list:
    if isinstance(value, Tensor):
        return value[rows.to(value.device)]
    return [value[int(row)] for row in rows]


@MODEL_WRAPPERS.register_module()
class VirtualStepDDP(MMDistributedDataParallel):
    """Several steps an iteration on several processes.

    mmengine's wrapper runs one forward and one step whatever the model's
    ``train_step`` says; this one lets the model step through it. Take it with
    ``model_wrapper_cfg=dict(type='VirtualStepDDP')``.
    """

    def __init__(self, module: nn.Module, **kwargs) -> None:
        if not torch.cuda.is_available():
            kwargs["device_ids"] = None
        else:
            kwargs.setdefault("device_ids", [torch.cuda.current_device()])
        super().__init__(module=module, **kwargs)

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """The model's own iteration, with gradients reduced at each of its steps."""
        return self.module.train_step(data, optim_wrapper, network=self)
