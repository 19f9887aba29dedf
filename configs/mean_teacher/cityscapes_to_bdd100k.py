# Mean Teacher, Cityscapes -> BDD100k daytime: the detector has 8 classes, of which 7
# occur in the annotations (trains are left out, as in the papers); the mean is over
# those.
_base_ = "./foggy_cityscapes.py"
from pld_mmdet.recipes.detection import from_config, moved

data_root = "data/bdd100k/"
classes = _base_.classes
expected_counts = dict(train=36728, val=5258)
load_from, how_to_get = from_config("source/cityscapes")
how_to_get["data"] = "python tools/prepare.py bdd100k --root data/bdd100k"
model = dict(detector=dict(roi_head=dict(bbox_head=dict(num_classes=8))))
train_dataloader, val_dataloader, val_evaluator = moved(
    classes,
    data_root,
    tested="val_daytime.json",
    files="data/bdd100k/annotations/train_daytime_images.txt",
)
test_dataloader, test_evaluator = val_dataloader, val_evaluator
