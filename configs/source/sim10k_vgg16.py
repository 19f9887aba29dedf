# The same source training with VGG16.
_base_ = "./sim10k.py"
from pld_mmdet.recipes.detectors import vgg16

model = vgg16(_base_.classes, _base_.model, pretrained=True)
