# 3 shots of all 8 classes on FoggyStreets' clear scenes (6 base, 2 novel), from the
# base detector whose box head was extended. What makes features is frozen as in the
# release (there: most of the backbone, and res5): backbone, neck and the shared layers
# of the box head. SGD, whose steps are as small as lambda makes the gradient; AdamW's
# are not. Length, rate and dropout (released: 0.8 of 2048, here of 256) are not tuned.
_base_ = "./streets_base.py"
from pld_mmdet.recipes import few_shot
from pld_mmdet.recipes.detection import train_set

base_classes = _base_.classes
novel_classes = ("train", "motorcycle")
classes = tuple(base_classes) + novel_classes
load_from, _made = few_shot.extended(
    "defrcn/streets_base", f"{_base_.data_root}{_base_.stem}_3shot_seed0.json"
)
how_to_get = dict(checkpoint=_made)
model = dict(
    backbone=dict(frozen_stages=4, norm_eval=True),
    neck=dict(type="pld_mmdet.FrozenFPN"),
    roi_head=dict(
        bbox_roi_extractor=dict(gradient_scale=0.001),
        bbox_head=dict(
            type="pld_mmdet.FrozenShared2FCBBoxHead",
            num_classes=8,
            cls_predictor_cfg=dict(type="pld_mmdet.DropoutLinear", p=0.5),
        ),
    ),
)
train_dataloader = train_set(
    **few_shot.listed(_base_.stem + "_3shot_seed0.json", classes)
)
val_dataloader, val_evaluator = few_shot.scored_in_groups(
    _base_.data_root, _base_.stem, base_classes, novel_classes
)
test_dataloader, test_evaluator = val_dataloader, val_evaluator

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="SGD", lr=0.01, momentum=0.9, weight_decay=5e-5)
)
train_cfg, param_scheduler = few_shot.length(150)
