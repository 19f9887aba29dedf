# AGMM on clear streets, 64 x 128, with one annotated pixel of each class in each of 320
# scenes. The network's 24 features before the classifier end in batch norm and ReLU, so
# that distances between them are comparable; `response` in the log is the mean answer
# of the mixture. Length, batch and rate are those of a small run.
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/streets_seg.py",
    "../_base_/models/segmentor_small.py",
]
from pld_mmdet.recipes import iterations, optimizer, poly
from pld_mmdet.recipes.segmentation import few_scenes, maps_table, pixelwise
from pld_mmdet.recipes.tables import row

model = dict(type="pld_mmdet.AGMM", segmentor=_base_.segmentor)
points = dict(type="pld_mmdet.KeepPoints", num_classes=7, count=1)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        dataset=dict(
            pipeline=[_base_.load, _base_.label, points, *_base_.weak, _base_.pack]
        )
    ),
)
train_cfg = iterations(200)
optim_wrapper = optimizer("AdamW", 5e-3, weight_decay=0.01)
param_scheduler = [poly(0.9, end=200)]
_no_mixture = ["model.gmm=0", "model.compact=0", "model.separate=0"]
experiment = maps_table(
    "agmm",
    row("points", "Cross-entropy on the points", "model.negative=0", *_no_mixture),
    row("negative", "... and absent classes (L_cls)", *_no_mixture),
    row("agmm", "AGMM, width fixed as released"),
    row("sigma", "AGMM, width estimated", "model.sigma=estimated"),
    row(
        "full",
        "Ceiling: all pixels annotated, cross-entropy",
        "train_dataloader.dataset.dataset.pipeline.2.count=None",
        "model.negative=0",
        *_no_mixture,
    ),
    pixelwise(thin=points),
    classes=("sky", "vehicle", "object"),
    reported="the network of the last iteration",
)
walk = [
    "train_cfg.max_iters=2",
    "train_cfg.val_interval=2",
    "train_dataloader.batch_size=2",
    *few_scenes("train_dataloader.dataset.dataset"),
    *few_scenes(),
]
