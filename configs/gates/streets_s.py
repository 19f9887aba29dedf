# How good the start's boxes are as labels, on val (docs/lab/soft_teacher.md).
_base_ = "../soft_teacher/streets_s_start.py"

test_dataloader = _base_.val_dataloader
test_evaluator = dict(
    _delete_=True,
    type="pld_mmdet.BoxQualityMetric",
    ann_file=_base_.data_root + "annotations/val.json",
    thresholds=(0.5, 0.9),
)
