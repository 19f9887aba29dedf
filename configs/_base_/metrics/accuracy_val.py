# Val and test images are scored by accuracy, calibration error and likelihood.
val_evaluator = test_evaluator = dict(type="pld_mmdet.ClassificationMetric")
val_cfg = test_cfg = dict()
