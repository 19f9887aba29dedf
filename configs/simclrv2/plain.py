# The small network on the labels alone.
_base_ = "toy.py"

from pld_mmdet.recipes import loader, stage, staged

few = dict(type="pld_mmdet.Digits", part="train", labelled=3)
train_cfg = staged(
    stage("student", 300, data=loader(few, 30, train=True)), _delete_=True
)
