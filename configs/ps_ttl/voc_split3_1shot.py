# PS-TTL, VOC split 3, 1 shot: the recipe that was released for split 1.
_base_ = "./voc_split1_1shot.py"
from pld_mmdet.recipes import few_shot

stem, base_classes, novel_classes, classes = few_shot.voc(3)
test_file = stem + "_test.json"
load_from, how_to_get, *_changes = few_shot.online_voc(3)
train_dataloader, test_dataloader, test_evaluator, train_cfg = _changes
