# DeFRCN, 1 shot of all 20 classes of VOC split 3 (gFSOD), from the base detector whose
# box head was extended: lambda 0.001 towards the backbone, res5 frozen, dropout on the
# class branch.
_base_ = "./voc_split3_base.py"
from pld_mmdet.recipes import drops

load_from = "work_dirs/defrcn/voc_split3_base/all_classes.pth"
stem = "annotations/fewshot/voc_split3"
base_classes = _base_.voc_split3_base
novel_classes = _base_.voc_split3_novel
classes = base_classes + novel_classes
how_to_get = dict(
    data=_base_.how_to_get.data,
    checkpoint=(
        "python tools/train.py configs/defrcn/voc_split3_base.py && "
        "python tools/make_fewshot.py extend "
        "work_dirs/defrcn/voc_split3_base/last.pth "
        "work_dirs/defrcn/voc_split3_base/all_classes.pth "
        "--classes data/VOCdevkit/annotations/fewshot/voc_split3_1shot_seed0.json"
    ),
)
model = dict(
    roi_head=dict(
        shared_head=dict(type="pld_mmdet.FrozenResLayer"),
        bbox_roi_extractor=dict(gradient_scale=0.001),
        bbox_head=dict(
            num_classes=20,
            cls_predictor_cfg=dict(type="pld_mmdet.DropoutLinear", p=0.8),
        ),
    )
)

train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            ann_file=stem + "_1shot_seed0.json", metainfo=dict(classes=classes)
        )
    )
)
val_dataloader = test_dataloader = dict(
    dataset=dict(ann_file=stem + "_test.json", metainfo=dict(classes=classes))
)
val_evaluator = test_evaluator = dict(
    type="pld_mmdet.GroupAP50Metric",
    ann_file=_base_.data_root + stem + "_test.json",
    groups=dict(base=list(base_classes), novel=list(novel_classes)),
)

train_cfg = dict(max_iters=1000, val_interval=1000)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [drops(800)]
