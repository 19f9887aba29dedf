# The paper's own setting: the source's batch-norm statistics stay, there is no AdaBN.
_base_ = "./streets_clean.py"
from pld_mmdet.recipes.detection import without

custom_hooks = without(_base_.custom_hooks, "AdaBNHook")
