# LPLD on the strong view of configs/best: colour, grey and blur, no erased rectangles.
_base_ = "./foggy_streets.py"

views = _base_.train_pipeline[-1]
views.strong = [t for t in views.strong if t.type != "pld_mmdet.RandomEraseNoise"]
train_pipeline = [*_base_.train_pipeline[:-1], views]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
