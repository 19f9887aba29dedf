# The same adaptation with VGG16.
_base_ = "./voc_to_watercolor.py"
from pld_mmdet.recipes.detection import from_config, vgg16

load_from, how_to_get = from_config("source/voc_vgg16")
model = dict(detector=vgg16(_base_.classes, _base_.model.detector))
