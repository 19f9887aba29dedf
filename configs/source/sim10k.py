# Source detector for Sim10k -> Cityscapes: cars of the game. Evaluated on Cityscapes,
# because the benchmark splits no part of Sim10k off.
_base_ = "./cityscapes.py"
from pld_mmdet.recipes.detection import moved

data_root = "data/sim10k/"
classes = ("car",)
expected_counts = dict(train=10000, val=500)
how_to_get = dict(
    data="python tools/prepare.py sim10k --root data/sim10k && "
    "python tools/prepare.py cityscapes --root data/cityscapes"
)
model = dict(roi_head=dict(bbox_head=dict(num_classes=1)))
train_dataloader, val_dataloader, val_evaluator = moved(
    classes, data_root, "data/cityscapes/", ann_file="annotations/train.json"
)
test_dataloader, test_evaluator = val_dataloader, val_evaluator
