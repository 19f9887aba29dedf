# Source detector for KITTI -> Cityscapes: cars. Evaluated on Cityscapes, because the
# benchmark splits no part of KITTI off.
_base_ = "./cityscapes.py"
from pld_mmdet.recipes.detection import moved

data_root = "data/kitti/"
classes = ("car",)
expected_counts = dict(train=7481, val=500)
how_to_get = dict(
    data="python tools/prepare.py kitti --root data/kitti && "
    "python tools/prepare.py cityscapes --root data/cityscapes"
)
model = dict(roi_head=dict(bbox_head=dict(num_classes=1)))
train_dataloader, val_dataloader, val_evaluator = moved(
    classes, data_root, "data/cityscapes/", ann_file="annotations/train.json"
)
test_dataloader, test_evaluator = val_dataloader, val_evaluator
