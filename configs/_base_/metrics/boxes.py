# Detections of val and test images are scored.
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
