# The base detector on val's base classes (docs/lab/ps_ttl.md).
_base_ = "../defrcn/streets_stream_base.py"

val_file = _base_.stem + "_val_base.json"
test_dataloader = dict(dataset=dict(ann_file=val_file))
test_evaluator = dict(ann_file=_base_.data_root + val_file)
