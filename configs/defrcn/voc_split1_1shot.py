# DeFRCN, 1 shot of all 20 classes of VOC split 1 (gFSOD), from the base detector whose
# box head was extended: lambda 0.001 towards the backbone, res5 frozen, dropout on the
# class branch.
_base_ = "./voc_split1_base.py"
from pld_mmdet.recipes import few_shot
from pld_mmdet.recipes.detection import train_set

stem, base_classes, novel_classes, classes = few_shot.voc(1)
load_from, _made = few_shot.extended(
    "defrcn/voc_split1_base", f"{_base_.data_root}{stem}_1shot_seed0.json"
)
how_to_get = dict(checkpoint=_made)
model = few_shot.frozen_c4(20, 0.001)
train_dataloader = train_set(**few_shot.listed(stem + "_1shot_seed0.json", classes))
val_dataloader = test_dataloader = dict(
    dataset=few_shot.listed(stem + "_test.json", classes)
)
val_evaluator = test_evaluator = dict(
    type="pld_mmdet.GroupAP50Metric",
    ann_file=_base_.data_root + stem + "_test.json",
    groups=few_shot.grouped(base_classes, novel_classes),
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
train_cfg, param_scheduler = few_shot.length(1000)
