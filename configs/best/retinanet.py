# Mean Teacher on a one-stage detector, not better than AdaBN alone. Rows, rules,
# commands and what came out: docs/lab/heads.md.
_base_ = "../_base_/experiments/foggy_streets_heads.py"
from pld_mmdet.recipes.detection import from_config
from pld_mmdet.recipes.detectors import retinanet

load_from, how_to_get = from_config("source/foggy_streets_retinanet")
model = dict(
    detector=dict(_delete_=True, **retinanet(_base_.model.detector)),
    hpl_threshold=0.25,
)
