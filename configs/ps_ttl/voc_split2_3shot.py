# PS-TTL, VOC split 2, 3 shots: the recipe that was released for split 1, 1 shot.
_base_ = "./voc_split2_1shot.py"
from pld_mmdet.recipes.few_shot import online_from

load_from, how_to_get, train_cfg = online_from("voc_split2_3shot", _base_.stem)
