# DeFRCN, base training on VOC split 3: as split 1, with other base classes.
_base_ = "./voc_split1_base.py"
from pld_mmdet.recipes import few_shot
from pld_mmdet.recipes.detection import train_set

stem, base_classes, novel_classes, _ = few_shot.voc(3)
classes = base_classes
how_to_get = dict(data=few_shot.voc_files(3))
train_dataloader = train_set(**few_shot.listed(stem + "_base.json", classes))
val_dataloader = test_dataloader = dict(
    dataset=few_shot.listed(stem + "_test_base.json", classes)
)
val_evaluator = test_evaluator = dict(
    ann_file=_base_.data_root + stem + "_test_base.json"
)
