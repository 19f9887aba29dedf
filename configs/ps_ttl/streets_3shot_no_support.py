# Release behaviour: the support set only fills the prototypes.
_base_ = "./streets_3shot.py"

model = dict(sup_weight=0.0)
train_cfg = dict(merge_support=False)
