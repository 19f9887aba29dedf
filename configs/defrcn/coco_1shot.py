# DeFRCN, 1 shot of all 80 COCO classes (gFSOD); lambda 0.01. The papers' nAP is
# coco/AP_novel, COCO's mean over IoUs; the AP50 of all groups stands beside it.
_base_ = "./coco_base.py"
from pld_mmdet.recipes import drops

load_from = "work_dirs/defrcn/coco_base/all_classes.pth"
base_classes = _base_.classes
novel_classes = _base_.coco_novel
classes = tuple(base_classes) + novel_classes
how_to_get = dict(
    data=_base_.how_to_get.data,
    checkpoint=(
        "python tools/train.py configs/defrcn/coco_base.py && "
        "python tools/make_fewshot.py extend work_dirs/defrcn/coco_base/last.pth "
        "work_dirs/defrcn/coco_base/all_classes.pth "
        "--classes data/coco/annotations/fewshot/coco_1shot_seed0.json"
    ),
)
model = dict(
    roi_head=dict(
        shared_head=dict(type="pld_mmdet.FrozenResLayer"),
        bbox_roi_extractor=dict(gradient_scale=0.01),
        bbox_head=dict(
            num_classes=80,
            cls_predictor_cfg=dict(type="pld_mmdet.DropoutLinear", p=0.8),
        ),
    )
)
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            ann_file=_base_.stem + "_1shot_seed0.json", metainfo=dict(classes=classes)
        )
    )
)
val_dataloader = test_dataloader = dict(
    dataset=dict(ann_file=_base_.stem + "_test.json", metainfo=dict(classes=classes))
)
val_evaluator = test_evaluator = dict(
    type="pld_mmdet.GroupAP50Metric",
    ann_file=_base_.data_root + _base_.stem + "_test.json",
    groups=dict(base=list(base_classes), novel=list(novel_classes)),
    average=True,
    report="coco/AP",
    paper_metric="coco/AP",
)

train_cfg = dict(max_iters=3200, val_interval=3200)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [drops(2560)]
