# The student alone on 20 labels a class: cross-entropy and nothing else.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]
from pld_mmdet.recipes import optimizer

student = dict(type="pld_mmdet.MLP", sizes=(64, 16, 10))
model = dict(type="pld_mmdet.Classifier", network=student)
# 200 images in batches of 50: 4 iterations are an epoch, 400 are 100 of them.
train_dataloader = dict(batch_size=50, dataset=dict(labelled=20))
train_cfg = dict(type="IterBasedTrainLoop", max_iters=400, val_interval=200)
optim_wrapper = optimizer("Adam", 0.003)
walk = ["train_cfg.max_iters=2", "train_dataloader.batch_size=8"]
