# The first stage alone: a network of clear streets, tested in fog.
_base_ = "./clear_to_fog.py"

train_cfg = dict(stages=[_base_.source_first])
