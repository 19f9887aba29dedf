# A small CNN on 30 labelled digits: cross-entropy and nothing else.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]
from pld_mmdet.recipes import optimizer

student = dict(type="pld_mmdet.SmallConvNet", widths=(16, 32))
model = dict(type="pld_mmdet.Classifier", network=student)
train_dataloader = dict(batch_size=30, dataset=dict(labelled=3))
train_cfg = dict(type="IterBasedTrainLoop", max_iters=600, val_interval=300)
optim_wrapper = optimizer("AdamW", 0.001)
walk = ["train_cfg.max_iters=2"]
