# That detector, evaluated in fog: what adaptation starts from.
_base_ = "./foggy_streets_cascade.py"

_val, _test = (f"annotations/{part}_foggy_beta_0.02.json" for part in ("val", "test"))
val_dataloader = dict(dataset=dict(ann_file=_val))
test_dataloader = dict(dataset=dict(ann_file=_test))
val_evaluator = dict(ann_file=_base_.data_root + _val)
test_evaluator = dict(ann_file=_base_.data_root + _test)
