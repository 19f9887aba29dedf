# The labelled stage of released.py alone.
_base_ = "./released.py"

train_cfg = dict(stages=[_base_.labelled_first])
