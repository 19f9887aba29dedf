# Mean Teacher, Sim10k -> Cityscapes: as from KITTI, from another source.
_base_ = "./kitti_to_cityscapes.py"
from pld_mmdet.recipes.detection import from_config

load_from, how_to_get = from_config("source/sim10k")
