# That detector, evaluated in fog: what adaptation starts from.
_base_ = "./foggy_streets_cascade.py"

val_dataloader = dict(dataset=dict(ann_file="annotations/val_foggy_beta_0.02.json"))
test_dataloader = dict(dataset=dict(ann_file="annotations/test_foggy_beta_0.02.json"))
val_evaluator = dict(ann_file=_base_.data_root + "annotations/val_foggy_beta_0.02.json")
test_evaluator = dict(
    ann_file=_base_.data_root + "annotations/test_foggy_beta_0.02.json"
)
