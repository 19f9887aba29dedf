# The paper's own setting: the source's batch-norm statistics stay, there is no AdaBN.
_base_ = "./streets_clean.py"

custom_hooks = [h for h in _base_.custom_hooks if h.type != "pld_mmdet.AdaBNHook"]
