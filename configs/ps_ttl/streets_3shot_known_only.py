# Self-training on known boxes alone: no soft labels (ablation).
_base_ = "./streets_3shot.py"

model = dict(unknown_threshold=0.5)
