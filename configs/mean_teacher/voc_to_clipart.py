# Mean Teacher, VOC -> Clipart1k: 20 classes, 500 images to adapt to, 500 to test on.
_base_ = "./foggy_cityscapes.py"
from pld_mmdet.recipes import class_names
from pld_mmdet.recipes.detection import from_config, moved

data_root = "data/clipart/"
classes = class_names.VOC
expected_counts = dict(train=500, val=500)
load_from, how_to_get = from_config("source/voc")
how_to_get["data"] = "python tools/prepare.py clipart1k --root data/clipart"
model = dict(detector=dict(roi_head=dict(bbox_head=dict(num_classes=20))))
train_dataloader, val_dataloader, val_evaluator = moved(
    classes,
    data_root,
    tested="test.json",
    files="data/clipart/annotations/train_images.txt",
)
test_dataloader, test_evaluator = val_dataloader, val_evaluator
