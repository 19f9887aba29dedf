# The same source training with VGG16.
_base_ = "./voc.py"
from pld_mmdet.recipes.detection import vgg16

imagenet = dict(type="Pretrained", checkpoint="open-mmlab://vgg16_caffe")
model = vgg16(_base_.classes, _base_.model, imagenet)
