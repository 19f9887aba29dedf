# Labels alone, with the strong view's changes.
_base_ = "./streets_s_supervised.py"

labelled = _base_.labelled
labelled.pipeline = [
    _base_.load,
    dict(type="LoadAnnotations", with_bbox=True),
    *_base_.strong_view,
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1)),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(dataset=labelled))
