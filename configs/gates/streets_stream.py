# The K-shot detector on val: its classes, and its boxes as labels (docs/lab/ps_ttl.md).
_base_ = "../defrcn/streets_stream_10shot.py"

val_file = _base_.stem + "_val.json"
test_dataloader = dict(dataset=dict(ann_file=val_file))
test_evaluator = [
    dict(_base_.test_evaluator, ann_file=_base_.data_root + val_file),
    dict(
        type="pld_mmdet.BoxQualityMetric",
        ann_file=_base_.data_root + val_file,
        thresholds=(0.5, 0.9),
    ),
]
