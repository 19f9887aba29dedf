# The student as a plain MAE: no teacher.
_base_ = ["toy.py"]
from pld_mmdet.recipes import stage

model = dict(alpha=0.0, teacher=None, teacher_decoder=None)
train_cfg = dict(stages=[stage("distill", 20 * _base_.epoch)])
