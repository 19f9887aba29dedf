# The second half of toy.py alone: the teacher is the student of a checkpoint of
# further.py (load_from), which also holds the MAE to go back to.
_base_ = ["./toy.py"]

train_cfg = dict(stages=_base_.train_cfg.stages[2:])
