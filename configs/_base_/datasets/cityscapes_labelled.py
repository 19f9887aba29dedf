# Labelled clear images, for source training.
_base_ = "../metrics/boxes.py"
from pld_mmdet.recipes import class_names
from pld_mmdet.recipes.detection import at_test, coco, to_test, to_train

data_root = "data/cityscapes/"
classes = class_names.CITYSCAPES
scale = (1333, 600)
how_to_get = dict(
    data="put leftImg8bit and gtFine of Cityscapes into data/cityscapes, then: "
    "python tools/prepare.py cityscapes --root data/cityscapes"
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = at_test(scale)
train_dataloader = to_train(
    coco(data_root, "annotations/train.json", classes, train_pipeline)
)
val_dataloader = test_dataloader = to_test(
    data_root, "annotations/val.json", classes, test_pipeline
)
val_evaluator = test_evaluator = dict(
    type="pld_mmdet.AP50Metric", ann_file=data_root + "annotations/val.json"
)
