# Eight Gaussians on a circle, generated; val and test are other points of them.
_base_ = []
from pld_mmdet.recipes import loader

train_dataloader = loader(
    dict(type="pld_mmdet.GaussianRing", part="train", size=16384), 512, train=True
)
val_dataloader = loader(
    dict(type="pld_mmdet.GaussianRing", part="val", size=2048), 2048
)
test_dataloader = loader(
    dict(type="pld_mmdet.GaussianRing", part="test", size=8192), 8192
)
val_evaluator = test_evaluator = dict(type="pld_mmdet.EnergyDistance")
val_cfg = test_cfg = dict()
