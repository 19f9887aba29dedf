# AdaBN alone: the source detector with batch-norm statistics of 200 unlabelled foggy
# images. No weight is trained; seconds of work.
_base_ = "../_base_/recipes/sfod_streets.py"
from pld_mmdet.recipes.detection import without

model = dict(_delete_=True, **_base_.small_detector)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=_base_.scale, keep_ratio=True),
    _base_.pack,
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
train_cfg = dict(_delete_=True, type="pld_mmdet.AdaBNLoop", num_images=200)
custom_hooks = without(
    _base_.custom_hooks, "TeacherEMAHook", "AdaBNHook", "PseudoBoxHook"
)
