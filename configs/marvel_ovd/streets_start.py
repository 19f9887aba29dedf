# Where all rows start: the plain detector on the base boxes, from random weights.
_base_ = "./streets.py"
from pld_mmdet.recipes.detection import without
from pld_mmdet.recipes.streets import warmed_cosine

load_from = None
how_to_get = dict(checkpoint=None)
model = dict(_delete_=True, **_base_.detector)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        dataset=dict(
            base_only=True,
            pipeline=[
                dict(type="LoadImageFromFile"),
                dict(type="LoadAnnotations", with_bbox=True),
                dict(type="RandomFlip", prob=0.5),
                dict(type="PackDetInputs"),
            ],
        )
    ),
)
train_cfg = dict(max_iters=450, val_interval=450)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = warmed_cosine(450)
auto_scale_lr = dict(base_batch_size=4)
# there are no pseudo boxes
custom_hooks = without(_base_.custom_hooks, "PseudoBoxHook", "PseudoTruthHook")
