"""Policy over iterations, one hook a file. Importing this package registers them."""

from pld_mmdet.engine.hooks.kept_samples import KeptSamplesHook
from pld_mmdet.engine.hooks.progress import ProgressHook
from pld_mmdet.engine.hooks.run_record import RunRecordHook
from pld_mmdet.engine.hooks.safe_checkpoint import SafeCheckpointHook
from pld_mmdet.engine.hooks.seed import IterationSeedHook
from pld_mmdet.engine.hooks.step_schedule import StepScheduleHook
from pld_mmdet.engine.hooks.teacher_ema import RampedEMAHook, TeacherEMAHook

__all__ = [
    "IterationSeedHook",
    "KeptSamplesHook",
    "ProgressHook",
    "RampedEMAHook",
    "RunRecordHook",
    "SafeCheckpointHook",
    "StepScheduleHook",
    "TeacherEMAHook",
]
