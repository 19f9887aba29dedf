"""When and how the teacher follows the student."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from pld_mmdet.distill.ema import BUFFER_POLICIES, ema_update, ramped_keep
from pld_mmdet.engine.models import unwrapped
from pld_mmdet.engine.processes import share_statistics
from pld_mmdet.engine.steps import accumulation, begins_step, ends_step, len_epoch
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import HOOKS

STATE_KEY = "pld_teacher_ema"


@HOOKS.register_module()
class TeacherEMAHook(Hook):
    """Average the student into the teacher.

    ``teacher = keep * teacher + (1 - keep) * student``; ``runner.model`` must have
    ``.student`` and ``.teacher``. The counter of updates travels in the checkpoint, so
    that a ramp goes on where it was. At the very start (iteration 0) the teacher
    becomes an exact copy of the student.

    Args:
        keep: Share of the teacher that stays. mmdet's ``momentum`` is ``1 - keep``.
        unit: ``'iter'`` or ``'epoch'``: what one update counts. An ``'iter'`` is a
            step of the optimizer, however many iterations its gradient is accumulated
            from. Under an iteration-based loop an epoch is one pass over the data set.
        moment: ``'after'`` or ``'before'`` the student's step (or epoch).
        interval: Update every so many units.
        warm_up: None keeps ``keep`` constant; a number ramps it, see
            :func:`pld_mmdet.distill.ema.ramped_keep`.
        buffers: ``'average'``, ``'copy'`` or ``'keep'``; see
            :func:`pld_mmdet.distill.ema.ema_update`.
    """

    # Before CheckpointHook (VERY_LOW): a checkpoint holds the teacher after its update.
    priority = "NORMAL"

    def __init__(
        self,
        keep: float = 0.999,
        unit: str = "iter",
        moment: str = "after",
        interval: int = 1,
        warm_up: int | None = None,
        buffers: str = "average",
    ) -> None:
        one_of(
            "TeacherEMAHook",
            unit=(unit, ("iter", "epoch")),
            moment=(moment, ("after", "before")),
            buffers=(buffers, BUFFER_POLICIES),
        )
        if not 0.0 <= keep <= 1.0 or interval < 1:
            raise UserError(
                f"TeacherEMAHook: keep={keep}, interval={interval} are out of range.",
                "keep lies in [0, 1] (0.999: the teacher keeps 99.9 %), interval >= 1.",
            )
        self.keep = keep
        self.unit = unit
        self.moment = moment
        self.interval = interval
        self.warm_up = warm_up
        self.buffers = buffers
        self.updates = 0

    def before_train(self, runner: Runner) -> None:
        """Start the teacher as a copy of the student."""
        model = unwrapped(runner.model)
        if not (hasattr(model, "student") and hasattr(model, "teacher")):
            raise UserError(
                f"TeacherEMAHook needs a model with .student and .teacher; "
                f"{type(model).__name__} has none.",
                "Take the hook out of custom_hooks, or wrap the detector, for example "
                "in pld_mmdet.MeanTeacherSFOD.",
            )
        if runner.iter == 0:
            ema_update(model.teacher, model.student, keep=0.0, buffers="copy")
            # Before the step, that copy is the ramp's update number 0 (m_0 = 0).
            self.updates = int(self.moment == "before")

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Update before the student's step; iteration 0 is the copy itself."""
        if self.moment == "before" and runner.iter > 0 and begins_step(runner):
            self._step(runner, done=runner.iter // accumulation(runner))

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Update after the student's step."""
        if self.moment == "after" and ends_step(runner):
            self._step(runner, done=runner.iter // accumulation(runner) + 1)

    def _step(self, runner: Runner, done: int) -> None:
        every = self.interval
        if self.unit == "epoch":
            every *= -(-len_epoch(runner) // accumulation(runner))
        if done % every == 0:
            self.update(unwrapped(runner.model))

    @torch.no_grad()
    def update(self, model: torch.nn.Module) -> None:
        """One update, whatever the schedule says."""
        keep = self.keep
        if self.warm_up is not None:
            keep = ramped_keep(self.updates, self.keep, self.warm_up)
        if self.buffers != "keep":
            share_statistics(model.student)
        ema_update(model.teacher, model.student, keep, self.buffers)
        self.updates += 1

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the counter of updates."""
        checkpoint[STATE_KEY] = dict(updates=self.updates)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore the counter when a run is resumed (not when weights are loaded)."""
        if runner._resume and STATE_KEY in checkpoint:
            self.updates = checkpoint[STATE_KEY]["updates"]
