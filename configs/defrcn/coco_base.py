# DeFRCN, base training on COCO (configs/coco/defrcn_det_r101_base.yaml of commit
# d07c3dff): the 60 classes that VOC lacks. The authors split COCO 2014; this is 2017,
# the same images (their 5000 test images are val2017).
_base_ = "./voc_split1_base.py"
from pld_mmdet.recipes import drops, warm_up

data_root = "data/coco/"
stem = "annotations/fewshot/coco"
classes = _base_.coco_base
how_to_get = dict(
    data=(
        "unpack COCO 2017 into data/coco (train2017, val2017, annotations), then: "
        "python tools/make_fewshot.py coco --shots 1 10"
    )
)
sides = range(640, 801, 32)
train_pipeline = _base_.train_pipeline
train_pipeline[2].scales = [(1333, side) for side in sides]
model = dict(roi_head=dict(bbox_head=dict(num_classes=60)))
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            data_root=data_root,
            ann_file=stem + "_base.json",
            metainfo=dict(classes=classes),
            pipeline=train_pipeline,
        )
    )
)
val_dataloader = test_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file=stem + "_test_base.json",
        metainfo=dict(classes=classes),
    )
)
val_evaluator = test_evaluator = dict(
    ann_file=data_root + stem + "_test_base.json",
    report="coco/AP50",
    paper_metric="coco/AP50",
    legacy_coordinates=False,
)

train_cfg = dict(max_iters=110000, val_interval=110000)
param_scheduler = [warm_up(0.001, 1000), drops(85000, 100000)]
