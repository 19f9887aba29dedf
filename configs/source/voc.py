# Source detector for VOC -> Clipart1k and Watercolor2k: VOC 2007 and 2012 trainval.
_base_ = "./cityscapes.py"
from pld_mmdet.recipes import class_names
from pld_mmdet.recipes.detection import moved

data_root = "data/VOCdevkit/"
classes = class_names.VOC
expected_counts = dict(train=16551, val=4952)
how_to_get = dict(data="python tools/prepare.py voc --root data/VOCdevkit")
model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))
train_dataloader, val_dataloader, val_evaluator = moved(
    classes, data_root, tested="test.json", ann_file="annotations/train.json"
)
test_dataloader, test_evaluator = val_dataloader, val_evaluator
