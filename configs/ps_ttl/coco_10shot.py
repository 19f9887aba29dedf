# PS-TTL on COCO, 10 shots of all 80 classes.
_base_ = "./coco_1shot.py"
from pld_mmdet.recipes.few_shot import online_from

load_from, how_to_get, train_cfg = online_from("coco_10shot", _base_.stem)
