# PS-TTL on FoggyStreets' clear test scenes, 5 shot(s).
_base_ = "./streets_3shot.py"
from pld_mmdet.recipes.few_shot import online_from

load_from, how_to_get, train_cfg = online_from("streets_5shot", _base_.stem)
