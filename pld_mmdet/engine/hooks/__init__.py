"""Policy over iterations, one hook a file. Importing this package registers them."""

from pld_mmdet.engine.hooks.adabn import AdaBNHook
from pld_mmdet.engine.hooks.collapse_guard import CollapseGuardHook
from pld_mmdet.engine.hooks.pseudo_boxes import PseudoBoxHook
from pld_mmdet.engine.hooks.ramped_ema import RampedEMAHook
from pld_mmdet.engine.hooks.run_record import RunRecordHook
from pld_mmdet.engine.hooks.safe_checkpoint import SafeCheckpointHook
from pld_mmdet.engine.hooks.seed import IterationSeedHook
from pld_mmdet.engine.hooks.start_score import ScoreAtStartHook
from pld_mmdet.engine.hooks.step_schedule import StepScheduleHook
from pld_mmdet.engine.hooks.teacher_ema import TeacherEMAHook

__all__ = [
    "AdaBNHook",
    "CollapseGuardHook",
    "IterationSeedHook",
    "PseudoBoxHook",
    "RampedEMAHook",
    "RunRecordHook",
    "SafeCheckpointHook",
    "ScoreAtStartHook",
    "StepScheduleHook",
    "TeacherEMAHook",
]
