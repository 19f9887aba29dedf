# Ablation: classes are polished, boxes are selected by jitter as in Soft Teacher's row.
_base_ = "./streets_5pct.py"

model = dict(polish_boxes=False, reg_threshold=0.04)
