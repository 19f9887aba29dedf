# The student as a plain MAE for three times as many epochs: time instead of a teacher.
_base_ = ["plain.py"]

train_cfg = dict(stages=[dict(name="distill", max_iters=60 * _base_.epoch)])
