# Mean Teacher that starts from the source's batch-norm statistics: what AdaBN is worth.
_base_ = "./foggy_streets.py"
from pld_mmdet.recipes.detection import without

custom_hooks = without(_base_.custom_hooks, "AdaBNHook")
