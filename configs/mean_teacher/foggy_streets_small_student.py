# Mean Teacher whose student sees the image at half to full size: objects that the
# teacher is sure of become the small ones that the student has to find.
_base_ = "./foggy_streets.py"

shrink = dict(
    type="RandomResize", scale=_base_.scale, ratio_range=(0.5, 1.0), keep_ratio=True
)
views = _base_.train_pipeline[-1]
views.strong = [shrink, *views.strong]
train_pipeline = [*_base_.train_pipeline[:-1], views]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
