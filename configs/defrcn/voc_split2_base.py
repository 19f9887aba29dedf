# DeFRCN, base training on VOC split 2: as split 1, with other base classes.
_base_ = "./voc_split1_base.py"

stem = "annotations/fewshot/voc_split2"
classes = _base_.voc_split2_base
how_to_get = dict(
    data=(
        "unpack VOC 2007 (trainval, test) and 2012 (trainval) into data/VOCdevkit, "
        "then: python tools/make_fewshot.py voc --split 2 --shots 1 2 3 5 10"
    )
)
train_dataloader = dict(
    dataset=dict(
        dataset=dict(ann_file=stem + "_base.json", metainfo=dict(classes=classes))
    )
)
val_dataloader = test_dataloader = dict(
    dataset=dict(ann_file=stem + "_test_base.json", metainfo=dict(classes=classes))
)
val_evaluator = test_evaluator = dict(
    ann_file=_base_.data_root + stem + "_test_base.json"
)
