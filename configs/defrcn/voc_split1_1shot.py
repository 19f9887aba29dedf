# DeFRCN, 1 shot of all 20 classes of VOC split 1 (gFSOD), from the base detector whose
# box head was extended: lambda 0.001 towards the backbone, res5 frozen, dropout on the
# class branch.
_base_ = "./voc_split1_base.py"
from pld_mmdet.recipes import few_shot

stem, base_classes, novel_classes, classes = few_shot.voc(1)
load_from, how_to_get, *_data = few_shot.voc_shots(1)
train_dataloader, val_dataloader, val_evaluator = _data
test_dataloader, test_evaluator = val_dataloader, val_evaluator
model = few_shot.frozen_c4(20, 0.001)
optim_wrapper = dict(optimizer=dict(lr=0.01))
train_cfg, param_scheduler = few_shot.length(1000)
