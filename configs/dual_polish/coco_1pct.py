# Dual polishing with 1 % of COCO's labels; all else as with 10 %.
_base_ = "./coco_10pct.py"

fold = "{{$FOLD:1}}"
labelled = _base_.labelled
labelled.ann_file = f"semi_anns/instances_train2017.{fold}@1.json"
unlabelled = _base_.unlabelled
unlabelled.ann_file = f"semi_anns/instances_train2017.{fold}@1-unlabeled.json"
train_dataloader = dict(dataset=dict(dataset=dict(datasets=[labelled, unlabelled])))
