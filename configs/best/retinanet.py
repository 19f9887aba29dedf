# Tried for a one-stage detector, and not better than AdaBN alone: the classes learn
# the teacher's scores at all locations instead of boxes above a threshold. Rows, rules,
# commands and what came out: docs/lab/heads.md.
_base_ = "../_base_/experiments/foggy_streets_heads.py"
from pld_mmdet.recipes.detection import from_config
from pld_mmdet.recipes.detectors import retinanet

load_from, how_to_get = from_config("source/foggy_streets_retinanet")
model = dict(
    detector=dict(_delete_=True, **retinanet(_base_.model.detector)),
    hpl_threshold=0.25,
    soft_dense=dict(weight=4.0, region="sum"),
)
