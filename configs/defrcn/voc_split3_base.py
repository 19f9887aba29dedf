# DeFRCN, base training on VOC split 3: as split 1, with other base classes.
_base_ = "./voc_split1_base.py"
from pld_mmdet.recipes import few_shot

stem, base_classes, novel_classes, _ = few_shot.voc(3)
classes = base_classes
how_to_get = dict(data=few_shot.voc_files(3))
train_dataloader, val_dataloader, val_evaluator = few_shot.voc_base(3)
test_dataloader, test_evaluator = val_dataloader, val_evaluator
