# The same adaptation with VGG16.
_base_ = "./foggy_cityscapes.py"
from pld_mmdet.recipes.detectors import on_vgg16

load_from, how_to_get, model = on_vgg16(_base_, "cityscapes")
