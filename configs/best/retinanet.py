# The best recipe for a one-stage detector: the classes learn the teacher's scores at
# all locations instead of boxes above a threshold. Rows, rules and commands:
# docs/lab/heads.md. Not run yet.
_base_ = "../_base_/experiments/foggy_streets_heads.py"
from pld_mmdet.recipes.detection import from_config
from pld_mmdet.recipes.streets import retinanet

load_from, how_to_get = from_config("source/foggy_streets_retinanet")
model = dict(
    detector=dict(_delete_=True, **retinanet(_base_.model.detector)),
    hpl_threshold=0.25,
    soft_dense=dict(weight=4.0, region="sum"),
)
