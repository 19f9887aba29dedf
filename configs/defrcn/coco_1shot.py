# DeFRCN, 1 shot of all 80 COCO classes (gFSOD); lambda 0.01. The papers' nAP is
# coco/AP_novel, COCO's mean over IoUs; the AP50 of all groups stands beside it.
_base_ = "./coco_base.py"
from pld_mmdet.recipes import few_shot
from pld_mmdet.recipes.detection import train_set

base_classes, novel_classes = _base_.base_classes, _base_.novel_classes
classes = tuple(base_classes) + tuple(novel_classes)
load_from, _made = few_shot.extended(
    "defrcn/coco_base", f"{_base_.data_root}{_base_.stem}_1shot_seed0.json"
)
how_to_get = dict(checkpoint=_made)
model = few_shot.frozen_c4(80, 0.01)
train_dataloader = train_set(
    **few_shot.listed(_base_.stem + "_1shot_seed0.json", classes)
)
val_dataloader, val_evaluator = few_shot.scored_in_groups(
    _base_.data_root, _base_.stem, base_classes, novel_classes
)
val_evaluator |= dict(average=True, report="coco/AP", paper_metric="coco/AP")
test_dataloader, test_evaluator = val_dataloader, val_evaluator
optim_wrapper = dict(optimizer=dict(lr=0.01))
train_cfg, param_scheduler = few_shot.length(3200)
