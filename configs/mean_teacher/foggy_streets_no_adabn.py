# Mean Teacher that starts from the source's batch-norm statistics: what AdaBN is worth.
_base_ = "./foggy_streets.py"

custom_hooks = [h for h in _base_.custom_hooks if h.type != "pld_mmdet.AdaBNHook"]
