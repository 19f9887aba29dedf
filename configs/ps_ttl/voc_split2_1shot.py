# PS-TTL, VOC split 2, 1 shot: the recipe that was released for split 1.
_base_ = "./voc_split1_1shot.py"

load_from = "work_dirs/defrcn/voc_split2_1shot/last.pth"
stem = "annotations/fewshot/voc_split2"
test_file = stem + "_test.json"
base_classes = _base_.voc_split2_base
novel_classes = _base_.voc_split2_novel
classes = base_classes + novel_classes
how_to_get = dict(
    data=(
        "unpack VOC 2007 (trainval, test) and 2012 (trainval) into data/VOCdevkit, "
        "then: python tools/make_fewshot.py voc --split 2 --shots 1 2 3 5 10"
    ),
    checkpoint="python tools/train.py configs/defrcn/voc_split2_1shot.py",
)
listed = dict(ann_file=test_file, metainfo=dict(classes=classes))
groups = dict(base=list(base_classes), novel=list(novel_classes))
train_dataloader = dict(dataset=dict(dataset=listed))
test_dataloader = dict(dataset=listed)
test_evaluator = dict(ann_file=_base_.data_root + test_file, groups=groups)
train_cfg = dict(
    score_dataloader=dict(dataset=dict(dataset=listed)),
    support_dataloader=dict(
        dataset=dict(
            dataset=dict(
                ann_file=stem + "_1shot_seed0.json", metainfo=dict(classes=classes)
            )
        )
    ),
    evaluator=test_evaluator,
)
