# DeFRCN, 1 shot of all 20 classes of VOC split 3 (gFSOD): as split 1, from its own base
# detector.
_base_ = "./voc_split1_1shot.py"
from pld_mmdet.recipes import few_shot

stem, base_classes, novel_classes, classes = few_shot.voc(3)
load_from, how_to_get, *_data = few_shot.voc_shots(3)
train_dataloader, val_dataloader, val_evaluator = _data
test_dataloader, test_evaluator = val_dataloader, val_evaluator
