# Cut-outs on real grounds (docs/data.md): labelled photographs. Other domains are other
# folders: cartoon, night, clipart.
_base_ = "../metrics/boxes.py"
from pld_mmdet.recipes import class_names
from pld_mmdet.recipes.cutouts import cutouts, cutouts_test
from pld_mmdet.recipes.detection import to_train

how_to_get = dict(data="python tools/prepare.py cutouts")
classes = class_names.CUTOUTS

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
train_dataloader = to_train(cutouts("photo", "train", train_pipeline), 8, workers=0)
train_dataloader["persistent_workers"] = False
val_dataloader, val_evaluator = cutouts_test("photo", "val")
test_dataloader, test_evaluator = cutouts_test("photo", "test")
