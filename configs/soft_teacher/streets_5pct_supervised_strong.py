# The rival that is easily forgotten: only labels, but with the strong view's changes.
_base_ = "./streets_5pct_supervised.py"

strong_labelled = _base_.labelled
strong_labelled.pipeline = [
    _base_.load,
    dict(type="LoadAnnotations", with_bbox=True),
    _base_.resize,
    *_base_.strong_view,
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1)),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(dataset=strong_labelled))
