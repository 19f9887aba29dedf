# The student as a plain MAE for three times as many epochs: time instead of a teacher.
_base_ = ["plain.py"]
from pld_mmdet.recipes import stage

train_cfg = dict(stages=[stage("distill", 60 * _base_.epoch)])
