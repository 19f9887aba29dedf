# Ablation: the regression learns from boxes above 0.9 instead of steady ones.
_base_ = "./streets_5pct.py"

model = dict(reg_threshold=None)
