# DeFRCN, base training on COCO (configs/coco/defrcn_det_r101_base.yaml of commit
# d07c3dff): the 60 classes that VOC lacks. The authors split COCO 2014; this is 2017,
# the same images (their 5000 test images are val2017).
_base_ = "./voc_split1_base.py"
from pld_mmdet.recipes import class_names, drops, few_shot, warm_up
from pld_mmdet.recipes.detection import short_sides, train_set

data_root = "data/coco/"
stem = "annotations/fewshot/coco"
base_classes, novel_classes = class_names.COCO_BASE, class_names.COCO_NOVEL
classes = base_classes
how_to_get = dict(
    data="unpack COCO 2017 into data/coco (train2017, val2017, annotations), then: "
    "python tools/make_fewshot.py coco --shots 1 10"
)
train_pipeline = _base_.train_pipeline
train_pipeline[2] = short_sides(640)
model = dict(roi_head=dict(bbox_head=dict(num_classes=60)))
train_dataloader = train_set(
    **few_shot.listed(stem + "_base.json", classes),
    data_root=data_root,
    pipeline=train_pipeline,
)
val_dataloader = test_dataloader = dict(
    dataset=few_shot.listed(stem + "_test_base.json", classes, data_root=data_root)
)
val_evaluator = test_evaluator = dict(
    ann_file=data_root + stem + "_test_base.json",
    report="coco/AP50",
    paper_metric="coco/AP50",
    legacy_coordinates=False,
)

train_cfg = dict(max_iters=110000, val_interval=110000)
param_scheduler = [warm_up(0.001, 1000), drops(85000, 100000)]
