# The student as a plain MAE that also gets the teacher's epochs: more time instead of
# distillation.
_base_ = ["plain.py"]

train_cfg = dict(stages=[dict(name="distill", max_iters=30 * _base_.epoch)])
