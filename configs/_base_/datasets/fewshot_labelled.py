# Labelled images of a few-shot benchmark, base classes of VOC split 1. The files come
# from tools/make_fewshot.py; their categories stand in the order of the labels.
_base_ = "../metrics/boxes.py"
from pld_mmdet.recipes import few_shot
from pld_mmdet.recipes.detection import at_test, coco, short_sides, to_test, to_train

data_root = "data/VOCdevkit/"
stem, base_classes, novel_classes, _ = few_shot.voc(1)
classes = base_classes
how_to_get = dict(data=few_shot.voc_files(1))
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    short_sides(480),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = at_test((1333, 800))
filled = dict(filter_cfg=dict(filter_empty_gt=True))
train_dataloader = to_train(
    coco(data_root, stem + "_base.json", classes, train_pipeline, **filled),
    16,  # on one GPU; with n GPUs 16 / n
    workers=4,
)
# VOC has no third part: this is the test set, looked at once, at the end.
val_dataloader = test_dataloader = to_test(
    data_root, stem + "_test_base.json", classes, test_pipeline
)
val_evaluator = test_evaluator = dict(
    type="pld_mmdet.AP50Metric",
    ann_file=data_root + stem + "_test_base.json",
    report="voc07/AP50",
    legacy_coordinates=True,
)
