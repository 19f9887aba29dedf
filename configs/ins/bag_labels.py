# The plain row of toy.py: every instance learns its bag's label, for as many steps.
_base_ = "./toy.py"
from pld_mmdet.recipes import stage

train_cfg = dict(stages=[stage("bag_labels", 497)])
