# The student as a plain MAE: no teacher.
_base_ = ["toy.py"]

model = dict(alpha=0.0, teacher=None, teacher_decoder=None)
train_cfg = dict(stages=[dict(name="distill", max_iters=20 * _base_.epoch)])
