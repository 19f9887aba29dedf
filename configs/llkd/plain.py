# The student on the few labels that the teacher has.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]
from pld_mmdet.recipes import iterations, optimizer

student = dict(type="pld_mmdet.MLP", sizes=(64, 32, 10))
model = dict(type="pld_mmdet.Classifier", network=student)
train_dataloader = dict(dataset=dict(labelled=4))
train_cfg = iterations(400)
optim_wrapper = optimizer("Adam", lr=2e-3)
