# LPLD, VOC -> Watercolor2k: a 20-class detector, of which 6 classes occur; the mean is
# over those.
_base_ = "./foggy_cityscapes.py"
from pld_mmdet.recipes import class_names
from pld_mmdet.recipes.detection import from_config, moved

data_root = "data/watercolor/"
classes = class_names.VOC
expected_counts = dict(train=1000, val=1000)
load_from, how_to_get = from_config("source/voc")
how_to_get["data"] = "python tools/prepare.py watercolor2k --root data/watercolor"
model = dict(detector=dict(roi_head=dict(bbox_head=dict(num_classes=20))))
train_dataloader, val_dataloader, val_evaluator = moved(
    classes,
    data_root,
    tested="test.json",
    files="data/watercolor/annotations/train_images.txt",
)
test_dataloader, test_evaluator = val_dataloader, val_evaluator
