# Mean Teacher, KITTI -> Cityscapes: cars only; one class always passes LPLD's
# certainty test.
_base_ = "./foggy_cityscapes.py"
from pld_mmdet.recipes.detection import from_config, moved

data_root = "data/cityscapes/"
classes = ("car",)
expected_counts = dict(train=2975, val=500)
load_from, how_to_get = from_config("source/kitti")
how_to_get["data"] = "python tools/prepare.py cityscapes --root data/cityscapes"
model = dict(detector=dict(roi_head=dict(bbox_head=dict(num_classes=1))))
train_dataloader, val_dataloader, val_evaluator = moved(
    classes, data_root, pattern="leftImg8bit/train/*/*_leftImg8bit.png"
)
test_dataloader, test_evaluator = val_dataloader, val_evaluator
