# The plain baseline: the warm-up alone, which sees clear streets only.
_base_ = "./toy.py"

train_cfg = dict(stages=[_base_.warm_up])
