# PS-TTL, VOC split 2, 1 shot: the recipe that was released for split 1.
_base_ = "./voc_split1_1shot.py"
from pld_mmdet.recipes import few_shot
from pld_mmdet.recipes.detection import train_set

stem, base_classes, novel_classes, classes = few_shot.voc(2)
test_file = stem + "_test.json"
load_from, how_to_get, _few = few_shot.online_from(
    "voc_split2_1shot", **few_shot.listed(stem + "_1shot_seed0.json", classes)
)
how_to_get["data"] = few_shot.voc_files(2)
listed = few_shot.listed(test_file, classes)
train_dataloader = train_set(**listed)
test_dataloader = dict(dataset=listed)
test_evaluator = dict(
    ann_file=_base_.data_root + test_file,
    groups=few_shot.grouped(base_classes, novel_classes),
)
train_cfg = dict(score_dataloader=train_set(**listed), **_few, evaluator=test_evaluator)
