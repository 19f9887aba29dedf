# A small CNN on 400 digits of which every fifth has a wrong label: cross-entropy.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]
from pld_mmdet.recipes import optimizer

network = dict(type="pld_mmdet.SmallConvNet", widths=(16, 32))
model = dict(type="pld_mmdet.Classifier", network=network)
# 400 images in batches of 50: 8 iterations are an epoch, 800 are 100 of them.
train_dataloader = dict(batch_size=50, dataset=dict(labelled=40, noise=0.2))
train_cfg = dict(type="IterBasedTrainLoop", max_iters=800, val_interval=400)
optim_wrapper = optimizer("Adam", 0.001)
walk = ["train_cfg.max_iters=2", "train_dataloader.dataset.labelled=2"]
