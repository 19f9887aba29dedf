# The labelled stage of weak_start.py alone.
_base_ = "./weak_start.py"

train_cfg = dict(stages=[_base_.labelled_first])
