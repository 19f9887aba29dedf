# Test images are scored by accuracy, calibration error and likelihood.
test_evaluator = dict(type="pld_mmdet.ClassificationMetric")
test_cfg = dict()
