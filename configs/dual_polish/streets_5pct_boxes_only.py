# Ablation: boxes are polished, classes are selected by the score as in Soft Teacher.
_base_ = "./streets_5pct.py"

model = dict(polish_categories=False, rpn_threshold=0.9, cls_threshold=0.9)
