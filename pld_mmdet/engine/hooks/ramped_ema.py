"""An EMA whose keep rate is a function of the iteration, for any pair of networks."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from pld_mmdet.distill.ema import BUFFER_POLICIES, ema_update, ramped_keep
from pld_mmdet.engine.models import unwrapped
from pld_mmdet.engine.processes import share_statistics
from pld_mmdet.engine.steps import accumulation, begins_step
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import HOOKS


@HOOKS.register_module()
class RampedEMAHook(Hook):
    """Average one network into another *before* every step, as Soft Teacher does.

    Before step t: ``teacher = m_t teacher + (1 - m_t) student`` with
    ``m_t = min(keep, 1 - (1 + warm_up) / (t + 1 + warm_up))``. m_0 = 0 is the first
    copy. The rate follows from the iteration alone, so nothing has to be stored to
    resume, and several pairs of networks can each have a hook. A step is an iteration,
    or all iterations whose gradients are accumulated.

    Args:
        keep: Share of the teacher that stays once the ramp is over (0.999).
        warm_up: w of the ramp: 0 in Soft Teacher, 100 for dual polishing's polishers.
            None: ``keep`` from the start.
        stop_after: The last iteration (from 0) with an update; later the teacher is
            frozen. Dual polishing: the first drop of the learning rate, in the
            schedule's unit.
        copy_at_start: Let the teacher begin as a copy of the student. With False and
            ``warm_up=None`` the teacher of the ``load_from`` checkpoint is kept.
        teacher: Attribute of the model that is averaged into.
        student: Attribute of the model that is read.
        buffers: See :func:`pld_mmdet.distill.ema.ema_update`.

    Source: microsoft/SoftTeacher 0423bb2 and snowdusky/DualPolishLearning 0db0b91,
    ssod/utils/hooks/mean_teacher.py.
    """

    priority = "NORMAL"

    def __init__(
        self,
        keep: float = 0.999,
        warm_up: int | None = 0,
        stop_after: int | None = None,
        copy_at_start: bool = True,
        teacher: str = "teacher",
        student: str = "student",
        buffers: str = "average",
    ) -> None:
        if not 0.0 <= keep <= 1.0 or (warm_up or 0) < 0:
            raise UserError(
                f"RampedEMAHook: keep={keep}, warm_up={warm_up} are out of range.",
                "keep lies in [0, 1] (0.999: the teacher keeps 99.9 %), warm_up >= 0.",
            )
        one_of("RampedEMAHook", buffers=(buffers, BUFFER_POLICIES))
        if not copy_at_start and warm_up is not None:
            raise UserError(
                "RampedEMAHook: copy_at_start=False has no effect with a ramp, whose "
                "first step is a copy.",
                "Set warm_up=None as well to go on from the loaded teacher.",
            )
        self.keep = keep
        self.warm_up = warm_up
        self.stop_after = stop_after
        self.copy_at_start = copy_at_start
        self.names = teacher, student
        self.buffers = buffers

    def keep_at(self, step: int) -> float:
        """m_t of step t (from 0)."""
        if self.warm_up is None:
            return self.keep
        return ramped_keep(step, self.keep, self.warm_up)

    def before_train(self, runner: Runner) -> None:
        """Start the teacher as a copy of the student."""
        teacher, student = self._networks(runner)
        if runner.iter == 0 and self.copy_at_start:
            ema_update(teacher, student, keep=0.0, buffers="copy")

    @torch.no_grad()
    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Average, unless the teacher is frozen by now."""
        first_copy = runner.iter == 0 and self.copy_at_start
        if first_copy or not begins_step(runner):
            return
        if self.stop_after is not None and runner.iter > self.stop_after:
            return
        teacher, student = self._networks(runner)
        if self.buffers != "keep":
            share_statistics(student)
        keep = self.keep_at(runner.iter // accumulation(runner))
        ema_update(teacher, student, keep, self.buffers)

    def _networks(self, runner: Runner) -> list[torch.nn.Module]:
        model = unwrapped(runner.model)
        missing = [n for n in self.names if not hasattr(model, n)]
        if missing:
            raise UserError(
                f"RampedEMAHook: {type(model).__name__} has no "
                f"{' and no '.join(missing)}.",
                "Take the hook out of custom_hooks, or name the two networks with "
                "teacher=... and student=...",
            )
        return [getattr(model, n) for n in self.names]
