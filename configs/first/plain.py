# A student that is trained on the few labels, a quarter of them wrong.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]
from pld_mmdet.recipes import iterations, optimizer

student = dict(type="pld_mmdet.MLP", sizes=(64, 64, 10))
model = dict(type="pld_mmdet.Classifier", network=student)
train_dataloader = dict(dataset=dict(labelled=25, noise=0.25))
train_cfg = iterations(1000)
optim_wrapper = optimizer("Adam", lr=2e-3)
