"""When and how the teacher follows the student."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from pld_mmdet.distill.ema import (
    BUFFER_POLICIES,
    Pairing,
    ema_update,
    ramped_keep,
)
from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.engine.run.processes import share_statistics
from pld_mmdet.engine.run.steps import accumulation, begins_step, ends_step, len_epoch
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import HOOKS

STATE_KEY = "pld_teacher_ema"


@HOOKS.register_module()
class TeacherEMAHook(Hook):
    """Average the student into the teacher.

    ``teacher = keep * teacher + (1 - keep) * student``. The counter of updates travels
    in the checkpoint, so that a ramp goes on where it was. At the very start (iteration
    0) the teacher becomes an exact copy of the student. Several pairs of networks can
    each have a hook.

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
        teacher: Attribute of the model that is averaged into.
        student: Attribute of the model that is read.
        stop_after: The last iteration (from 0) with an update; later the teacher is
            frozen. None: never.
        copy_at_start: False keeps the teacher of the ``load_from`` checkpoint; without
            a ramp only.

    Raises:
        UserError: A value is out of range, or the model has no such networks.
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
        teacher: str = "teacher",
        student: str = "student",
        stop_after: int | None = None,
        copy_at_start: bool = True,
    ) -> None:
        name = type(self).__name__
        one_of(
            name,
            unit=(unit, ("iter", "epoch")),
            moment=(moment, ("after", "before")),
            buffers=(buffers, BUFFER_POLICIES),
        )
        if not 0.0 <= keep <= 1.0 or interval < 1 or (warm_up or 0) < 0:
            raise UserError(
                f"{name}: keep={keep}, interval={interval}, warm_up={warm_up} are out "
                "of range.",
                "keep lies in [0, 1] (0.999: the teacher keeps 99.9 %), interval >= 1, "
                "warm_up >= 0.",
            )
        if not copy_at_start and warm_up is not None:
            raise UserError(
                f"{name}: copy_at_start=False has no effect with a ramp, whose first "
                "step is a copy.",
                "Set warm_up=None as well to go on from the loaded teacher.",
            )
        self.keep = keep
        self.unit = unit
        self.moment = moment
        self.interval = interval
        self.warm_up = warm_up
        self.buffers = buffers
        self.names = teacher, student
        self.stop_after = stop_after
        self.copy_at_start = copy_at_start
        self.updates = 0
        self._is_counting = False
        self._pairs: Pairing | None = None

    def before_train(self, runner: Runner) -> None:
        """Start the teacher as a copy of the student."""
        model = unwrapped(runner.model)
        missing = [name for name in self.names if not hasattr(model, name)]
        if missing:
            raise UserError(
                f"{type(self).__name__} needs a model with .{self.names[1]} and "
                f".{self.names[0]}; {type(model).__name__} has no "
                f"{' and no '.join(missing)}.",
                "Take the hook out of custom_hooks, name the two networks with "
                "teacher=... and student=..., or wrap the detector, for example in "
                "pld_mmdet.MeanTeacherSFOD.",
            )
        hooks = getattr(runner, "hooks", ())
        others = [h for h in hooks if type(h).__name__ == "MeanTeacherHook"]
        if others and self.names == ("teacher", "student"):
            raise UserError(
                f"custom_hooks has {type(self).__name__} and mmdet's MeanTeacherHook: "
                "the teacher would be moved twice a step.",
                "Keep one of them.",
            )
        auto = (getattr(runner, "cfg", None) or {}).get("auto_scale_lr") or {}
        if auto.get("enable"):  # tools/train.py has switched it off after its own rule
            runner.logger.warning(
                "auto_scale_lr of mmengine has scaled the learning rate only: the "
                f"teacher's keep={self.keep}, warm-up and length are those of "
                f"{auto.get('base_batch_size')} images a step. pld_mmdet's "
                "tools/train.py --auto-scale-lr scales them together (docs/cluster.md)."
            )
        # Before the step, the first copy is the ramp's update number 0 (m_0 = 0).
        first = int(self.moment == "before" and self.copy_at_start)
        if runner.iter == 0:
            self.updates = first
            if self.copy_at_start:
                teacher, student = self._networks(model)
                ema_update(teacher, student, keep=0.0, buffers="copy")
        elif not self._is_counting:  # the checkpoint of a run that stored no counter
            steps = runner.iter // accumulation(runner)
            self.updates = first + (steps - first) // self._every(runner)
        self._is_counting = True

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Update before the student's step; iteration 0 is the copy itself."""
        if self.moment == "after" or not begins_step(runner):
            return
        if runner.iter > 0 or not self.copy_at_start:
            self._step(runner, done=runner.iter // accumulation(runner))

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Update after the student's step."""
        if self.moment == "after" and ends_step(runner):
            self._step(runner, done=runner.iter // accumulation(runner) + 1)

    def _every(self, runner: Runner) -> int:
        """Optimizer steps from one update to the next."""
        if self.unit == "iter":
            return self.interval
        return self.interval * -(-len_epoch(runner) // accumulation(runner))

    def _step(self, runner: Runner, done: int) -> None:
        frozen = self.stop_after is not None and runner.iter > self.stop_after
        if not frozen and done % self._every(runner) == 0:
            self.update(unwrapped(runner.model))

    def keep_at(self, update: int) -> float:
        """Share of the teacher that update number ``update`` (from 0) leaves."""
        if self.warm_up is None:
            return self.keep
        return ramped_keep(update, self.keep, self.warm_up)

    @torch.no_grad()
    def update(self, model: torch.nn.Module) -> None:
        """One update, whatever the schedule says."""
        teacher, student = self._networks(model)
        if self.buffers != "keep":
            share_statistics(student)
        if self._pairs is None or not self._pairs.fits(teacher, student):
            self._pairs = Pairing(teacher, student, self.buffers)
        self._pairs.update(self.keep_at(self.updates))
        self.updates += 1

    def _networks(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        return [getattr(model, name) for name in self.names]

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the counter of updates."""
        checkpoint.setdefault(STATE_KEY, {})[self._counter] = self.updates

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore the counter when a run is resumed (not when weights are loaded)."""
        state = checkpoint.get(STATE_KEY, {})
        if runner._resume and self._counter in state:
            self.updates, self._is_counting = state[self._counter], True

    @property
    def _counter(self) -> str:
        teacher = self.names[0]
        return "updates" if teacher == "teacher" else f"updates_{teacher}"


@HOOKS.register_module()
class RampedEMAHook(TeacherEMAHook):
    """:class:`TeacherEMAHook` as Soft Teacher has it: a ramp, *before* every step.

    Before step t: ``teacher = m_t teacher + (1 - m_t) student`` with
    ``m_t = min(keep, 1 - (1 + warm_up) / (t + 1 + warm_up))``; m_0 = 0 is the first
    copy.

    Args:
        keep: Share of the teacher that stays once the ramp is over (0.999).
        warm_up: w of the ramp: 0 in Soft Teacher, 100 for dual polishing's polishers.
            None: ``keep`` from the start.
        **kwargs: See :class:`TeacherEMAHook`. ``stop_after`` in dual polishing: the
            first drop of the learning rate, in the schedule's unit.

    Source: microsoft/SoftTeacher 0423bb2 and snowdusky/DualPolishLearning 0db0b91,
    ssod/utils/hooks/mean_teacher.py.
    """

    def __init__(self, keep: float = 0.999, warm_up: int | None = 0, **kwargs) -> None:
        super().__init__(keep, moment="before", warm_up=warm_up, **kwargs)
