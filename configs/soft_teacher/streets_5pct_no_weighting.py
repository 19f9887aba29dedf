# Ablation: background RoIs count as 1, whatever the teacher believes.
_base_ = "./streets_5pct.py"

model = dict(weigh_background=False)
